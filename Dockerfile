# The image of Heft: its pipeline's nodes on Kubeflow, Beam's Python workers, and `heft` by hand.
#
#   docker build --target cpu -t heft:cpu .
#   docker build --target gpu -t heft:gpu .
#
# docs/scale.md, "Image", says how it is run, and how it is built and tested without a daemon.

# The digest is that of the tag's index for all platforms. Move both together:
#   docker buildx imagetools inspect python:3.11-slim-bookworm
ARG BASE=python:3.11.16-slim-bookworm@sha256:a36c24f9cbdf4fd0f52d67f0823eeac19c2028c637cecc392d97f980d4fec56b
# Of the version of apache-beam in requirements.lock (a test says so). Append its digest here where
# your registry tells it; only the program `boot` is taken from it.
ARG BEAM_SDK=apache/beam_python3.11_sdk:2.77.0

FROM ${BEAM_SDK} AS beam

# --- the compiler and the build backends, which no later stage but those that build has
FROM ${BASE} AS tools
# pyfarmhash, which TensorFlow Data Validation needs, has no wheel.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends g++ \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /build

COPY requirements-tools.lock ./
RUN python -m venv /opt/tools \
    && /opt/tools/bin/pip install -q --no-cache-dir --no-deps --require-hashes -r requirements-tools.lock \
    && python -m venv --without-pip /opt/heft
ENV UV_LINK_MODE=copy UV_CACHE_DIR=/var/cache/uv VIRTUAL_ENV=/opt/heft

# --- the packages of the lock
FROM tools AS packages
COPY requirements-image.lock ./
RUN --mount=type=cache,id=heft-uv,target=/var/cache/uv \
    /opt/tools/bin/uv pip sync -q --require-hashes --compile-bytecode \
       --build-constraints requirements-tools.lock requirements-image.lock

RUN mkdir -p /usr/share/heft \
    && /opt/tools/bin/cyclonedx-py requirements requirements-image.lock --output-reproducible \
       --output-file /usr/share/heft/sbom.cdx.json

# --- Heft itself, in a layer of its own: a changed line leaves the gigabytes of packages as they are
FROM tools AS code
COPY pyproject.toml README.md LICENSE ./
COPY src ./src
COPY components ./components
COPY pipeline ./pipeline
COPY serving ./serving
RUN /opt/tools/bin/hatchling build -t wheel -d dist \
    && /opt/tools/bin/uv pip install -q --no-deps --no-index --compile-bytecode --target /opt/code dist/*.whl

# --- CUDA and cuDNN as TensorFlow's own extra `and-cuda` asks for them, hashed
FROM tools AS cuda
COPY requirements-gpu.lock ./
RUN --mount=type=cache,id=heft-uv,target=/var/cache/uv \
    /opt/tools/bin/uv pip install -q --no-deps --require-hashes --target /opt/cuda -r requirements-gpu.lock

# --- what both images have
FROM ${BASE} AS runtime
# A number, so that Kubernetes can see that it is not root.
RUN groupadd --gid 10001 heft \
    && useradd --uid 10001 --gid 10001 --home-dir /var/lib/heft --no-create-home --shell /usr/sbin/nologin heft \
    && install -d -o 10001 -g 10001 /var/lib/heft

COPY --from=beam /opt/apache/beam /opt/apache/beam
COPY --from=packages /usr/share/heft /usr/share/heft
COPY --from=packages /opt/heft /opt/heft
COPY --from=code /opt/code/bin/heft /opt/heft/bin/heft
COPY --from=code /opt/code /opt/heft/lib/python3.11/site-packages
COPY docker/entrypoint.sh /usr/local/bin/heft-entrypoint
COPY docker/health.py /usr/local/bin/heft-health

# RUN_PYTHON_SDK_IN_DEFAULT_ENVIRONMENT: Beam's `boot` would make an environment of its own from the
# system's Python, which has no Heft.
ENV PATH=/opt/heft/bin:$PATH \
    HOME=/var/lib/heft \
    PYTHONUNBUFFERED=1 \
    RUN_PYTHON_SDK_IN_DEFAULT_ENVIRONMENT=1

USER 10001:10001
WORKDIR /var/lib/heft
HEALTHCHECK --interval=30s --timeout=10s --start-period=120s --retries=3 CMD ["heft-health"]
ENTRYPOINT ["heft-entrypoint"]
CMD ["--help"]

# Last, as every commit has another.
ARG REVISION=unknown
LABEL org.opencontainers.image.title="heft" \
      org.opencontainers.image.description="Weighs training samples: a TFX pipeline for click and conversion models" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="0.1.0" \
      org.opencontainers.image.revision="${REVISION}"

FROM runtime AS gpu
ENV NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility
COPY --from=cuda /opt/cuda /opt/heft/lib/python3.11/site-packages

# The last stage is what a build without --target makes.
FROM runtime AS cpu
