#!/usr/bin/env bash
# The README's first command in a new environment. It builds the library as a user does, and with it the C++ tests.
. "$(dirname "$0")/common.sh"

# pip keeps the isolated environment of this build (--no-clean), under build/: .ci/python.sh uses it again, since
# another one, of another path, would compile everything anew.
install_and_demo() {
  rm -rf .ci-venv build/release build/isolated build/demo
  mkdir -p build/isolated
  TMPDIR=$PWD/build/isolated PIP_NO_CLEAN=1 readme install
}

# The linker keeps one copy of an inline function for everybody: if a unit of a wider instruction set offered one, the
# baseline might crash on an older processor. So these units define strong symbols only, and no other's.
isa_symbols() {
  local objects
  mapfile -t objects < <(find build/release -name 'kernel_avx*.o' -o -name 'kernel_amx*.o' | sort)
  if [[ $(uname -m) != x86_64 ]]; then
    echo "skipped: no such unit on $(uname -m)"
    return
  fi
  ((${#objects[@]} == 9)) || { echo "got ${#objects[@]} objects, expected 9"; return 1; }
  nm -C --defined-only --extern-only "${objects[@]}"
  ! nm -C "${objects[@]}" | grep -E ' [WVuv] '
}

step "README: install and demo" install_and_demo
step "the demo's report" test -s build/demo/netassay-report.json
step "symbols of the instruction-set units" isa_symbols
