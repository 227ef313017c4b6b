# syntax=docker/dockerfile:1
# Debian's etcd, for the chart's bundled store.
ARG BASE=docker.io/library/debian:bookworm-slim
FROM ${BASE}
LABEL org.opencontainers.image.title="vcstack-etcd" \
      org.opencontainers.image.description="etcd for VC Stack" \
      org.opencontainers.image.licenses="Apache-2.0"
RUN apt-get update \
 && apt-get install -y --no-install-recommends etcd-server etcd-client ca-certificates tini \
 && rm -rf /var/lib/apt/lists/* \
 && groupadd --gid 10001 vcstack \
 && useradd --uid 10001 --gid 10001 --home-dir /var/lib/etcd --no-create-home --shell /usr/sbin/nologin vcstack \
 && install -d -o 10001 -g 10001 -m 0700 /var/lib/etcd
ENV ETCDCTL_API=3
WORKDIR /var/lib/etcd
USER 10001:10001
EXPOSE 2379 2380
VOLUME ["/var/lib/etcd"]
STOPSIGNAL SIGTERM
# Where the chart puts the certificates; without them there is no server that could be asked.
HEALTHCHECK --interval=15s --timeout=6s --start-period=60s \
  CMD ["/usr/bin/etcdctl", "--endpoints=https://127.0.0.1:2379", "--cacert=/etc/etcd/tls/ca.crt", \
       "--cert=/etc/etcd/tls/tls.crt", "--key=/etc/etcd/tls/tls.key", "--command-timeout=4s", "endpoint", "health"]
ENTRYPOINT ["/usr/bin/tini", "-s", "--", "/usr/bin/etcd"]
