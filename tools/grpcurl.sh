#!/usr/bin/env bash
# Installs grpcurl into .tools/bin, once per pinned version: the newest, and the last
# one in which `-unix` works (from 1.9.2 on a socket is unix://PATH). Without Go the
# tests that need them are skipped, which only CI takes for an error.
set -euo pipefail
cd "$(dirname "$0")/.."

newest=v1.9.3
unix=v1.9.1
tools=$PWD/.tools
bin=$tools/bin

# Whether VERSION is installed as NAME.
installed() {
    [[ -e $tools/grpcurl-$1 && -x $bin/$2 ]]
}

# Installs VERSION as NAME. Sources and caches are of no use once both are there;
# writable, so that they can go.
install() {
    local version=$1 name=$2
    installed "$version" "$name" && return
    echo "==> grpcurl $version (a few minutes, once)"
    GOBIN=$tools/go/bin GOPATH=$tools/go GOCACHE=$tools/go/cache GOFLAGS=-modcacherw \
        go install "github.com/fullstorydev/grpcurl/cmd/grpcurl@$version"
    mkdir -p "$bin"
    mv "$tools/go/bin/grpcurl" "$bin/$name"
    touch "$tools/grpcurl-$version"
}

if installed $newest grpcurl && installed $unix grpcurl-${unix#v}; then
    exit 0
fi
if ! command -v go >/dev/null; then
    echo "grpcurl: go is not installed; tests that need grpcurl are skipped" >&2
    [[ ${CI:-} != true ]]
    exit
fi
install $newest grpcurl
install $unix grpcurl-${unix#v}
rm -rf "$tools/go"
