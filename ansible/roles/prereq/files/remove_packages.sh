# Purge the packages that came with the node and that nothing else needs; never one that was there before.
# Run by reset.yml through `bash -s -- FILE NAME...`: FILE is before.json, the names are those that the roles asked for.
# Prints what it purged.
set -u -o pipefail
memory=$(dirname "$1")
before=$(python3 -c 'import json, sys; print("\n".join(json.load(open(sys.argv[1]))["packages"]))' "$1") || exit 1
shift
export DEBIAN_FRONTEND=noninteractive

new() { while read -r name; do grep -qxF -- "$name" <<<"$before" || echo "$name"; done; }
present() {
    dpkg-query -W -f '${db:Status-Status} ${Package}\n' "$@" 2>/dev/null | sed -n 's/^\(installed\|config-files\) //p'
}

# What came with the node: install.yml has noted it, but for an installation that was cut off.
came=$(
    cat "$memory/came" 2>/dev/null
    [ ! -e "$memory/before-install" ] || present | grep -vxFf "$memory/before-install"
)
unused() { apt-get autoremove --purge --simulate "$@" | sed -n 's/^Purg \([^ :]*\).*/\1/p' | new; }
# What came does not stay because something that was there before recommends it.
unused_all() {
    unused
    unused -o APT::AutoRemove::RecommendsImportant=false -o APT::AutoRemove::SuggestsImportant=false | grep -xF -- "$came"
}

asked_for=$(present "$@" | new)
if [ -n "$asked_for" ]; then apt-mark auto $asked_for >/dev/null || exit 1; fi
while :; do
    purge=$(unused_all | sort -u)
    [ -n "$purge" ] || break
    apt-get purge --yes --quiet -o DPkg::Lock::Timeout=300 $purge >&2 || exit 1
    echo $purge
done
# Removed before, but not purged.
left=$(dpkg-query -W -f '${db:Status-Status} ${Package}\n' | sed -n 's/^config-files //p' | grep -xF -f <(printf '%s\n' "$@" "$asked_for") | new)
if [ -n "$left" ]; then
    dpkg --purge $left >&2 || exit 1
    echo $left
fi
