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

# NCCL: messages and sums between GPUs. It comes with CUDA, as a package or as a Python wheel's folder
# (then name it in CMAKE_PREFIX_PATH).
set(CHUNKSTATE_WITH_NCCL OFF)
if(CHUNKSTATE_WITH_CUDA AND NOT CHUNKSTATE_KERNELS_ONLY AND NOT CHUNKSTATE_NCCL STREQUAL "OFF")
  find_path(NCCL_INCLUDE_DIR nccl.h HINTS ${CUDAToolkit_INCLUDE_DIRS})
  find_library(NCCL_LIBRARY NAMES nccl libnccl.so.2 HINTS ${CUDAToolkit_LIBRARY_DIR})
  if(NCCL_INCLUDE_DIR AND NCCL_LIBRARY)
    set(CHUNKSTATE_WITH_NCCL ON)
    add_library(chunkstate_nccl INTERFACE)
    target_include_directories(chunkstate_nccl SYSTEM INTERFACE ${NCCL_INCLUDE_DIR})
    target_link_libraries(chunkstate_nccl INTERFACE ${NCCL_LIBRARY} CUDA::cudart_static)
    target_compile_definitions(chunkstate_nccl INTERFACE CHUNKSTATE_HAS_NCCL=1)
  elseif(CHUNKSTATE_NCCL STREQUAL "ON")
    message(FATAL_ERROR "CHUNKSTATE_NCCL=ON: nccl.h: ${NCCL_INCLUDE_DIR}, libnccl: ${NCCL_LIBRARY}, looked for "
                        "in ${CUDAToolkit_INCLUDE_DIRS}, ${CUDAToolkit_LIBRARY_DIR} and CMAKE_PREFIX_PATH")
  endif()
endif()
message(STATUS "GPU groups (NCCL): ${CHUNKSTATE_WITH_NCCL}")

# cuDNN and the headers of its frontend: attention of prompts on a GPU. AUTO takes them where both are
# found; ON insists. Each is looked for where CMake looks (CMAKE_PREFIX_PATH), beside CUDA, and in the
# wheels of the venv that cmake/install_packages.sh fills and of python3.
set(CHUNKSTATE_WITH_CUDNN OFF)
if(CHUNKSTATE_WITH_CUDA AND NOT CHUNKSTATE_CUDNN STREQUAL "OFF")
  foreach(python "${CHUNKSTATE_PYTHON}" "${CMAKE_SOURCE_DIR}/build/venv/bin/python" python3)
    set(found)
    if(python)
      execute_process(COMMAND ${python} -c "import sys; print(';'.join(p for p in sys.path if p.endswith('-packages')))"
        OUTPUT_VARIABLE found OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
    endif()
    list(APPEND python_packages ${found})
  endforeach()
  find_path(CUDNN_INCLUDE_DIR cudnn.h HINTS ${CUDAToolkit_INCLUDE_DIRS} PATHS ${python_packages}
    PATH_SUFFIXES nvidia/cudnn/include)
  find_library(CUDNN_LIBRARY NAMES cudnn libcudnn.so.9 HINTS ${CUDAToolkit_LIBRARY_DIR}
    PATHS ${python_packages} PATH_SUFFIXES nvidia/cudnn/lib)
  find_path(CUDNN_FRONTEND_INCLUDE_DIR cudnn_frontend.h PATHS ${python_packages} PATH_SUFFIXES include)
  set(cudnn_missing)
  if(NOT CUDNN_INCLUDE_DIR)
    list(APPEND cudnn_missing "cudnn.h")
  endif()
  if(NOT CUDNN_LIBRARY)
    list(APPEND cudnn_missing "libcudnn.so")
  endif()
  if(NOT CUDNN_FRONTEND_INCLUDE_DIR)
    list(APPEND cudnn_missing "cudnn_frontend.h (pip: nvidia-cudnn-frontend)")
  else()
    file(STRINGS ${CUDNN_FRONTEND_INCLUDE_DIR}/cudnn_frontend_version.h version REGEX "_(MAJOR|MINOR)_VERSION [0-9]+")
    string(REGEX REPLACE "[^0-9]*([0-9]+)[^0-9]+([0-9]+).*" "\\1.\\2" version "${version}")
    if(version VERSION_LESS 1.14)
      list(APPEND cudnn_missing "cudnn_frontend 1.14 (found ${version})")
    endif()
  endif()
  if(NOT TARGET CUDA::nvrtc)  # the frontend refers to it
    list(APPEND cudnn_missing "libnvrtc.so")
  endif()
  if(NOT cudnn_missing)
    set(CHUNKSTATE_WITH_CUDNN ON)
    message(STATUS "cuDNN attention: ON (${CUDNN_LIBRARY}, frontend ${version} in ${CUDNN_FRONTEND_INCLUDE_DIR})")
  elseif(CHUNKSTATE_CUDNN STREQUAL "ON")
    message(FATAL_ERROR "CHUNKSTATE_CUDNN=ON, but not found: ${cudnn_missing}")
  else()
    message(STATUS "cuDNN attention: OFF, not found: ${cudnn_missing}; our own kernel serves")
  endif()
endif()
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
