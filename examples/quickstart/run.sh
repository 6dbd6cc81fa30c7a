#!/bin/sh
# Builds the quickstart program where that has not been done, then becomes it, so
# that the supervised process is the program itself.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
source=$here/main.rs
out=$here/../../target/quickstart
program=$out/quickstart

if [ ! -x "$program" ] || [ -n "$(find "$source" -newer "$program")" ]; then
    echo "building $source, once" >&2
    mkdir -p "$out"
    # Processes that start together each build their own, and the move is atomic.
    build=$(mktemp -d "$out/build.XXXXXX")
    trap 'rm -rf "$build"' EXIT
    rustc --edition 2024 -O -o "$build/quickstart" "$source"
    mv "$build/quickstart" "$program"
    rm -rf "$build"
fi
exec "$program" "$@"
