# syntax=docker/dockerfile:1
# Debian's OVN databases and northd, for the chart's bundled ones: one container each, told by its argument.
ARG BASE=docker.io/library/debian:bookworm-slim
FROM ${BASE}
LABEL org.opencontainers.image.title="vcstack-ovn" \
      org.opencontainers.image.description="OVN's northbound and southbound database and northd for VC Stack" \
      org.opencontainers.image.licenses="Apache-2.0"
RUN apt-get update \
 && apt-get install -y --no-install-recommends ovn-central ovn-common openvswitch-common tini \
 && rm -rf /var/lib/apt/lists/* \
 && groupadd --gid 10001 vcstack \
 && useradd --uid 10001 --gid 10001 --home-dir /var/lib/ovn --no-create-home --shell /usr/sbin/nologin vcstack \
 && install -d -o 10001 -g 10001 -m 0700 /var/lib/ovn \
 && install -d -o 10001 -g 10001 -m 0755 /run/ovn /var/log/ovn
COPY --chmod=0755 deploy/containers/ovn.sh /usr/local/bin/vcstack-ovn
WORKDIR /var/lib/ovn
USER 10001:10001
EXPOSE 6641 6642
VOLUME ["/var/lib/ovn"]
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=20s --timeout=6s --start-period=60s CMD ["/usr/local/bin/vcstack-ovn", "check"]
ENTRYPOINT ["/usr/bin/tini", "-s", "--", "/usr/local/bin/vcstack-ovn"]
