#!/usr/bin/env bash
# Builds the image with neither a Docker daemon nor a registry: scripts/image.sh TARGET FOLDER
#
# Buildah executes the Dockerfile as it is. The two images that it starts from are in a registry, so
# stand-ins for them are made from what Debian and the Go module proxy have:
#   BASE      Debian bookworm with its own Python 3.11
#   BEAM_SDK  Beam's `boot`, compiled from the Go module of the version that the Dockerfile names
# The image is then localhost/heft:TARGET in the storage under FOLDER; a second build is made on
# the same stand-ins.
set -euo pipefail
cd "$(dirname "$0")/.."
target="${1:?which target of the Dockerfile: cpu or gpu}"
folder="$(mkdir -p "${2:?where images are kept}" && cd "$2" && pwd)"

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

make_base() {
    mmdebstrap --quiet --variant=minbase \
        --include=ca-certificates,python3.11,python3.11-venv,libpython3.11-dev \
        --customize-hook='ln -s /usr/bin/python3.11 "$1/usr/local/bin/python"' \
        --customize-hook='copy-in /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs' \
        bookworm "$folder/base.tar"
    local container
    container=$(in_storage from scratch)
    in_storage add -q "$container" "$folder/base.tar" /
    in_storage config "${trusted[@]}" "$container"
    in_storage commit -q --rm "$container" localhost/heft-base
    rm "$folder/base.tar"
}

make_beam() {
    local version module container
    version=$(sed -n 's/^ARG BEAM_SDK=.*:\([0-9.]*\).*/\1/p' Dockerfile)
    module="github.com/apache/beam/sdks/v2@v$version"
    go mod download "$module"
    CGO_ENABLED=0 go build -C "$(go env GOMODCACHE)/$module" -o "$folder/boot" ./python/container
    container=$(in_storage from scratch)
    in_storage add -q "$container" "$folder/boot" /opt/apache/beam/boot
    in_storage commit -q --rm "$container" localhost/heft-beam
    rm "$folder/boot"
}

there heft-base || make_base
there heft-beam || make_beam

# What uv has downloaded before is its cache in the build as well.
mkdir -p "$folder/tmp/buildah-cache" "${UV_CACHE_DIR:=$HOME/.cache/uv}"
ln -sfn "$UV_CACHE_DIR" "$folder/tmp/buildah-cache/heft-uv"
TMPDIR="$folder/tmp" in_storage build -q --format docker --isolation oci --network host \
    --build-arg BASE=localhost/heft-base --build-arg BEAM_SDK=localhost/heft-beam \
    --build-arg REVISION="$(git rev-parse HEAD 2>/dev/null || echo unknown)" \
    --target "$target" -t "localhost/heft:$target" .
