# syntax=docker/dockerfile:1
# The API, the migrations and the command line. Build from the root of the repository:
#   docker build -f docker/api.Dockerfile -t qpruner-api .
ARG PYTHON_IMAGE=python:3.11-slim-bookworm

FROM ${PYTHON_IMAGE} AS build
# An index with CPU builds of torch: the image is several GB smaller with it.
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
# The guide, which the API serves at /guide.
COPY docs docs
COPY zensical.toml ./
RUN --mount=type=cache,target=/root/.cache/pip \
    python -m venv /opt/docs \
    && /opt/docs/bin/pip install -c constraints.txt zensical \
    && /opt/docs/bin/zensical build --strict
RUN --mount=type=cache,target=/root/.cache/pip pip install --no-deps -c constraints.txt ./client .

FROM ${PYTHON_IMAGE}
# bitsandbytes links the system's OpenMP; the version is the base image's.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends libgomp1 \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --system --uid 10001 --user-group --home-dir /var/lib/qpruner --create-home qpruner
COPY --from=build /opt/qpruner /opt/qpruner
COPY docker/create_bucket.py /opt/qpruner/create_bucket.py
ENV PATH=/opt/qpruner/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    QPRUNER_DATA_DIR=/var/lib/qpruner/data \
    QPRUNER_CACHE_DIR=/var/lib/qpruner/cache \
    QPRUNER_HOST=0.0.0.0
USER 10001:10001
# Made by the user that owns it, so that a named volume mounted here is writable.
RUN mkdir -p /var/lib/qpruner/data /var/lib/qpruner/cache
WORKDIR /var/lib/qpruner
EXPOSE 8000
ENTRYPOINT ["qpruner"]
CMD ["serve", "--no-worker"]
