#!/usr/bin/env bash
# Installs grpcurl into .tools/bin, once per pinned version. Without Go the tests
# that need it are skipped, which only CI takes for an error.
set -euo pipefail
cd "$(dirname "$0")/.."

# From 1.9.2 on a socket is unix://PATH; its option -unix is broken there.
version=v1.9.3
tools=$PWD/.tools
stamp=$tools/grpcurl-$version

if [[ -e $stamp && -x $tools/bin/grpcurl ]]; then
    exit 0
fi
if ! command -v go >/dev/null; then
    echo "grpcurl: go is not installed; tests that need grpcurl are skipped" >&2
    [[ ${CI:-} != true ]]
    exit
fi
echo "==> grpcurl $version (a few minutes, once)"
mkdir -p "$tools/bin"
# Sources and caches are of no use afterwards. Writable, so that they can go.
GOBIN=$tools/bin GOPATH=$tools/go GOCACHE=$tools/go/cache GOFLAGS=-modcacherw \
    go install "github.com/fullstorydev/grpcurl/cmd/grpcurl@$version"
rm -rf "$tools/go"
touch "$stamp"
