# Remove the containerd that site.yml installed, or put back the configuration of the one that was there before.
# Run by reset.yml through `bash -s -- PACKAGE DIRECTORY...`: PACKAGE is empty where containerd stays; the directories go
# with it. Prints what it did.
set -u
package=$1
shift
drop_in=/etc/systemd/system/containerd.service.d
config=/etc/containerd/config.toml
kept=/var/lib/longshore-ansible/config.toml

if [ -e "$drop_in/50-longshore.conf" ]; then
    rm -f "$drop_in/50-longshore.conf"
    rmdir --ignore-fail-on-non-empty "$drop_in"
    echo "$drop_in/50-longshore.conf"
fi
systemctl daemon-reload

if [ -z "$package" ]; then
    grep -qs "Written by Longshore's playbook" "$config" || exit 0
    if [ -e "$kept" ]; then
        cat "$kept" >"$config" || exit 1
    else
        rm -f "$config"
    fi
    echo "$config"
    systemctl try-restart containerd.service
    exit
fi

dpkg-query -W "$package" >/dev/null 2>&1 || exit 0
systemctl stop containerd.service
# Shims outlive containerd on purpose; here nothing is to.
for group in /sys/fs/cgroup/{system.slice,longshore.slice}/containerd.service /sys/fs/cgroup/kubepods.slice; do
    if [ -e "$group/cgroup.kill" ]; then echo 1 >"$group/cgroup.kill"; fi
done
awk '$2 ~ "^/(run|var/lib)/containerd/" { print $2 }' /proc/mounts | sort -r | while read -r mount; do
    umount --lazy -- "$mount"
done
DEBIAN_FRONTEND=noninteractive apt-get purge --yes --quiet -o DPkg::Lock::Timeout=300 "$package" >&2 || exit 1
rm -rf --one-file-system -- /run/containerd "$@"
echo "package $package"
