# syntax=docker/dockerfile:1
# vc-compute, the agent of a host, and what its chart runs before it (python -m vcstack.programs.kubernetes join).
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
LABEL org.opencontainers.image.title="vcstack-compute" \
      org.opencontainers.image.description="VC Stack: the agent of a host; libvirtd and Open vSwitch are the host's own" \
      org.opencontainers.image.licenses="Apache-2.0"
RUN apt-get update \
 && apt-get install -y --no-install-recommends python3 ca-certificates tini qemu-utils util-linux libvirt0 \
      libldap-2.5-0 libsasl2-2 \
 && rm -rf /var/lib/apt/lists/*
COPY --from=build /opt/vcstack /opt/vcstack
ENV PATH=/opt/vcstack/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
WORKDIR /var/lib/vcstack
# Root: taps need CAP_NET_ADMIN, and disks belong to QEMU's user. docs/helm.md says which capabilities it is given.
# hadolint ignore=DL3002
USER 0:0
STOPSIGNAL SIGTERM
# It is well once it has its certificate; an agent that has ended ends the container.
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s \
  CMD ["/usr/bin/test", "-s", "/var/lib/vcstack/pki/host.crt"]
ENTRYPOINT ["/usr/bin/tini", "-s", "--", "/opt/vcstack/bin/vc-compute"]
CMD ["--config", "/var/lib/vcstack/compute.yaml"]
