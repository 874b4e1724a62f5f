#!/usr/bin/env bash
# Fuzzes the safetensors parser.
. "$(dirname "$0")/common.sh"

step "clang" ensure_clang_or_skip
step "the safetensors parser" tests/fuzz/run 20
