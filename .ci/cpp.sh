#!/usr/bin/env bash
# The C++ tests of the README's build, and a C++ project that uses the wheel.
. "$(dirname "$0")/common.sh"
needs .ci-venv/bin/netassay build

step "tools" ensure tools
step "tests at every instruction set" cpp_tests release
step "consumer of the wheel" consume wheel "$(.ci-venv/bin/python -m netassay --cmake-dir)"
