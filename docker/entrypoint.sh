#!/bin/sh
# What a container of Heft's image runs.
#   a program and its arguments   that program: Kubeflow and Vertex name `python -m tfx…` themselves
#   options alone                 Beam's worker: runners start it as `--id=… --provision_endpoint=…`,
#                                 or as `--worker_pool`
#   anything else                 `heft`
set -eu

case "${1:-}" in
    "" | --help | --version) exec heft "${1:---help}" ;;
    -*) exec /opt/apache/beam/boot "$@" ;;
esac
if command -v "$1" >/dev/null 2>&1; then
    exec "$@"
fi
exec heft "$@"
