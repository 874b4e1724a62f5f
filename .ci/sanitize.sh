#!/usr/bin/env bash
# ASan and UBSan, by GCC: the C++ tests, and the Python tests that call the core. From the same build, `cmake --install`
# and a C++ project that uses what it installs.
. "$(dirname "$0")/common.sh"
needs .ci-venv/bin/netassay build

install_and_consume() {
  rm -rf build/prefix
  cmake --install build/sanitize --component devel --prefix build/prefix
  consume install "$PWD/build/prefix"
}

# At --capture=fd a report would vanish with the process that it ends.
native_tests() { .ci/sanitized pytest -n auto --capture=sys -m native; }

step "tools" ensure tools
step "configure" configure sanitize -DNETASSAY_PYTHON=ON -DPython_EXECUTABLE="$PWD/.ci-venv/bin/python"
step "build" cmake --build --preset sanitize
step "C++ tests at every instruction set" cpp_tests sanitize
step "consumer of cmake --install" install_and_consume
step "what the tests need" ensure extras
step "native Python tests" native_tests
