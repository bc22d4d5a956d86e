# Remove the pod network: configuration, leases, the bridge, and the rules of the plugins bridge and portmap.
# Run by reset.yml through `bash -s -- BRIDGE`. Prints what it did.
set -u
bridge=$1

for path in /etc/cni/net.d/10-longshore.conflist /var/lib/cni/networks/longshore /var/lib/cni/results/longshore-*; do
    if [ -e "$path" ]; then
        rm -rf --one-file-system -- "$path" || exit 1
        echo "$path"
    fi
done
if [ -e "/sys/class/net/$bridge" ]; then
    ip link delete "$bridge" || exit 1
    echo "bridge $bridge"
fi
for mount in /run/netns/cni-*; do
    [ -e "$mount" ] || continue
    umount -- "$mount" 2>/dev/null
    rm -f -- "$mount"
done

# Chains are named after the plugins; what jumps to them goes first, then what is in them, then they themselves.
command -v iptables-save >/dev/null || exit 0
for table in nat filter; do
    rules=$(iptables-save -t "$table" 2>/dev/null)
    chains=$(sed -n 's/^:\(CNI-[^ ]*\) .*/\1/p' <<<"$rules")
    [ -n "$chains" ] || continue
    {
        echo "*$table"
        grep -v '^-A CNI-' <<<"$rules" | sed -n 's/^-A \(.*-j CNI-.*\)/-D \1/p'
        sed 's/^/-F /' <<<"$chains"
        sed 's/^/-X /' <<<"$chains"
        echo COMMIT
    } | iptables-restore --noflush --wait 10 || exit 1
    echo "chains" $chains
done
