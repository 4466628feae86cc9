#!/usr/bin/env bash
# Three members on three hosts, from the first start to a replaced member.
#
#     sudo examples/three_members.sh
#
# The hosts are network namespaces on this machine, with the addresses 10.0.0.1 to 10.0.0.4, joined by a bridge.
# All of it lives in namespaces of this script's own, so nothing is left behind and nothing else is touched.
# What is written into each host's etcd.conf, and every etcdctl command, is just what it would be on real hosts.
#
# ETCD and ETCDCTL choose the programs: petcd's by default, as `make` installs them; Go's work as well.

set -euo pipefail

# Step 0: start again with a network, mounts and process ids of our own. When this script ends, all of it ends.
if [ -z "${INSIDE:-}" ]; then
    exec env INSIDE=yes unshare --map-root-user --net --mount --pid --fork --kill-child --mount-proc "$0" "$@"
fi
mount -t tmpfs none /run
mkdir /run/netns

ETCD=${ETCD:-etcd}
ETCDCTL=${ETCDCTL:-etcdctl}
export ETCDCTL_API=3
HOSTS=$(mktemp -d)
trap 'rm -rf "$HOSTS"' EXIT

say() { printf '\n== %s\n' "$*"; }
# at "1 2" put a b: etcdctl with the endpoints of hosts 1 and 2.
quietly_at() {
    local endpoints
    endpoints=$(printf '10.0.0.%s:2379,' $1)
    "$ETCDCTL" --endpoints "${endpoints%,}" "${@:2}"
}
at() { printf '$ etcdctl %s    # at %s\n' "${*:2}" "$1"; quietly_at "$@" 2>&1; }
try() { for _ in $(seq 100); do "$@" && return; sleep 0.1; done; return 1; }

# A host: a namespace with an address, plugged into the bridge. We ourselves sit at 10.0.0.254.
new_host() {
    ip netns add "h$1"
    ip link add "port$1" type veth peer name eth0 netns "h$1"
    ip link set "port$1" master br0 up
    ip -n "h$1" address add "10.0.0.$1/24" dev eth0
    ip -n "h$1" link set eth0 up
    ip -n "h$1" link set lo up
    mkdir "$HOSTS/h$1"
}

# Step 1: what an administrator writes on host number $1. The last two lines depend on how the member comes in.
write_conf() {
    cat >"$HOSTS/h$1/etcd.conf" <<CONF
ETCD_NAME=m$1
ETCD_DATA_DIR=$HOSTS/h$1/m$1.etcd
ETCD_LISTEN_PEER_URLS=http://10.0.0.$1:2380
ETCD_LISTEN_CLIENT_URLS=http://10.0.0.$1:2379
ETCD_INITIAL_ADVERTISE_PEER_URLS=http://10.0.0.$1:2380
ETCD_ADVERTISE_CLIENT_URLS=http://10.0.0.$1:2379
ETCD_INITIAL_CLUSTER_TOKEN=example
ETCD_SNAPSHOT_COUNT=50
ETCD_SNAPSHOT_CATCHUP_ENTRIES=50
ETCD_LOGGER=zap
$2
$3
CONF
}

start() {
    ip netns exec "h$1" env $(cat "$HOSTS/h$1/etcd.conf") "$ETCD" >"$HOSTS/h$1/log" 2>&1 &
    echo "m$1 started on 10.0.0.$1"
}

healthy() { quietly_at "$1" endpoint health >/dev/null 2>&1; }

ip link set lo up
ip link add br0 type bridge
ip address add 10.0.0.254/24 dev br0
ip link set br0 up

say "three hosts, one etcd.conf each"
CLUSTER=m1=http://10.0.0.1:2380,m2=http://10.0.0.2:2380,m3=http://10.0.0.3:2380
for n in 1 2 3; do
    new_host "$n"
    write_conf "$n" "ETCD_INITIAL_CLUSTER=$CLUSTER" "ETCD_INITIAL_CLUSTER_STATE=new"
done
cat "$HOSTS/h1/etcd.conf"
for n in 1 2 3; do start "$n"; done
for n in 1 2 3; do try healthy "$n"; done

say "the cluster"
at "1 2 3" member list -w table
at 1 endpoint health --cluster
at 1 endpoint status --cluster -w table

say "written through each member, read through the others"
for n in 1 2 3; do
    at "$n" put "written-through-m$n" "yes"
    for other in 1 2 3; do
        [ "$other" = "$n" ] || at "$other" get "written-through-m$n"
    done
done

id_of() { quietly_at "1 2" member list | awk -F', ' -v name="m$1" '$3 == name { print $1 }'; }
# The host number of the leader. Columns of the status: endpoint, id, version, size, is leader, and so on.
leader() { quietly_at 1 endpoint status --cluster | awk -F'[.:,] *' '/, true, false,/ { print $5 }'; }

say "another leader"
old=$(leader)
new=$((old % 2 + 1)) # m2, or m1 if m2 leads
at "$old" move-leader "$(id_of $new)"
moved() { [ "$(leader)" = "$new" ]; }
try moved
at 1 endpoint status --cluster -w table

say "m3's host is given up"
# A leader lets nobody go before it has been connected to the others for five seconds.
remove() { at "1 2" member remove "$gone"; }
gone=$(id_of 3)
try remove >"$HOSTS/removed"
tail -n 2 "$HOSTS/removed"
at "1 2" member list -w table

say "life goes on: 150 writes, more than the two members keep in their logs"
for i in $(seq 150); do quietly_at "1 2" put counter "$i" >/dev/null; done
at 2 get counter

say "m4 takes its place; etcdctl says what its etcd.conf must hold"
new_host 4
add() { at "1 2" member add m4 --peer-urls=http://10.0.0.4:2380 >"$HOSTS/added"; }
try add
cat "$HOSTS/added"
write_conf 4 "$(grep ^ETCD_INITIAL_CLUSTER= "$HOSTS/added" | tr -d '"')" "ETCD_INITIAL_CLUSTER_STATE=existing"
start 4
try healthy 4

say "it was sent a snapshot, and has everything"
grep -o -m 1 '"msg":"applied snapshot"' "$HOSTS/h4/log"
at 4 get counter --consistency=s
at 4 endpoint health --cluster
at 4 endpoint status --cluster -w table

say "done"
