#!/bin/sh
# Installs what building, checking and testing Shunt needs beside Go, git and
# make, on Debian 12. Does nothing when all of it is there, and never starts a
# service that a package brings along.
set -eu

packages="
    ca-certificates gcc libc6-dev
    openvswitch-switch iproute2 ethtool procps tcpdump nftables
    prometheus curl wget nghttp2-client wrk nginx mini-httpd haproxy apache2-bin lighttpd python3 nodejs
    clang-14 llvm-14 libbpf-dev linux-libc-dev
    python3-grpcio python3-protobuf protobuf-compiler libprotobuf-dev
    lintian man-db systemd util-linux
"

missing=
for p in $packages; do
    if [ "$(dpkg-query -W -f '${Status}' "$p" 2>/dev/null)" != "install ok installed" ]; then
        missing="$missing $p"
    fi
done
if [ -z "$missing" ]; then
    echo "setup: everything is installed"
    exit 0
fi
if [ "$(id -u)" != 0 ]; then
    echo "setup: as root, run: apt-get install$missing" >&2
    exit 1
fi

# invoke-rc.d asks this program before it starts a service; 101 means no.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod 755 "$policy"
    trap 'rm -f "$policy"' EXIT
    trap 'exit 1' HUP INT TERM
fi

echo "setup: installing$missing"
export DEBIAN_FRONTEND=noninteractive
# A list that is out of date names files that are gone.
apt-get install -y --no-install-recommends $missing ||
    { apt-get update && apt-get install -y --no-install-recommends $missing; }
