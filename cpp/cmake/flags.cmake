# Flags of our own targets. A wheel must run on every x86-64 machine of the last decade: baseline x86-64-v2, never
# -march=native; wider instruction sets are chosen at run time. -ffp-contract=off keeps results the same whatever the
# compiler could fuse.
function(netassay_flags target)
  target_compile_options(${target} PRIVATE -Wall -Wextra -Wpedantic -Wshadow -ffp-contract=off)
  if(NETASSAY_WERROR)
    target_compile_options(${target} PRIVATE -Werror)
  endif()
  if(CMAKE_SYSTEM_PROCESSOR MATCHES "^(x86_64|AMD64)$")
    target_compile_options(${target} PRIVATE -march=x86-64-v2)
  endif()
  if(NETASSAY_SANITIZE)
    # UBSan is for the core: in bindings there is no arithmetic, and their templates, as those of tests, take two to
    # three times as long under it.
    get_target_property(type ${target} TYPE)
    set(sanitizers ${NETASSAY_SANITIZE})
    if(NOT type STREQUAL STATIC_LIBRARY)
      string(REPLACE ",undefined" "" sanitizers ${sanitizers})
    endif()
    target_compile_options(${target} PRIVATE -fsanitize=${sanitizers} -fno-sanitize-recover=all
      -fno-omit-frame-pointer)
    if(CMAKE_CXX_COMPILER_ID STREQUAL GNU)
      # Between the checks that ASan adds, GCC takes members for uninitialized; the release build has that warning.
      target_compile_options(${target} PRIVATE -Wno-maybe-uninitialized)
    endif()
    target_link_options(${target} PUBLIC -fsanitize=${NETASSAY_SANITIZE})
  endif()
endfunction()

# Units for wider instruction sets (pairs of set and source), each compiled with its own flags and reached only through
# base/cpu. They may fuse multiply-adds: their results differ from the baseline's in rounding and not otherwise.
function(netassay_isa_units target)
  if(NOT CMAKE_SYSTEM_PROCESSOR MATCHES "^(x86_64|AMD64)$")
    return()
  endif()
  set(avx2 -mavx2 -mfma)
  set(avx512 ${avx2} -mavx512f -mavx512bw -mavx512dq -mavx512vl -mprefer-vector-width=512)
  set(amx ${avx512} -mamx-tile -mamx-bf16)
  set(quiet "")
  if(CMAKE_CXX_COMPILER_ID STREQUAL GNU)
    set(quiet -Wno-uninitialized -Wno-maybe-uninitialized)  # GCC 12 warns of its own intrinsics
  endif()
  while(ARGN)
    list(POP_FRONT ARGN set source)
    target_sources(${target} PRIVATE ${source})
    set_source_files_properties(${source} PROPERTIES COMPILE_OPTIONS "${${set}};-ffp-contract=fast;${quiet}")
  endwhile()
endfunction()
