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
    target_compile_options(${target} PRIVATE -fsanitize=${NETASSAY_SANITIZE} -fno-omit-frame-pointer)
    target_link_options(${target} PUBLIC -fsanitize=${NETASSAY_SANITIZE})
  endif()
endfunction()
