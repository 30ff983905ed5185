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
