#!/bin/bash
# Builds the images with Docker, Podman or Buildah.
#
#   BASE=docker.io/library/debian:bookworm-slim@sha256:... deploy/containers/build.sh REGISTRY TAG [PART...]
#
# The base is given by digest, so that it is the one that was looked at. Its present digest, in the order of tools that
# there may be:  docker buildx imagetools inspect debian:bookworm-slim
#                skopeo inspect --format '{{.Digest}}' docker://docker.io/library/debian:bookworm-slim
# Write down which one a release was built from; the image's label org.opencontainers.image.base.digest has it, too.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
PARTS="management compute operator etcd postgresql ovn"
[ $# -ge 2 ] || { sed -n '4p' "$0" >&2; exit 2; }
REGISTRY=$1 TAG=$2
shift 2
[[ ${BASE:-} =~ @sha256:[0-9a-f]{64}$ ]] || {
  echo "build: set BASE to Debian's image by digest, e.g. docker.io/library/debian:bookworm-slim@sha256:..." >&2
  exit 2
}
for TOOL in docker podman buildah; do command -v $TOOL >/dev/null && break; TOOL=""; done
[ -n "$TOOL" ] || { echo "build: neither docker nor podman nor buildah is installed." >&2; exit 1; }
[ -e console/dist/index.html ] || { echo "build: the console is not built; run make console." >&2; exit 1; }
REVISION=$(git rev-parse HEAD)
[ -z "$(git status --porcelain --untracked-files=no)" ] || REVISION=$REVISION-dirty
for PART in ${*:-$PARTS}; do
  $TOOL build --pull --build-arg "BASE=$BASE" --file "deploy/containers/$PART.Dockerfile" \
    --tag "$REGISTRY/vcstack-$PART:$TAG" \
    --label "org.opencontainers.image.revision=$REVISION" --label "org.opencontainers.image.version=$TAG" \
    --label "org.opencontainers.image.base.digest=${BASE##*@}" .
done
