# syntax=docker/dockerfile:1
# vc-management, and what its chart runs beside it (python -m vcstack.programs.kubernetes).
# Built by deploy/containers/build.sh, which demands the base by digest.
ARG BASE=docker.io/library/debian:bookworm-slim

FROM ${BASE} AS build
SHELL ["/bin/bash", "-euo", "pipefail", "-c"]
RUN apt-get update \
 && apt-get install -y --no-install-recommends python3 python3-venv python3-dev gcc libc6-dev pkg-config \
      libldap2-dev libsasl2-dev libvirt-dev \
 && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY requirements.lock pyproject.toml README.md ./
COPY deploy/containers/runtime_lock.py deploy/containers/runtime_lock.py
# Only what runs, by hash; setuptools first, for it builds what has no wheel.
RUN python3 -m venv /opt/vcstack \
 && python3 deploy/containers/runtime_lock.py setuptools > /tmp/build.lock \
 && python3 deploy/containers/runtime_lock.py > /tmp/runtime.lock \
 && /opt/vcstack/bin/pip install --no-cache-dir --require-hashes -r /tmp/build.lock \
 && /opt/vcstack/bin/pip install --no-cache-dir --require-hashes --no-build-isolation --use-pep517 -r /tmp/runtime.lock
COPY vcstack vcstack
RUN /opt/vcstack/bin/pip install --no-cache-dir --no-deps --no-build-isolation . \
 && /opt/vcstack/bin/pip uninstall -y setuptools pip

FROM ${BASE}
LABEL org.opencontainers.image.title="vcstack-management" \
      org.opencontainers.image.description="VC Stack: API, controllers and mirror" \
      org.opencontainers.image.licenses="Apache-2.0"
# libvirt0: the package is one, and its modules are the same in all images.
RUN apt-get update \
 && apt-get install -y --no-install-recommends python3 ca-certificates tini qemu-utils util-linux git gpg openssh-client \
      libldap-2.5-0 libsasl2-2 libvirt0 \
 && rm -rf /var/lib/apt/lists/* \
 && groupadd --gid 10001 vcstack \
 && useradd --uid 10001 --gid 10001 --home-dir /var/lib/vcstack --create-home --shell /usr/sbin/nologin vcstack
COPY --from=build /opt/vcstack /opt/vcstack
COPY deploy/containers/healthcheck.py /opt/vcstack/healthcheck.py
COPY console/dist /opt/vcstack/console
ENV PATH=/opt/vcstack/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
WORKDIR /var/lib/vcstack
USER 10001:10001
EXPOSE 8443
VOLUME ["/var/lib/vcstack"]
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=15s --timeout=10s --start-period=60s \
  CMD ["/opt/vcstack/bin/python", "-IS", "/opt/vcstack/healthcheck.py", "https://127.0.0.1:8443/healthz"]
ENTRYPOINT ["/usr/bin/tini", "-s", "--", "/opt/vcstack/bin/vc-management"]
CMD ["serve", "--config", "/var/lib/vcstack/management.yaml"]
