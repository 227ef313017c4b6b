#!/bin/bash
# Builds a real kube-apiserver and kubectl from Debian's source package `kubernetes`, for the tests of the operator.
#
#   build.sh CACHEDIR      ->  CACHEDIR/bin/kube-apiserver, CACHEDIR/bin/kubectl
#
# Debian has no package of the server, and its client is built from the same source. Needs no root: Go's compiler is
# unpacked beside the source, not installed. About five minutes on two idle cores, 3 GB while it runs; built anew only
# when this file changes. May be killed at any time: what was downloaded, unpacked and compiled is used again.
set -euo pipefail
umask 022
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
[ $# = 1 ] || { echo "usage: $0 CACHEDIR" >&2; exit 2; }
mkdir -p "$1"
OUT=$(cd "$1" && pwd)
W=$OUT/work
SOURCE=$W/gopath/src/k8s.io/kubernetes
PROGRAMS="kube-apiserver kubectl"
# A test of the schema validator that holds for each empty text when a newer compiler has compiled it.
ZERO="reflect.DeepEqual(reflect.Zero(reflect.TypeOf(data)), reflect.ValueOf(data))"
# Kubernetes 1.20 vendors a reflect2 that newer compilers refuse (modern-go/reflect2 issue 20); Debian's is newer.
PACKAGES="golang-1.19-go golang-1.19-src golang-github-modern-go-reflect2-dev"

began=$SECONDS
say() { printf '  %-11s %s\n' "kubernetes" "$*"; }
fail() { echo "kubernetes: $*" >&2; exit 1; }
# Runs a command; its output is shown only if it fails.
quietly() { "$@" >"$W/log" 2>&1 || { tail -n 30 "$W/log" >&2; fail "$1 failed (its whole output: $W/log)."; }; }

exec 9>"$OUT/.lock"
flock -n 9 || { say "waiting for another build in $OUT"; flock -w 3600 9 || fail "another build has held $OUT/.lock for an hour."; }
INPUTS=$(sha256sum "$HERE/build.sh" | cut -d' ' -f1)
if [ "$(cat "$OUT/inputs" 2>/dev/null)" = "$INPUTS" ]; then exit 0; fi
# What another version of this script left half-made is not built upon.
[ "$(cat "$W/inputs" 2>/dev/null)" = "$INPUTS" ] || rm -rf "$W"
mkdir -p "$W"
echo "$INPUTS" >"$W/inputs"
for tool in dpkg-source patch xz; do
  command -v $tool >/dev/null || fail "$tool is missing: apt-get install dpkg-dev patch xz-utils"
done

# A step's stamp is written last, so an interrupted step is repeated.
step() {
  [ ! -e "$W/done.$1" ] || return 0
  say "$2"
  "$1"
  touch "$W/done.$1"
}

fetch() {
  local apt
  mkdir -p "$W/apt/lists/partial" "$W/apt/parts" "$W/debs"
  # The machine's own Debian mirrors, whichever way they are written down, as sources of source packages too. The
  # lists are our own: the machine's may be old, or missing.
  apt-get indextargets --format '$(CREATED_BY) $(ORIGIN) $(REPO_URI) $(RELEASE) $(COMPONENT)' |
    awk '$1 == "Packages" && $2 == "Debian" && $5 == "main" {
      for (i = 1; i <= split("deb deb-src", type, " "); i++)
        print type[i] " [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] " $3 " " $4 " main" }' |
    sort -u >"$W/apt/sources.list"
  [ -s "$W/apt/sources.list" ] || fail "no Debian mirror is configured."
  apt=(-q -o "Dir::Etc::sourcelist=$W/apt/sources.list" -o "Dir::Etc::sourceparts=$W/apt/parts"
    -o "Dir::State::lists=$W/apt/lists" -o Dir::Cache::pkgcache= -o Dir::Cache::srcpkgcache=)
  cd "$W/debs"
  quietly apt-get "${apt[@]}" update
  quietly apt-get "${apt[@]}" source --download-only kubernetes
  # shellcheck disable=SC2086
  quietly apt-get "${apt[@]}" download $PACKAGES
}

