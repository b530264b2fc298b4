#!/usr/bin/env bash
# Asks the advisory service of the Python package index about every version that is locked.
# Strict: a package that the service does not know is an error, since it was not audited.
set -euo pipefail
cd "$(dirname "$0")/.."

today=$(date +%F)
accepted=()
while read -r id until _; do
    case "$id" in "" | "#"*) continue ;; esac
    if [[ "$until" < "$today" ]]; then
        echo "$id was accepted until $until; see accepted-advisories.txt" >&2
    else
        accepted+=(--ignore-vuln "$id")
    fi
done < accepted-advisories.txt

for lock in requirements-image.lock requirements-gpu.lock requirements.lock; do
    echo "$lock"
    .tools/bin/pip-audit --strict --require-hashes --disable-pip --progress-spinner off \
        -r "$lock" "${accepted[@]}" "$@"
done
