# chunkstate_library(NAME SOURCES ... [CUDA_SOURCES ...] [LINK ...] [LINK_PRIVATE ...])
# chunkstate_test(NAME SOURCES ... LINK ... [MPI_RANKS n] [LABELS ...])
# One static library per folder; LINK names what its public headers may include.

add_library(chunkstate_options INTERFACE)
target_compile_features(chunkstate_options INTERFACE cxx_std_20)
target_include_directories(chunkstate_options INTERFACE ${CMAKE_SOURCE_DIR})
target_compile_options(chunkstate_options INTERFACE
  $<$<COMPILE_LANGUAGE:CXX>:-Wall -Wextra -Wshadow -Wnon-virtual-dtor -Wno-missing-field-initializers>)
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU" AND CMAKE_CXX_COMPILER_VERSION VERSION_LESS 13)
  # GCC 12 sees overlaps in `"a" + std::to_string(n)` that are not there (bug 105651).
  target_compile_options(chunkstate_options INTERFACE $<$<COMPILE_LANGUAGE:CXX>:-Wno-restrict>)
endif()
if(CHUNKSTATE_WERROR)
  target_compile_options(chunkstate_options INTERFACE $<$<COMPILE_LANGUAGE:CXX>:-Werror>)
endif()
if(CHUNKSTATE_SANITIZE)
  set(sanitize_flags -fsanitize=address,undefined -fno-sanitize-recover=undefined
                     -fno-omit-frame-pointer
                     -Wno-maybe-uninitialized)  # GCC 12's own std::regex, when instrumented
  target_compile_options(chunkstate_options INTERFACE $<$<COMPILE_LANGUAGE:CXX>:${sanitize_flags}>)
  target_link_options(chunkstate_options INTERFACE ${sanitize_flags})
endif()
target_compile_definitions(chunkstate_options INTERFACE
  CHUNKSTATE_HAS_CUDA=$<BOOL:${CHUNKSTATE_WITH_CUDA}>)

function(chunkstate_library name)
  cmake_parse_arguments(arg "" "" "SOURCES;CUDA_SOURCES;LINK;LINK_PRIVATE" ${ARGN})
  if(arg_UNPARSED_ARGUMENTS)
    message(FATAL_ERROR "chunkstate_library(${name}): unknown ${arg_UNPARSED_ARGUMENTS}")
  endif()
  add_library(${name} STATIC ${arg_SOURCES})
  target_link_libraries(${name} PUBLIC chunkstate_options ${arg_LINK} PRIVATE ${arg_LINK_PRIVATE})
  if(CHUNKSTATE_WITH_CUDA AND arg_CUDA_SOURCES)
    target_sources(${name} PRIVATE ${arg_CUDA_SOURCES})
    # CMake 3.25 silently drops CUDA_STANDARD 20 for nvcc, so the flag is passed by hand.
    # 554: nvcc warns of every conversion operator to const views that a kernel's arguments carry.
    target_compile_options(${name} PRIVATE
      $<$<COMPILE_LANGUAGE:CUDA>:-std=c++20 -lineinfo --expt-relaxed-constexpr -diag-suppress=554
                                 -Xcompiler=-Wall,-Wextra>)
  endif()
endfunction()

# What tests under mpiexec need of Open MPI, as variables: MPICH's mpiexec knows other options. It also
# leaks a little at exit, which the sanitized build must not count against the test. Passive: more threads than cores
# that spin for each other took core_split_mpi_test 200 s and more on a busy machine, 13 s asleep.
set(CHUNKSTATE_MPI_ENVIRONMENT
  OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMPI_MCA_rmaps_base_oversubscribe=1 OMP_WAIT_POLICY=passive
  ASAN_OPTIONS=detect_leaks=0)

function(chunkstate_test name)
  cmake_parse_arguments(arg "" "MPI_RANKS" "SOURCES;LINK;LABELS" ${ARGN})
  if(arg_UNPARSED_ARGUMENTS)
    message(FATAL_ERROR "chunkstate_test(${name}): unknown ${arg_UNPARSED_ARGUMENTS}")
  endif()
  add_executable(${name} ${arg_SOURCES})
  target_link_libraries(${name} PRIVATE ${arg_LINK} chunkstate_test_main)
  # Catch2 expands every assertion: optimised, tests compile three times as long and run no faster.
  target_compile_options(${name} PRIVATE $<$<COMPILE_LANGUAGE:CXX>:-O1>)
  target_compile_definitions(${name} PRIVATE
    CHUNKSTATE_SOURCE_DIR="${CMAKE_SOURCE_DIR}" CHUNKSTATE_BINARY_DIR="${CMAKE_BINARY_DIR}")
  if(arg_MPI_RANKS)
    add_test(NAME ${name}
      COMMAND ${MPIEXEC_EXECUTABLE} -n ${arg_MPI_RANKS} $<TARGET_FILE:${name}>)
    set_tests_properties(${name} PROPERTIES PROCESSORS 2 ENVIRONMENT "${CHUNKSTATE_MPI_ENVIRONMENT}")
  else()
    add_test(NAME ${name} COMMAND ${name})
  endif()
  set_tests_properties(${name} PROPERTIES LABELS "${arg_LABELS}" TIMEOUT 900)
endfunction()

# `cmake --build build/cpu --target tidy`: clang-tidy over the host sources.
find_program(CHUNKSTATE_RUN_CLANG_TIDY NAMES run-clang-tidy run-clang-tidy-14)
if(CHUNKSTATE_RUN_CLANG_TIDY)
  add_custom_target(tidy COMMAND ${CHUNKSTATE_RUN_CLANG_TIDY} -quiet -p ${CMAKE_BINARY_DIR}
    "${CMAKE_SOURCE_DIR}/(core|kernels|parallel|experiments)/.*" USES_TERMINAL)
endif()
