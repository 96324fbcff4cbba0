# syntax=docker/dockerfile:1
# A worker, for CPU or CUDA. Build from the root of the repository:
#   docker build -f docker/worker.Dockerfile -t qpruner-worker --build-arg TORCH_INDEX_URL=<index of CPU builds> .
#   docker build -f docker/worker.Dockerfile -t qpruner-worker-cuda .
# The torch of the default index carries CUDA's libraries; the host brings the driver and the container toolkit.
ARG PYTHON_IMAGE=python:3.11-slim-bookworm

FROM ${PYTHON_IMAGE} AS build
# An index with CPU builds of torch: without it the image can use a GPU and is several GB larger.
ARG TORCH_INDEX_URL=""
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_EXTRA_INDEX_URL=${TORCH_INDEX_URL}
RUN python -m venv /opt/qpruner
ENV PATH=/opt/qpruner/bin:$PATH
WORKDIR /src
# Dependencies first: a change of the code does not install torch again.
COPY pyproject.toml constraints.txt docker/list_dependencies.py ./
RUN --mount=type=cache,target=/root/.cache/pip \
    python list_dependencies.py pyproject.toml > requirements.txt \
    && pip install -r requirements.txt -c constraints.txt
COPY README.md ./
COPY client client
COPY qpruner_core qpruner_core
COPY app app
COPY worker worker
COPY migrations migrations
RUN --mount=type=cache,target=/root/.cache/pip pip install --no-deps -c constraints.txt ./client .

FROM ${PYTHON_IMAGE}
# bitsandbytes links the system's OpenMP; the version is the base image's.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends libgomp1 \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --system --uid 10001 --user-group --home-dir /var/lib/qpruner --create-home qpruner
COPY --from=build /opt/qpruner /opt/qpruner
COPY docker/check_worker.py /opt/qpruner/check_worker.py
ENV PATH=/opt/qpruner/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility \
    QPRUNER_DATA_DIR=/var/lib/qpruner/data \
    QPRUNER_CACHE_DIR=/var/lib/qpruner/cache
USER 10001:10001
# Made by the user that owns it, so that a named volume mounted here is writable.
RUN mkdir -p /var/lib/qpruner/data /var/lib/qpruner/cache
WORKDIR /var/lib/qpruner
ENTRYPOINT ["qpruner"]
CMD ["worker"]
