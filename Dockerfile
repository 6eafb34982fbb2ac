# polyb2 as one container: docker build -t polyb2 --build-arg VERSION=0.1.0 .
#
# Debian 13 brings the newest SQLite of the slim Python images, 3.46.1. It still has the WAL-reset bug that 3.51.3 mended
# (https://sqlite.org/wal.html), so polyb2 writes under its advisory lock, as on every older SQLite; doctor says so.

# A tag may move. Where the registry can be asked, name the content instead, and note the digest where you keep your settings:
#   docker buildx imagetools inspect python:3.13-slim-trixie       # prints Digest: sha256:...
#   docker build -t polyb2 --build-arg BASE=python:3.13-slim-trixie@sha256:... .
ARG BASE=python:3.13-slim-trixie

# hadolint ignore=DL3006 # the tag or digest is in BASE
FROM ${BASE} AS build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /src
COPY requirements/image.txt requirements/build.txt requirements/
# What is installed is what the locks name, by hash; what builds the wheel stays in this stage.
RUN python -m venv /opt/build \
    && python -m venv --without-pip /opt/polyb2 \
    && /opt/build/bin/pip install --no-deps --require-hashes -r requirements/build.txt \
    && /opt/build/bin/pip --python /opt/polyb2 install --no-compile --no-deps --require-hashes -r requirements/image.txt
COPY pyproject.toml README.md LICENSE ./
COPY src src
# botocore describes 400 services in 20 MB; only S3's description is ever read, and the files beside the folders.
RUN /opt/build/bin/pip wheel --no-deps --no-build-isolation --wheel-dir /dist . \
    && /opt/build/bin/pip --python /opt/polyb2 install --no-compile --no-deps /dist/polyb2-*.whl \
    && find /opt/polyb2/lib/python*/site-packages/botocore/data \
        -mindepth 1 -maxdepth 1 -type d ! -name s3 -exec rm -r {} + \
    && /opt/polyb2/bin/python -m compileall -q -j 0 --invalidation-mode unchecked-hash /opt/polyb2/lib
COPY deploy/image/healthcheck.py /opt/polyb2/
# A label that names another version than the program's would lie.
ARG VERSION=""
RUN test -z "$VERSION" || test "$(/opt/polyb2/bin/polyb2 --version)" = "polyb2 $VERSION"

# hadolint ignore=DL3006 # as above
FROM ${BASE}
ARG VERSION=""
LABEL org.opencontainers.image.title="polyb2" \
      org.opencontainers.image.description="Mirror Polygon.io (Massive) flat files into a Backblaze B2 bucket" \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.version="$VERSION"
COPY --from=build /opt/polyb2 /opt/polyb2
RUN install -d -o 10001 -g 10001 -m 0750 /data
# Nothing is written outside /data, so the root file system may be read-only. The working directory is /, so that the
# default DATABASE_URL, sqlite:///data/polyb2.db, means the same file. The demo puts its folder under TMPDIR.
ENV PATH=/opt/polyb2/bin:$PATH \
    DATABASE_URL=sqlite:////data/polyb2.db \
    HOME=/data \
    TMPDIR=/data \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
USER 10001:10001
WORKDIR /
VOLUME /data
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s --retries=3 \
    CMD ["python", "-I", "/opt/polyb2/healthcheck.py"]
ENTRYPOINT ["polyb2"]
CMD ["run", "--watch"]
