# Functions for guest scripts. Sourced with `set -eu` on, before the script.

say() { echo "vmlab: $*"; }
fail() { echo "vmlab: FAIL: $*"; exit 1; }

# net_user: the user network of QEMU. The host's 127.0.0.1 is $HOST.
HOST=10.0.2.2
net_user() {
	modprobe virtio_net
	for d in /sys/class/net/*; do
		case ${d##*/} in lo) continue ;; esac
		ip link set "${d##*/}" up
		ip addr add 10.0.2.15/24 dev "${d##*/}"
		return 0
	done
	fail "no network device"
}

# rxe_up ADDR0 ADDR1 [MTU]: two soft-RoCE devices, rxe0 and rxe1, on the ends
# of a wire, each with its address. Packets between them pass the wire: an
# address that is local is not short-cut, so that tcpdump sees them.
rxe_up() {
	modprobe veth
	modprobe rdma_rxe || fail "module rdma_rxe"
	modprobe rdma_ucm || fail "module rdma_ucm"
	ip link add wire0 type veth peer name wire1
	# RoCE wants a wire that loses nothing: room for what is sent at once, or soft-RoCE
	# waits for seconds to repeat it.
	echo 20000 >/proc/sys/net/core/netdev_max_backlog
	ip rule add pref 100 lookup local
	ip rule del pref 0 lookup local
	n=0
	for addr in "$1" "$2"; do
		dev=wire$n
		ip link set "$dev" mtu "${3:-4500}"
		# What comes in is handled by one CPU, each end's by its own, as between two
		# machines: by two CPUs at once it would be handled out of order.
		echo $((1 << n)) >"/sys/class/net/$dev/queues/rx-0/rps_cpus"
		echo 1 >"/proc/sys/net/ipv4/conf/$dev/accept_local"
		echo 0 >"/proc/sys/net/ipv4/conf/$dev/rp_filter"
		echo 1 >"/proc/sys/net/ipv4/conf/$dev/arp_ignore"
		echo 2 >"/proc/sys/net/ipv4/conf/$dev/arp_announce"
		ip link set "$dev" up
		ip addr add "$addr/24" dev "$dev"
		n=$((n + 1))
	done
	echo 0 >/proc/sys/net/ipv4/conf/all/rp_filter
	# What comes in on a wire is for its own address; what goes to the other
	# end's address goes out on the wire.
	ip rule add pref 10 iif wire0 lookup 110
	ip rule add pref 11 iif wire1 lookup 111
	ip route add local "$1/32" dev wire0 table 110
	ip route add local "$2/32" dev wire1 table 111
	ip rule add pref 20 from "$1" to "$2" lookup 120
	ip rule add pref 21 from "$2" to "$1" lookup 121
	# What has no source address yet comes from the other end.
	ip rule add pref 24 iif lo from 0.0.0.0/32 to "$1" lookup 121
	ip rule add pref 22 to "$2" oif wire0 lookup 120
	ip rule add pref 23 to "$1" oif wire1 lookup 121
	ip route add "$2/32" dev wire0 src "$1" table 120
	ip route add "$1/32" dev wire1 src "$2" table 121
	rdma link add rxe0 type rxe netdev wire0
	rdma link add rxe1 type rxe netdev wire1
	rdma link show
}

# rxe_counters: the devices' counters that are not 0.
rxe_counters() {
	for f in /sys/class/infiniband/rxe*/ports/1/hw_counters/*; do
		n=$(cat "$f" 2>/dev/null) || continue
		[ "$n" = 0 ] && continue
		d=${f#/sys/class/infiniband/}
		echo "${d%%/*} ${f##*/} $n"
	done
}