unpack() {
  local deb validator
  rm -rf "$W/x" "$W/gopath"
  mkdir -p "$W/x" "$(dirname "$SOURCE")"
  for deb in "$W"/debs/*.deb; do dpkg -x "$deb" "$W/x"; done
  quietly dpkg-source -x "$W"/debs/kubernetes_*.dsc "$SOURCE"
  rm -rf "$SOURCE/vendor/github.com/modern-go/reflect2"
  cp -r "$W/x/usr/share/gocode/src/github.com/modern-go/reflect2" "$SOURCE/vendor/github.com/modern-go/"
  # It compares the insides of reflect.Value, which newer compilers share: each empty text was taken for null.
  for validator in github.com/go-openapi/validate k8s.io/kube-openapi/pkg/validation/validate; do
    sed -i "s/data == nil || $ZERO/data == nil/" "$SOURCE/vendor/$validator/type.go"
    if grep -qF "$ZERO" "$SOURCE/vendor/$validator/type.go"; then fail "$validator is not as expected."; fi
  done
}

# The source package leaves this generated file out.
generate() {
  local packages
  cd "$SOURCE"
  go build -o "$W/openapi-gen" ./vendor/k8s.io/kube-openapi/cmd/openapi-gen
  packages=$({
    grep -rl --include=*.go '+k8s:openapi-gen=' staging/src/k8s.io | xargs -n1 dirname | sort -u |
      grep -v -e code-generator -e sample-apiserver -e apiserver/pkg/apis/example |
      sed 's#^staging/src/#k8s.io/kubernetes/vendor/#'
    grep -rl --include=*.go '+k8s:openapi-gen=' pkg cmd | xargs -n1 dirname | sort -u | sed 's#^#k8s.io/kubernetes/#'
  } | paste -sd,)
  quietly "$W/openapi-gen" --logtostderr -i "$packages" -p k8s.io/kubernetes/pkg/generated/openapi \
    -O zz_generated.openapi -h vendor/k8s.io/code-generator/hack/boilerplate.go.txt \
    -r "$W/violations" --output-base "$W/gopath/src"
}

# Go says nothing while it compiles, so its cache's growth is the progress shown.
compile() {
  local version package flags="-s -w" pid
  version=v$(sed -n 's/^Version: .*really\([0-9.]*\)-.*/\1/p; t; s/^Version: \([0-9.]*\).*/\1/p' "$W"/debs/kubernetes_*.dsc | head -n 1)
  for package in component-base/version client-go/pkg/version; do
    package=k8s.io/kubernetes/vendor/k8s.io/$package
    flags+=" -X $package.gitVersion=$version -X $package.gitMajor=$(cut -d. -f1 <<<"${version#v}")"
    flags+=" -X $package.gitMinor=$(cut -d. -f2 <<<"$version") -X $package.gitTreeState=clean"
  done
  cd "$SOURCE"
  mkdir -p "$W/bin"
  for package in $PROGRAMS; do
    go build -p "${JOBS:-2}" -tags "providerless dockerless" -trimpath -ldflags "$flags" -o "$W/bin/" "./cmd/$package" &
    pid=$!
    while kill -0 $pid 2>/dev/null; do
      for _ in {1..30}; do sleep 1; kill -0 $pid 2>/dev/null || break; done
      say "$package: $(find "$GOCACHE" -name '*-d' | wc -l) packages compiled after $((SECONDS - began)) s"
    done
    wait $pid || fail "compiling $package failed."
  done
}

# Off, because the package's go.mod does not agree with what it vendors.
export GOPATH=$W/gopath GOCACHE=$W/gocache GOROOT=$W/x/usr/lib/go-1.19 GO111MODULE=off CGO_ENABLED=0
export PATH=$GOROOT/bin:$PATH
renice -n 15 $$ >/dev/null
step fetch "downloading the sources and the compiler"
step unpack "unpacking"
step generate "generating what the source package leaves out"
step compile "compiling, about five minutes on two idle cores"
mkdir -p "$OUT/bin"
mv "$W"/bin/* "$OUT/bin/"
cat "$W"/debs/kubernetes_*.dsc | sed -n 's/^Version: //p' >"$OUT/version"
echo "$INPUTS" >"$OUT/inputs"
rm -rf "$W"
say "built in $((SECONDS - began)) s: $OUT/bin"
