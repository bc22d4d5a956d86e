# Stop agent and proxy, remove their rules, end what no agent ended, remove the package and what the node wrote.
# Run by reset.yml through `bash -s -- DIRECTORY...`: directories to remove beside our own. Prints what it did.
set -u

stop_daemons() {
    systemctl disable --now --quiet longshore.target longshore-agent.service longshore-proxy.service 2>/dev/null
    systemctl stop --quiet longshore-agent.service longshore-proxy.service 2>/dev/null
    systemctl is-active --quiet longshore-agent.service longshore-proxy.service || return 0
    echo "cannot stop longshore-agent or longshore-proxy: see systemctl status 'longshore-*'" >&2
    exit 1
}

remove_rules() {
    local program=/opt/longshore/bin/longshore-proxy config=/etc/longshore/proxy.yaml
    [ -x "$program" ] || return 0
    if [ -e "$config" ] && "$program" --config "$config" --cleanup; then return 0; fi
    # A configuration that cannot be read does not keep the rules.
    "$program" --cleanup || exit 1
}

end_containers() {
    command -v ctr >/dev/null && systemctl is-active --quiet containerd.service || return 0
    local container
    for container in $(ctr --namespace k8s.io containers ls --quiet); do
        echo "container $container"
        ctr --namespace k8s.io tasks kill --signal SIGKILL --all "$container" 2>/dev/null
        ctr --namespace k8s.io tasks delete --force "$container" 2>/dev/null
        ctr --namespace k8s.io containers delete "$container"
    done
}

remove_files() {
    local mount path
    # What is mounted there may be somebody's data: unmounted, never deleted across.
    awk '$2 ~ "^/(var/lib|run)/longshore(-proxy)?/" { print $2 }' /proc/mounts | sort -r | while read -r mount; do
        umount -- "$(printf '%b' "$mount")" || exit 1
    done || exit 1
    for path in /etc/longshore /var/lib/longshore /var/lib/longshore-proxy /var/cache/longshore /run/longshore /opt/longshore "$@"; do
        [ -e "$path" ] || continue
        rm -rf --one-file-system -- "$path" || exit 1
        echo "$path"
    done
}

stop_daemons
remove_rules
end_containers
if dpkg-query -W longshore >/dev/null 2>&1; then
    DEBIAN_FRONTEND=noninteractive dpkg --purge --force-remove-reinstreq longshore >&2 || exit 1
    echo "package longshore"
    # The stop unit refuses to be stopped as long as systemd knows its file.
    systemctl daemon-reload
    systemctl stop --quiet longshore.target longshore-shutdown.service 2>/dev/null
fi
remove_files "$@"
