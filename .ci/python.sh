#!/usr/bin/env bash
# The README's second command: what the tests need, and all Python tests.
. "$(dirname "$0")/common.sh"
needs .ci-venv/bin/netassay build

# The first command built in isolation, so a missing build requirement is found there. This one builds without, on what
# that isolated environment has (.ci-venv sees it behind all of its own), so that nothing is compiled again. For pip's
# variable, 0 is --no-build-isolation.
tests() {
  local isolated=("$PWD"/build/isolated/pip-build-env-*/*)
  printf '%s\n' "${isolated[@]/%//lib/$version/site-packages}" >".ci-venv/lib/$version/site-packages/isolated.pth"
  users_path=$(printf '%s/bin:' "${isolated[@]}")$users_path PIP_NO_BUILD_ISOLATION=0 readme test
}

version=$(.ci-venv/bin/python -c 'import sys; print("python%d.%d" % sys.version_info[:2])')
step "what the tests need" ensure extras
step "README: tests" tests
