# cmake -DSOURCE=<root> -DTEMPLATE=... -DOUTPUT=... -P build_info.cmake, at every build: asks git for the commit and
# rewrites OUTPUT only if it changed. A source tree that is no git checkout (a tarball) is "unknown".
set(GIT_COMMIT unknown)
set(GIT_DIRTY false)
set(GIT_DIFF "")
find_program(GIT git)
if(GIT)
  execute_process(COMMAND ${GIT} -C ${SOURCE} rev-parse --show-toplevel OUTPUT_VARIABLE top
                  RESULT_VARIABLE failed ERROR_QUIET OUTPUT_STRIP_TRAILING_WHITESPACE)
  file(REAL_PATH ${SOURCE} source)
  # A tarball unpacked inside some other repository must not report that one's commit.
  if(NOT failed AND top STREQUAL source)
    execute_process(COMMAND ${GIT} -C ${SOURCE} rev-parse HEAD OUTPUT_VARIABLE commit
                    RESULT_VARIABLE failed ERROR_QUIET OUTPUT_STRIP_TRAILING_WHITESPACE)
    if(NOT failed)
      set(GIT_COMMIT ${commit})
      execute_process(COMMAND ${GIT} -C ${SOURCE} diff HEAD OUTPUT_VARIABLE difference ERROR_QUIET)
      if(difference)
        set(GIT_DIRTY true)
        string(SHA1 GIT_DIFF "${difference}")
      endif()
    endif()
  endif()
endif()
# They go into C++ string literals.
foreach(text COMPILER BUILD_TYPE FLAGS)
  string(REPLACE "\\" "\\\\" ${text} "${${text}}")
  string(REPLACE "\"" "\\\"" ${text} "${${text}}")
endforeach()
configure_file(${TEMPLATE} ${OUTPUT} @ONLY)
