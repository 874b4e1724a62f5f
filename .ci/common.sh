# What the stages of .ci/run share; each begins with: . "$(dirname "$0")/common.sh"
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
exec </dev/null

stage=$(basename "$0" .sh)
state=build/ci # logs, locks, and the seconds of every step
mkdir -p "$state"

# The README's commands must find what they need themselves, so they run without our tools on the path.
export users_path=${users_path:-$PATH}
export PATH="$PWD/.ci-venv/bin:$PWD/.ci-tools/bin:$users_path"

step() { # step NAME COMMAND...
  local began=$SECONDS
  echo "$stage: $1" >"$state/current"
  printf '\n==== %s: %s\n' "$stage" "$1"
  "${@:2}"
  printf '%s\t%s\t%d\n' "$stage" "$1" $((SECONDS - began)) >>"$state/seconds"
}

needs() { # needs FILE STAGE: FILE comes from STAGE, which must have run before
  [[ -e $1 ]] || { echo "$stage: got no $1, expected it from '.ci/run $2'"; exit 1; }
}

# ensure NAME: gets what is not there yet. Whoever comes second waits for the first, so .ci/run starts the slow ones
# early, in the background, and the stage that needs one only waits for its rest, or tries once more.
ensure() {
  (
    flock 9
    "have_$1" || "get_$1" >"$state/$1.log" 2>&1 || { tail -40 "$state/$1.log"; exit 1; }
  ) 9>"$state/$1.lock"
}

have_tools() { [[ .ci-tools/ready -nt constraints.txt ]]; }
get_tools() {
  PATH=$users_path python3 -m venv .ci-tools &&
    .ci-tools/bin/pip install -q -c constraints.txt cmake ninja pybind11 cmeel-eigen clang-format ruff mypy &&
    touch .ci-tools/ready
}

# What the tests need beyond the README's first command, and the stubs that mypy looks for beside it.
have_extras() { [[ .ci-venv/ready -nt constraints.txt && .ci-venv/ready -nt pyproject.toml ]]; }
get_extras() { .ci-venv/bin/pip install -q -c constraints.txt "netassay[test]" pandas-stubs && touch .ci-venv/ready; }

# ThreadSanitizer and libFuzzer come with clang, from apt alone.
have_clang() {
  echo 'int main() {}' | clang++-19 -x c++ -fopenmp -fsanitize=thread - -o "$state/probe" >"$state/probe.log" 2>&1
}
get_clang() {
  ((EUID == 0)) && command -v apt-get && apt-get update -q &&
    DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends clang-19 libomp-19-dev libclang-rt-19-dev &&
    have_clang
}
# Skips the stage where clang cannot be had; where CI could have installed it, that is a failure.
ensure_clang_or_skip() {
  ensure clang && return
  if [[ ${CI:-} == true ]] && ((EUID == 0)); then return 1; fi
  printf '%s\tskipped: no clang\t0\n' "$stage" >>"$state/seconds"
  echo "$stage: skipped: no clang++-19 with its runtimes (Debian: clang-19 libomp-19-dev libclang-rt-19-dev)"
  exit 0
}

# The command that README.md has under the marker <!-- command: NAME -->, for CI's own environment and folder.
readme() {
  local command
  command=$(awk -v marker="<!-- command: $1 -->" '
    $0 == marker { found = 1; next }
    found && /^```$/ { exit }
    found && !/^```/ { print }' README.md |
    sed -e 's|\.venv|.ci-venv|g' -e 's|netassay demo|netassay demo -o build/demo|')
  [[ -n $command ]] || { echo "README.md has no command marked '$1'"; return 1; }
  echo "$command"
  # one build folder for both commands; it also gets the C++ tests. Warnings are errors here, not where a user builds
  PATH=$users_path SKBUILD_BUILD_DIR=build/release SKBUILD_CMAKE_DEFINE="NETASSAY_TESTS=ON;NETASSAY_WERROR=ON" \
    bash -euc "$command"
}

configure() { # configure PRESET [OPTION]...
  local site_packages
  site_packages=$(.ci-tools/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
  cmake --preset "$1" -DCMAKE_PREFIX_PATH="$site_packages" "${@:2}"
}

consume() { # consume NAME PREFIX: builds and runs the consumer against an installed netassay
  rm -rf "build/consume-$1"
  cmake -S tests/consume -B "build/consume-$1" -G Ninja -DCMAKE_BUILD_TYPE=Release -DCMAKE_PREFIX_PATH="$2"
  cmake --build "build/consume-$1"
  "build/consume-$1/consume"
}

# cpp_tests PRESET: all at the baseline, at the other levels those of what has kernels of that level. Where the processor
# ends sooner, test_kernel names what it skips.
cpp_tests() {
  local level only
  for level in baseline avx2 avx512 amx; do
    case $level in
      baseline) only=. ;;
      amx) only='kernel|moments|saturation' ;;
      *) only='complexity|deep|forest|kernel|moments|network|persistence|saturation|survey' ;;
    esac
    printf '%s: ' "$level"
    NETASSAY_ISA=$level UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1 \
      ctest --preset "$1" --verbose --parallel 2 --tests-regex "$only" >"$state/ctest-$1.log" ||
      { cat "$state/ctest-$1.log"; return 1; }
    grep -E '% tests passed|: skipped' "$state/ctest-$1.log"
  done
}
