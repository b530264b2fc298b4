#!/usr/bin/env bash
# Builds the image with neither a Docker daemon nor a registry: scripts/image.sh TARGET FOLDER
# Removes all that it left there: scripts/image.sh clean FOLDER
#
# Buildah executes the Dockerfile as it is. The two images that it starts from are in a registry, so
# stand-ins for them are made from what Debian and the Go module proxy have:
#   BASE      Debian bookworm with its own Python 3.11
#   BEAM_SDK  Beam's `boot`, compiled from the Go module of the version that the Dockerfile names
# The image is then localhost/heft:TARGET in the storage under FOLDER.
set -euo pipefail
cd "$(dirname "$0")/.."
target="${1:?which target of the Dockerfile: cpu or gpu}"
folder="$(mkdir -p "${2:?where images are kept}" && cd "$2" && pwd)"

if [ "$target" = clean ]; then
    # Layers that are still mounted, the innermost first.
    awk -v below="$folder/" 'index($2, below) == 1 {print $2}' /proc/mounts | sort -r | xargs -r umount
    rm -rf "$folder"
    exit
fi

for tool in buildah mmdebstrap runc go; do
    command -v "$tool" >/dev/null || {
        echo "building the image needs $tool (Debian: buildah mmdebstrap runc; Go as Beam's go.mod has it)" >&2
        exit 2
    }
done
[ "$(id -u)" = 0 ] || { echo "building the image needs root: it makes a root file system" >&2; exit 2; }

in_storage() { buildah --root "$folder/storage" --runroot "$folder/run" --storage-driver overlay "$@"; }
there() { in_storage inspect --type image "localhost/$1" >/dev/null 2>&1; }

# Certificates of a registry's mirror, if this machine names any, are known inside as well.
trusted=()
for name in SSL_CERT_FILE PIP_CERT; do
    [ -z "${!name:-}" ] || trusted+=(--env "$name=/etc/ssl/certs/ca-certificates.crt")
done

# What stand-ins are made of is kept: the base for a week, so that Debian's fixes come in.
kept="${XDG_CACHE_HOME:-$HOME/.cache}/heft-image"
beam=$(sed -n 's/^ARG BEAM_SDK=.*:\([0-9.]*\).*/\1/p' Dockerfile)
base_tar="$kept/base-$(date +%G-%V).tar"
boot="$kept/boot-$beam"
mkdir -p "$kept"

fetch_base() {
    rm -f "$kept"/base-*.tar
    mmdebstrap --quiet --variant=minbase \
        --include=ca-certificates,python3.11,python3.11-venv,libpython3.11-dev \
        --customize-hook='ln -s /usr/bin/python3.11 "$1/usr/local/bin/python"' \
        --customize-hook='copy-in /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs' \
        bookworm "$folder/base.tar"
    mv "$folder/base.tar" "$base_tar"
}

fetch_boot() {
    local module="github.com/apache/beam/sdks/v2@v$beam"
    go mod download "$module"
    CGO_ENABLED=0 go build -C "$(go env GOMODCACHE)/$module" -o "$folder/boot" ./python/container
    mv "$folder/boot" "$boot"
}

# stand_in NAME FILE PLACE OPTIONS: an image of one file, or of what is in it if it is an archive.
stand_in() {
    local container
    container=$(in_storage from scratch)
    in_storage add -q "$container" "$2" "$3" >/dev/null
    in_storage config "${@:4}" "$container"
    in_storage commit -q --rm "$container" "localhost/$1"
}

if [ ! -f "$boot" ]; then fetch_boot & fi
[ -f "$base_tar" ] || fetch_base
wait
[ -f "$boot" ] || { echo "Beam's boot could not be built" >&2; exit 1; }
there heft-base || stand_in heft-base "$base_tar" / "${trusted[@]}"
there heft-beam || stand_in heft-beam "$boot" /opt/apache/beam/boot

# What uv has downloaded before is its cache in the build as well.
mkdir -p "$folder/tmp/buildah-cache" "${UV_CACHE_DIR:=$HOME/.cache/uv}"
ln -sfn "$UV_CACHE_DIR" "$folder/tmp/buildah-cache/heft-uv"
TMPDIR="$folder/tmp" in_storage build -q --format docker --isolation oci --network host \
    --build-arg BASE=localhost/heft-base --build-arg BEAM_SDK=localhost/heft-beam \
    --build-arg REVISION="$(git rev-parse HEAD 2>/dev/null || echo unknown)" \
    --target "$target" -t "localhost/heft:$target" .
# An image that this one took the name of.
in_storage rmi --prune >/dev/null 2>&1 || true
