#!/usr/bin/env bash
# Formatting, lint and types.
. "$(dirname "$0")/common.sh"
needs .ci-venv/bin/netassay build

step "tools" ensure tools
mapfile -t sources < <(find cpp tests -name '*.[ch]pp' | sort)
step "clang-format" clang-format --dry-run -Werror "${sources[@]}"
step "ruff check" ruff check .
step "ruff format" ruff format --check .
step "what the tests need" ensure extras
step "mypy" mypy --strict --python-executable .ci-venv/bin/python
