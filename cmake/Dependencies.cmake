# Every library the project links, in one place. Packages are installed by cmake/install_packages.sh.

find_package(Threads REQUIRED)
if(NOT CHUNKSTATE_FUZZ)  # the fuzzed parsers need neither
find_package(OpenMP REQUIRED COMPONENTS CXX)
endif()
if(NOT CHUNKSTATE_KERNELS_ONLY)  # kernels/ itself needs only the two above and CUDA
if(NOT CHUNKSTATE_FUZZ)
find_package(MPI REQUIRED COMPONENTS CXX)
endif()
find_package(PkgConfig REQUIRED)
find_package(HDF5 REQUIRED COMPONENTS C HL)
find_package(yaml-cpp REQUIRED)
find_package(nlohmann_json REQUIRED)
find_package(CLI11 REQUIRED)
find_package(fmt REQUIRED)
find_package(simdjson REQUIRED)  # journals are read with it

# yaml-cpp 0.7 (Debian 12) exports `yaml-cpp`, 0.8 (Ubuntu 24.04) `yaml-cpp::yaml-cpp`.
if(NOT TARGET yaml-cpp::yaml-cpp)
  add_library(yaml-cpp::yaml-cpp ALIAS yaml-cpp)
endif()

add_library(chunkstate_hdf5 INTERFACE)
target_include_directories(chunkstate_hdf5 SYSTEM INTERFACE ${HDF5_C_INCLUDE_DIRS})
target_link_libraries(chunkstate_hdf5 INTERFACE ${HDF5_C_HL_LIBRARIES} ${HDF5_C_LIBRARIES})

# PCRE2: the split expression of a tokenizer.json.
find_path(PCRE2_INCLUDE_DIR pcre2.h REQUIRED)
find_library(PCRE2_LIBRARY pcre2-8 REQUIRED)
add_library(chunkstate_pcre2 INTERFACE)
target_include_directories(chunkstate_pcre2 SYSTEM INTERFACE ${PCRE2_INCLUDE_DIR})
target_link_libraries(chunkstate_pcre2 INTERFACE ${PCRE2_LIBRARY})

# xxHash, header only (XXH_INLINE_ALL): digests of files, items and results.
find_path(XXHASH_INCLUDE_DIR xxhash.h REQUIRED)
add_library(chunkstate_xxhash INTERFACE)
target_include_directories(chunkstate_xxhash SYSTEM INTERFACE ${XXHASH_INCLUDE_DIR})
target_compile_definitions(chunkstate_xxhash INTERFACE XXH_INLINE_ALL)

endif()

# CUDA: AUTO takes it when nvcc is there; ON insists.
set(CHUNKSTATE_WITH_CUDA OFF)
if(NOT CHUNKSTATE_CUDA STREQUAL "OFF")
  include(CheckLanguage)
  if(NOT CMAKE_CUDA_COMPILER AND EXISTS /usr/local/cuda/bin/nvcc)
    set(CMAKE_CUDA_COMPILER /usr/local/cuda/bin/nvcc)
  endif()
  check_language(CUDA)
  if(CMAKE_CUDA_COMPILER)
    if(NOT DEFINED CMAKE_CUDA_ARCHITECTURES)
      set(CMAKE_CUDA_ARCHITECTURES "80-real;90a-real;80-virtual")
    endif()
    enable_language(CUDA)
    find_package(CUDAToolkit REQUIRED)
    set(CHUNKSTATE_WITH_CUDA ON)
  elseif(CHUNKSTATE_CUDA STREQUAL "ON")
    message(FATAL_ERROR "CHUNKSTATE_CUDA=ON, but no CUDA compiler (nvcc) was found")
  endif()
endif()
message(STATUS "CUDA backend: ${CHUNKSTATE_WITH_CUDA}")

# The Python module (experiments/python), where the Python of the tests, or else the system's, has nanobind.
set(CHUNKSTATE_PYTHON "" CACHE FILEPATH
  "A Python with the packages of tests/requirements.txt; empty: tests that need it are skipped")
set(CHUNKSTATE_WITH_PYTHON OFF)
if(NOT CHUNKSTATE_KERNELS_ONLY AND NOT CHUNKSTATE_FUZZ AND NOT CHUNKSTATE_SANITIZE)
  if(CHUNKSTATE_PYTHON)
    set(Python_EXECUTABLE ${CHUNKSTATE_PYTHON})
  endif()
  find_package(Python 3.9 COMPONENTS Interpreter Development.Module QUIET)
  if(Python_Interpreter_FOUND AND Python_Development.Module_FOUND)
    execute_process(COMMAND ${Python_EXECUTABLE} -m nanobind --cmake_dir
      OUTPUT_VARIABLE nanobind_ROOT OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
    find_package(nanobind CONFIG QUIET)
    set(CHUNKSTATE_WITH_PYTHON ${nanobind_FOUND})
  endif()
endif()
message(STATUS "Python module: ${CHUNKSTATE_WITH_PYTHON}")
