# One image for every process of rater; the command says which: docker-compose.yml, deploy/kubernetes.
#
#   docker build --tag rater:0.1.0 .
#
# The base is pinned by version. Where you build for production pin its digest too (FROM python:...@sha256:...): whoever wrote this
# had no registry at hand to read it from.
FROM python:3.13.9-slim-trixie AS build

ENV PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_NO_CACHE_DIR=1
WORKDIR /src
RUN python -m venv /opt/rater
# The dependencies first, by hash: they change less often than rater does.
COPY requirements-image.lock ./
RUN /opt/rater/bin/pip install --require-hashes --requirement requirements-image.lock
COPY pyproject.toml README.md LICENSE ./
COPY rates ./rates
COPY rater ./rater
# Layers keep whole seconds, and machine code is known by when its source was written: what `rater warm-up` compiles below would be compiled
# again at the first start of an image that was pulled.
RUN /opt/rater/bin/pip install --no-deps --no-build-isolation . \
    && python -c "import os, pathlib; [os.utime(p, (int(p.stat().st_mtime),) * 2) for p in pathlib.Path('/opt/rater').rglob('*.py')]"


FROM python:3.13.9-slim-trixie

LABEL org.opencontainers.image.title="rater" \
      org.opencontainers.image.description="An open telecom call-rating engine" \
      org.opencontainers.image.licenses="Apache-2.0"
# A number and not a name in USER below: Kubernetes can see that it is not root.
RUN groupadd --gid 10001 rater \
    && useradd --uid 10001 --gid 10001 --home-dir /var/lib/rater --no-create-home --shell /usr/sbin/nologin rater \
    && install --directory --owner=10001 --group=10001 --mode=0750 \
        /var/cache/rater /var/lib/rater /var/lib/rater-history /var/lib/rater-internal
COPY --from=build /opt/rater /opt/rater
COPY --chmod=0755 ops/docker/healthcheck.py /usr/local/bin/healthcheck

ENV PATH=/opt/rater/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    RATER_CACHE_DIR=/var/cache/rater
USER 10001:10001
WORKDIR /var/lib/rater
# Machine code is for the processor that compiled it. On another kind a process compiles once, twenty seconds, at its first start.
RUN rater warm-up

EXPOSE 6066 6067 6068 6069 6070
STOPSIGNAL SIGTERM
# Of a worker; HEALTH_URL says where another process answers.
HEALTHCHECK --interval=15s --timeout=5s --start-period=90s --retries=3 CMD ["healthcheck"]
ENTRYPOINT ["rater"]
CMD ["--help"]
