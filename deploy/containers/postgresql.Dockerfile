# syntax=docker/dockerfile:1
# Debian's PostgreSQL, for the chart's bundled mirror.
ARG BASE=docker.io/library/debian:bookworm-slim
FROM ${BASE}
LABEL org.opencontainers.image.title="vcstack-postgresql" \
      org.opencontainers.image.description="PostgreSQL for VC Stack's mirror" \
      org.opencontainers.image.licenses="PostgreSQL"
# The package would make a cluster of its own.
RUN mkdir -p /etc/postgresql-common \
 && echo "create_main_cluster = false" > /etc/postgresql-common/createcluster.conf \
 && apt-get update \
 && apt-get install -y --no-install-recommends postgresql-15 tini \
 && rm -rf /var/lib/apt/lists/* \
 && groupadd --gid 10001 vcstack \
 && useradd --uid 10001 --gid 10001 --home-dir /var/lib/postgresql --no-create-home --shell /usr/sbin/nologin vcstack \
 && install -d -o 10001 -g 10001 -m 0700 /var/lib/postgresql /run/postgresql
COPY --chmod=0755 deploy/containers/postgresql.sh /usr/local/bin/vcstack-postgresql
ENV PATH=/usr/lib/postgresql/15/bin:/usr/sbin:/usr/bin:/sbin:/bin
WORKDIR /var/lib/postgresql
USER 10001:10001
EXPOSE 5432
VOLUME ["/var/lib/postgresql"]
# A fast shutdown: sessions are ended, nothing is lost.
STOPSIGNAL SIGINT
HEALTHCHECK --interval=15s --timeout=6s --start-period=60s \
  CMD ["/usr/lib/postgresql/15/bin/pg_isready", "-q", "-h", "/run/postgresql", "-U", "vcstack"]
ENTRYPOINT ["/usr/bin/tini", "-s", "--", "/usr/local/bin/vcstack-postgresql"]
