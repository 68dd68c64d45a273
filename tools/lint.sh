#!/usr/bin/env bash
# Checks the style of all files git knows, and the types of mmkdna;
# `tools/lint.sh --fix` mends the style.
set -euo pipefail
cd "$(dirname "$0")/.."
mapfile -t files < <(git ls-files --cached --others --exclude-standard \
    '*.py')

if [ "${1:-}" = --fix ]; then
    yapf --in-place "${files[@]}"
    isort --quiet "${files[@]}"
    docformatter --wrap-descriptions 79 --in-place "${files[@]}" || true
fi
yapf --diff "${files[@]}"
isort --check-only --quiet "${files[@]}"
flake8 "${files[@]}"
mypy
docformatter --wrap-descriptions 79 --check "${files[@]}"
git ls-files --cached --others --exclude-standard | grep -v '^LICENSE$' |
    xargs codespell
