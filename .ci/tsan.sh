#!/usr/bin/env bash
# ThreadSanitizer, by clang: the C++ tests. A second compiler reads the library here, too.
. "$(dirname "$0")/common.sh"

step "clang" ensure_clang_or_skip
step "tools" ensure tools
step "configure" configure tsan
step "build" cmake --build --preset tsan
step "C++ tests" ctest --preset tsan --parallel 2
