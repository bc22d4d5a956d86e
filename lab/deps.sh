#!/bin/sh
# Install those Debian packages that the node, its tests and its demo need and that are not there yet.
# `deps.sh deb`: only what `make deb` needs.
set -eu

# Ubuntu 22.04's own Python is too old; it has a newer one beside it.
python=python3
if [ -x /usr/bin/python3 ] && ! /usr/bin/python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then python=python3.11; fi

# build-essential: dpkg-buildpackage asks for it by name.
build="build-essential debhelper libsystemd-dev pkg-config $python-dev $python-venv"
packages="$build busybox-static ca-certificates conntrack containerd containernetworking-plugins dbus e2fsprogs haproxy ipset
    iproute2 iptables kmod libseccomp-dev lintian man-db mmdebstrap nftables openssh-client procps runc systemd user-mode-linux util-linux
    vagrant"
[ "${1:-}" != deb ] || packages=$build

command -v dpkg-query >/dev/null || {
    echo "cannot check Debian packages: this is not Debian; install their peers yourself:" $packages >&2
    exit 0
}

missing=""
for package in $packages; do
    # A virtual or renamed package (pkg-config on Debian 13) counts when something provides it.
    case "$package" in pkg-config) command -v pkg-config >/dev/null && continue ;; esac
    [ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null || true)" = installed ] || missing="$missing $package"
done
[ -n "$missing" ] || exit 0

if [ "$(id -u)" != 0 ]; then
    echo "cannot install$missing: needs root" >&2
    exit 1
fi

# Debian starts a service when its package is installed; the lab runs a containerd of its own and starts nobody else's.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    trap 'rm -f "$policy"' EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod 755 "$policy"
fi

echo "installing:$missing"
export DEBIAN_FRONTEND=noninteractive
install() { apt-get -o Acquire::Retries=5 install -y -qq --no-install-recommends $missing >"$log" 2>&1 </dev/null; }
log=$(mktemp)
# The package lists of a fresh machine are empty or old.
if ! install; then
    apt-get -o Acquire::Retries=5 update -qq </dev/null
    install || { cat "$log" >&2; rm -f "$log"; exit 1; }
fi
rm -f "$log"
