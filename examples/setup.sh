#!/bin/sh
# Installs what Weft needs on Debian 12 (packages that are missing only) and builds it: sh examples/setup.sh BUILD_FOLDER [CMAKE OPTION …]
# Called by quickstart.sh and by tests/run.sh. Installing needs root, or sudo.
set -eu
top=$(cd "$(dirname "$0")/.." && pwd)
build=$1
shift

missing=
for package in gcc g++ libc6-dev cmake make pkg-config lua5.4 liblua5.4-dev libcjson-dev libstb-dev libpcre2-dev libutf8proc-dev zlib1g-dev; do
    dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing="$missing $package"
done
if [ -n "$missing" ]; then
    echo "Installing:$missing"
    if [ "$(id -u)" = 0 ]; then as_root=; else as_root=sudo; fi
    $as_root apt-get update -q
    # shellcheck disable=SC2086
    DEBIAN_FRONTEND=noninteractive $as_root apt-get install -y -q --no-install-recommends $missing
fi

sh "$top/examples/setup_vocabulary.sh" || echo "Going on without CLIP's vocabulary"

cmake -S "$top" -B "$build" "$@" >"$build.log" 2>&1 || { cat "$build.log"; exit 1; }
cmake --build "$build" --parallel "$(nproc)" >>"$build.log" 2>&1 || { tail -n 60 "$build.log"; exit 1; }
rm -f "$build.log"
