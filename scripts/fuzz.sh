#!/bin/sh
# Runs every fuzz target for a time: scripts/fuzz.sh [TIME], 20s by default.
set -eu
cd "$(dirname "$0")/.."
time=${1:-20s}
for package in $(go list ./...); do
    for target in $(go test -list '^Fuzz' "$package" | grep '^Fuzz' || true); do
        echo "== $package $target"
        go test -run '^$' -fuzz "^$target\$" -fuzztime "$time" "$package"
    done
done
