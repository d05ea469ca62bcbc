//go:build ignore

// The guard: what happens to a packet whose destination is a session address
// when it enters a node's data interface. See doc.go for the decisions and
// why they are safe.
//
// It is attached to the ingress of one Ethernet interface, through TCX or as a
// cls_bpf filter in direct-action mode. It keeps no state of its own beside
// the maps below, and "deliver" never ends the chain of programs, so that
// others' programs on the interface still run.

#include "bpf.h"

#define ETH_LEN 14
#define IPV6_LEN 40
#define TCP_HEAD 14 // ports to flags
#define TCP_OFFSET 12
#define TCP_CHECKSUM 16
#define EXT_HEADERS 8
#define SLOTS 64 // a power of two

// The hops that a packet still has when the last dispatcher is asked for it: enough
// for a diversion there.
#define LAST_HOPS 16

#define IPPROTO_HOPOPTS 0
#define IPPROTO_TCP 6
#define IPPROTO_ROUTING 43
#define IPPROTO_FRAGMENT 44
#define IPPROTO_DSTOPTS 60

// The first of TCP's reserved bits, in the octet of the data offset: a switch that
// tracks connections may learn from this packet where its connection is.
#define TEACHES 0x08

// The second: the packet is sent on while its connection is being handed over, and
// may be there before it. The other node sends it back, and this one sends it on
// again, until the connection is there: the network holds it. So many hops it keeps
// for that, two of which are a round.
#define EARLY 0x04
#define EARLY_HOPS 64

// A socket that is being restored has this priority (SO_PRIORITY): it is deaf yet.
// Keep in step with tcprepair.Nascent.
#define NASCENT_PRIORITY 0x53480001

// Beside TCP's states, that of such a socket.
#define NASCENT 0xff

// How many packets of a diverted connection go by before one teaches. Those of a
// small answer are not worth an entry in the switch: its client sends an
// acknowledgement or two, and its FIN.
#define BEFORE_TEACHING 2
#define TAUGHT (BEFORE_TEACHING + 1)
#define NEVER 255

// What settled holds: SETTLED; UNANSWERED, that home has sent nothing on the
// connection but its SYN; and a digest of what the first packet acknowledged.
#define SETTLED 0x01
#define ACKED 0x7e
#define UNANSWERED 0x80

#define TH_FIN 0x01
#define TH_SYN 0x02
#define TH_RST 0x04
#define TH_ACK 0x10

// A reason is an index into the counters; keep in step with counters.go.
enum reason {
	DELIVERED_SOCKET,
	DELIVERED_HOME,
	DELIVERED_FRAGMENT,
	DIVERTED,
	RETURNED_HOME,
	DROPPED_FROM_HOME,
	DROPPED_BOUNCED,
	DROPPED_UNKNOWN_HOME,
	DROPPED_HOP_LIMIT,
	DROPPED_MALFORMED,
	DROPPED_TIME_WAIT,
	SYN_DELIVERED,
	SYN_RETURNED,
	SYN_DROPPED,
	PASSED_ON,
	RETURNED_EARLY,
	DIVERTED_AGAIN,
	REASONS,
};

// Addresses are 16 bytes in network order, IPv4 ones IPv4-mapped; ports are
// in network order.
struct flow {
	u8 client[16];
	u8 session[16];
	u16 client_port;
	u16 session_port;
	u32 zero;
};

// The owner is user space's: the hand-off that made the diversion. It is settled
// once the other node is known to have the connection: user space says so, or the
// client has heard of that node. seen counts its packets up
// to BEFORE_TEACHING, and is then TAUGHT or NEVER.
struct next_hop {
	u8 mac[6];
	u8 settled;
	u8 seen;
	u64 owner;
};

struct home {
	u8 mac[6];
	u8 self;
	u8 zero;
};

// A share is what of a session address's connections one dispatcher has: those
// with these bits 1 to 6 of the client's port.
struct share {
	u8 session[16];
	u32 slot;
};

// The dispatcher to ask for what nothing here knows of a share.
// more is how many others may be asked after this one.
struct another {
	u8 session[16];
	u8 mac[6];
	u8 more;
	u8 zero;
};

struct prefix {
	u32 bits;
	u8 addr[16];
};

struct {
	NUMBER(type, BPF_MAP_TYPE_LRU_HASH);
	NUMBER(max_entries, 262144);
	TYPE(key, struct flow);
	TYPE(value, struct next_hop);
} shunt_divert SEC(".maps");

struct {
	NUMBER(type, BPF_MAP_TYPE_HASH);
	NUMBER(max_entries, 65536);
	NUMBER(map_flags, BPF_F_NO_PREALLOC);
	NUMBER(key_size, 16);
	TYPE(value, struct home);
} shunt_homes SEC(".maps");

struct {
	NUMBER(type, BPF_MAP_TYPE_HASH);
	NUMBER(max_entries, 65536);
	NUMBER(map_flags, BPF_F_NO_PREALLOC);
	TYPE(key, struct share);
	TYPE(value, struct another);
} shunt_others SEC(".maps");

// Flows whose SYN was delivered here, of shares that another dispatcher is asked
// for, and the sequence number that follows the SYN's.
struct {
	NUMBER(type, BPF_MAP_TYPE_LRU_HASH);
	NUMBER(max_entries, 65536);
	TYPE(key, struct flow);
	TYPE(value, u32);
} shunt_begun SEC(".maps");

struct {
	NUMBER(type, BPF_MAP_TYPE_LPM_TRIE);
	NUMBER(max_entries, 1024);
	NUMBER(map_flags, BPF_F_NO_PREALLOC);
	TYPE(key, struct prefix);
	TYPE(value, u8);
} shunt_pools SEC(".maps");

struct {
	NUMBER(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	NUMBER(max_entries, REASONS);
	TYPE(key, u32);
	TYPE(value, u64);
} shunt_counters SEC(".maps");

// No helper used here is reserved for GPL programs.
char licence[] SEC("license") = "Apache-2.0";

// What the program needs to know of a packet.
struct packet {
	struct flow flow;
	u8 eth[12]; // destination, source
	u8 v6;
	u8 offset;    // TCP's data offset and reserved bits
	u8 flags;     // TCP's
	u8 empty;     // it has no payload
	u16 ttl_word; // IPv4: TTL and protocol; IPv6: hop limit in the first byte
	u32 tcp;      // the offset of the TCP header
	u32 seq;      // in host order
	u32 ack;      // in host order
};

enum kind {
	OTHER,    // not TCP to a session address
	SEGMENT,  // TCP to a session address: all but eth is set
	FRAGMENT, // a later fragment of such
	MALFORMED,
};

INLINE int count(u32 reason, int verdict)
{
	u64 *n = bpf_map_lookup_elem(&shunt_counters, &reason);
	if (n)
		(*n)++;
	return verdict;
}

INLINE int in_pool(const u8 *session)
{
	struct prefix key = {.bits = 128};
	__builtin_memcpy(key.addr, session, 16);
	return bpf_map_lookup_elem(&shunt_pools, &key) != 0;
}

INLINE void map_v4(u8 *to, u32 addr)
{
	__builtin_memset(to, 0, 10);
	to[10] = to[11] = 0xff;
	__builtin_memcpy(to + 12, &addr, 4);
}

// The TCP header is at offset; end is where the IP header says that the packet
// ends. A frame may be longer, padded.
INLINE enum kind parse_tcp(struct __sk_buff *skb, u32 offset, u32 end, struct packet *p)
{
	struct {
		u16 source;
		u16 dest;
		u32 seq;
		u32 ack;
		u8 data_offset;
		u8 flags;
	} tcp;

	if (bpf_skb_load_bytes(skb, offset, &tcp, TCP_HEAD) < 0)
		return MALFORMED;
	p->flow.client_port = tcp.source;
	p->flow.session_port = tcp.dest;
	p->offset = tcp.data_offset;
	p->flags = tcp.flags;
	p->seq = ntohl(tcp.seq);
	p->ack = ntohl(tcp.ack);
	p->tcp = offset;
	p->empty = offset + (tcp.data_offset >> 4) * 4 == end;
	return SEGMENT;
}

INLINE enum kind parse_v4(struct __sk_buff *skb, struct packet *p)
{
	struct {
		u8 version_ihl;
		u8 tos;
		u16 len;
		u16 id;
		u16 fragment;
		u8 ttl;
		u8 protocol;
		u16 checksum;
		u32 source;
		u32 dest;
	} ip;

	if (bpf_skb_load_bytes(skb, ETH_LEN, &ip, sizeof(ip)) < 0)
		return OTHER;
	if (ip.protocol != IPPROTO_TCP)
		return OTHER;
	map_v4(p->flow.session, ip.dest);
	if (!in_pool(p->flow.session))
		return OTHER;
	u32 words = ip.version_ihl & 0x0f;
	if (ip.version_ihl >> 4 != 4 || words < 5)
		return MALFORMED;
	if (ip.fragment & htons(0x1fff))
		return FRAGMENT;
	map_v4(p->flow.client, ip.source);
	__builtin_memcpy(&p->ttl_word, &ip.ttl, 2);
	return parse_tcp(skb, ETH_LEN + words * 4, ETH_LEN + ntohs(ip.len), p);
}

INLINE enum kind parse_v6(struct __sk_buff *skb, struct packet *p)
{
	struct {
		u32 version;
		u16 len;
		u8 next;
		u8 hop_limit;
		u8 source[16];
		u8 dest[16];
	} ip;

	if (bpf_skb_load_bytes(skb, ETH_LEN, &ip, sizeof(ip)) < 0)
		return OTHER;
	__builtin_memcpy(p->flow.session, ip.dest, 16);
	if (!in_pool(p->flow.session))
		return OTHER;
	__builtin_memcpy(p->flow.client, ip.source, 16);
	p->v6 = 1;
	*(u8 *)&p->ttl_word = ip.hop_limit;

	u8 next = ip.next;
	u32 offset = ETH_LEN + IPV6_LEN;
	for (int i = 0; i < EXT_HEADERS && next != IPPROTO_TCP; i++) {
		struct {
			u8 next;
			u8 len;
			u16 fragment;
		} ext;

		if (next != IPPROTO_HOPOPTS && next != IPPROTO_ROUTING && next != IPPROTO_DSTOPTS &&
		    next != IPPROTO_FRAGMENT)
			return OTHER;
		if (bpf_skb_load_bytes(skb, offset, &ext, sizeof(ext)) < 0)
			return MALFORMED;
		if (next != IPPROTO_FRAGMENT)
			offset += ((u32)ext.len + 1) * 8;
		else if (ext.fragment & htons(0xfff8))
			return FRAGMENT;
		else
			offset += 8;
		next = ext.next;
	}
	if (next != IPPROTO_TCP)
		return MALFORMED;
	return parse_tcp(skb, offset, ETH_LEN + IPV6_LEN + ntohs(ip.len), p);
}

INLINE int same_mac(const u8 *a, const u8 *b)
{
	u16 x[3], y[3];
	__builtin_memcpy(x, a, 6);
	__builtin_memcpy(y, b, 6);
	return x[0] == y[0] && x[1] == y[1] && x[2] == y[2];
}

// The state of the socket that would get the packet, or NASCENT; 0 if there is none.
INLINE u32 receiver_state(struct __sk_buff *skb, const struct packet *p)
{
	struct bpf_sock_tuple tuple = {};
	struct bpf_sock *sk;

	if (p->v6) {
		__builtin_memcpy(tuple.ipv6.saddr, p->flow.client, 16);
		__builtin_memcpy(tuple.ipv6.daddr, p->flow.session, 16);
		tuple.ipv6.sport = p->flow.client_port;
		tuple.ipv6.dport = p->flow.session_port;
		sk = bpf_skc_lookup_tcp(skb, &tuple, sizeof(tuple.ipv6), BPF_F_CURRENT_NETNS, 0);
	} else {
		__builtin_memcpy(&tuple.ipv4.saddr, p->flow.client + 12, 4);
		__builtin_memcpy(&tuple.ipv4.daddr, p->flow.session + 12, 4);
		tuple.ipv4.sport = p->flow.client_port;
		tuple.ipv4.dport = p->flow.session_port;
		sk = bpf_skc_lookup_tcp(skb, &tuple, sizeof(tuple.ipv4), BPF_F_CURRENT_NETNS, 0);
	}
	if (!sk)
		return 0;
	u32 state = sk->state;
	struct bpf_sock *full = bpf_sk_fullsock(sk);
	if (full && full->priority == NASCENT_PRIORITY)
		state = NASCENT;
	bpf_sk_release(sk);
	return state;
}

// The state of the flow's socket, 0 if it has none. A listener is none; a
// request (SYN received) is one, and so is what the kernel keeps of a connection
// that this end has closed: its state is TCP_TIME_WAIT, also while the peer's FIN
// is awaited.
INLINE u32 socket_state(struct __sk_buff *skb, const struct packet *p)
{
	u32 state = receiver_state(skb, p);

	return state == TCP_LISTEN ? 0 : state;
}

// One hop less to live, and at most so many, so that no circle of diversions is
// endless. Returns 0 when the packet has come to its end.
INLINE int spend_hop(struct __sk_buff *skb, struct packet *p, u8 most)
{
	u16 word = p->ttl_word;
	u8 *ttl = (u8 *)&word;

	if (*ttl <= 1)
		return 0;
	*ttl -= 1;
	if (*ttl > most)
		*ttl = most;
	if (p->v6)
		return bpf_skb_store_bytes(skb, ETH_LEN + 7, ttl, 1, BPF_F_RECOMPUTE_CSUM) == 0;
	// The checksum's change makes up for the TTL's in a sum over the whole
	// packet, so skb->csum stays right without BPF_F_RECOMPUTE_CSUM.
	return bpf_l3_csum_replace(skb, ETH_LEN + 10, p->ttl_word, word, 2) == 0 &&
	       bpf_skb_store_bytes(skb, ETH_LEN + 8, &word, 2, 0) == 0;
}

// Give the packet these marks, TEACHES and EARLY, whatever an earlier guard or the
// client gave it. Returns 0 if it cannot be. The checksum's change makes up for the
// octet's.
INLINE int mark(struct __sk_buff *skb, const struct packet *p, u8 marks)
{
	u8 was[2] = {p->offset, p->flags};
	u8 now[2] = {(p->offset & ~(TEACHES | EARLY)) | marks, p->flags};
	u16 from, to;

	if (was[0] == now[0])
		return 1;
	__builtin_memcpy(&from, was, 2);
	__builtin_memcpy(&to, now, 2);
	return bpf_l4_csum_replace(skb, p->tcp + TCP_CHECKSUM, from, to, sizeof(to)) == 0 &&
	       bpf_skb_store_bytes(skb, p->tcp + TCP_OFFSET, now, 1, 0) == 0;
}

// Send the packet out of the interface it came from, to another node. The
// frame was addressed to this interface, so its destination is our own MAC.
INLINE int forward_within(struct __sk_buff *skb, struct packet *p, const u8 *mac, u8 most, u8 marks, u32 reason)
{
	u8 eth[12];

	__builtin_memcpy(eth, mac, 6);
	__builtin_memcpy(eth + 6, p->eth, 6);
	if (!spend_hop(skb, p, most))
		return count(DROPPED_HOP_LIMIT, TC_DROP);
	if (!mark(skb, p, marks) || bpf_skb_store_bytes(skb, 0, eth, sizeof(eth), 0) < 0)
		return count(DROPPED_MALFORMED, TC_DROP);
	return count(reason, bpf_redirect(skb->ifindex, 0));
}

INLINE int forward(struct __sk_buff *skb, struct packet *p, const u8 *mac, u32 reason)
{
	return forward_within(skb, p, mac, 255, 0, reason);
}

// Where home has sent nothing, all that the client can acknowledge is the other
// node's: once that changes from one packet to another, that node has answered. What
// ends the connection, or begins it, proves nothing, nor does what comes after it.
INLINE void hear(const struct packet *p, struct next_hop *divert)
{
	u8 acked = (p->ack ^ p->ack >> 6 ^ p->ack >> 12 ^ p->ack >> 18) << 1 & ACKED;

	if ((divert->settled & (UNANSWERED | SETTLED)) != UNANSWERED)
		return;
	if ((p->flags & (TH_SYN | TH_RST | TH_ACK)) != TH_ACK)
		divert->settled = 0;
	else if (!divert->seen)
		divert->settled |= acked;
	else if ((divert->settled & ACKED) != acked)
		divert->settled |= SETTLED;
}

// Send the packet where its connection is diverted to. A packet that ends the
// connection, or follows one that did, does not begin to teach: the switch's entry
// would outlive the connection. Once it was taught, the end must be known to it, too.
INLINE int follow(struct __sk_buff *skb, struct packet *p, struct next_hop *divert)
{
	hear(p, divert);
	u8 settled = divert->settled & SETTLED;
	if (divert->seen <= BEFORE_TEACHING && p->flags & (TH_SYN | TH_FIN | TH_RST))
		divert->seen = NEVER;
	else if (divert->seen < BEFORE_TEACHING || (divert->seen == BEFORE_TEACHING && settled))
		divert->seen++;
	u8 marks = settled ? 0 : EARLY;
	if (divert->seen == TAUGHT)
		marks |= TEACHES;
	return forward_within(skb, p, divert->mac, 255, marks, DIVERTED);
}

// The dispatcher to ask for a packet that nothing here knows, if there is one.
INLINE struct another *another(const struct packet *p)
{
	struct share key = {.slot = ntohs(p->flow.client_port) >> 1 & (SLOTS - 1)};

	__builtin_memcpy(key.session, p->flow.session, 16);
	return bpf_map_lookup_elem(&shunt_others, &key);
}

// A connection begins here, maybe without a socket: the kernel may answer the SYN
// with a cookie. What follows must then not be passed on.
INLINE void begin(const struct packet *p)
{
	u32 next = p->seq + 1;

	if (another(p))
		bpf_map_update_elem(&shunt_begun, &p->flow, &next, 0);
}

// Whether the packet follows a SYN that was delivered here, the only one that can
// answer a SYN cookie. (The kernel could be asked whether it does, but only by
// programs under the GPL.)
INLINE int follows_syn(const struct packet *p)
{
	u32 *next = bpf_map_lookup_elem(&shunt_begun, &p->flow);

	return next && *next == p->seq;
}

// Give the packet another destination address, with the checksums that go with
// it. Returns 0 if it cannot be, which may leave it with wrong ones.
//
// The sum over the whole packet, skb->csum, must change as the packet does, and
// bpf_l4_csum_replace changes it by what TCP's checksum makes up for in the
// pseudo-header. In IPv4 that is all, for the header's own checksum makes up for
// the address. IPv6 has none, so that the address must be counted, too: the sum
// is then what it was. (Newer kernels have a flag for that, BPF_F_IPV6.)
INLINE int readdress(struct __sk_buff *skb, const struct packet *p, const u8 *session)
{
	u32 checksum = p->tcp + TCP_CHECKSUM;

	if (p->v6) {
		long diff = bpf_csum_diff(p->flow.session, 16, session, 16, 0);

		return diff >= 0 && bpf_l4_csum_replace(skb, checksum, 0, diff, BPF_F_PSEUDO_HDR) == 0 &&
		       bpf_skb_store_bytes(skb, ETH_LEN + 24, session, 16, BPF_F_RECOMPUTE_CSUM) == 0;
	}
	u32 from, to;

	__builtin_memcpy(&from, p->flow.session + 12, 4);
	__builtin_memcpy(&to, session + 12, 4);
	return bpf_l4_csum_replace(skb, checksum, from, to, BPF_F_PSEUDO_HDR | sizeof(to)) == 0 &&
	       bpf_l3_csum_replace(skb, ETH_LEN + 10, from, to, sizeof(to)) == 0 &&
	       bpf_skb_store_bytes(skb, ETH_LEN + 16, &to, sizeof(to), 0) == 0;
}

// The dispatcher that comes next for a packet that is at home here. The first one
// that passes it on leaves it as many hops as there are dispatchers to ask, each of
// which takes one: the last one knows that it is.
INLINE struct another *next_for(const struct packet *p)
{
	struct another *other = another(p);

	if (!other || *(u8 *)&p->ttl_word <= LAST_HOPS || same_mac(p->eth + 6, other->mac))
		return 0;
	return other;
}

INLINE int pass_on(struct __sk_buff *skb, struct packet *p, struct another *other)
{
	if (!readdress(skb, p, other->session))
		return count(DROPPED_MALFORMED, TC_DROP);
	return forward_within(skb, p, other->mac, LAST_HOPS + other->more, 0, PASSED_ON);
}

INLINE int decide(struct __sk_buff *skb, struct packet *p)
{
	const u8 *from = p->eth + 6;
	struct home *home = bpf_map_lookup_elem(&shunt_homes, p->flow.session);

	if ((p->flags & (TH_SYN | TH_ACK)) == TH_SYN) {
		bpf_map_delete_elem(&shunt_divert, &p->flow);
		if (!home)
			return count(DROPPED_UNKNOWN_HOME, TC_DROP);
		if (home->self) {
			struct another *other = next_for(p);

			// Nobody listens: the dispatcher's program is gone, and the switch
			// does not know it yet.
			if (other && !receiver_state(skb, p))
				return pass_on(skb, p, other);
			begin(p);
			return count(SYN_DELIVERED, TC_NEXT);
		}
		if (same_mac(from, home->mac))
			return count(SYN_DROPPED, TC_DROP);
		return forward(skb, p, home->mac, SYN_RETURNED);
	}

	struct next_hop *divert = bpf_map_lookup_elem(&shunt_divert, &p->flow);
	if (divert) {
		if (!same_mac(from, divert->mac))
			return follow(skb, p, divert);
		u8 settled = divert->settled & SETTLED;
		// It was early. By now its connection may be there, hence once more even if
		// that is so.
		if (p->offset & EARLY || !settled)
			return forward_within(skb, p, divert->mac, 255, settled ? 0 : EARLY, DIVERTED_AGAIN);
		return count(DROPPED_BOUNCED, TC_DROP);
	}
	u32 state = socket_state(skb, p);
	if (state == TCP_TIME_WAIT && p->empty && (p->flags & (TH_SYN | TH_FIN | TH_RST | TH_ACK)) == TH_ACK)
		return count(DROPPED_TIME_WAIT, TC_DROP);
	if (state == TCP_TIME_WAIT && !p->empty && home && !home->self && !same_mac(from, home->mac))
		return forward(skb, p, home->mac, RETURNED_HOME);
	int lives = *(u8 *)&p->ttl_word > 2; // long enough to come here again
	if (state == NASCENT && home && !home->self && lives)
		return forward_within(skb, p, home->mac, EARLY_HOPS, EARLY, RETURNED_EARLY);
	if (state)
		return count(DELIVERED_SOCKET, TC_NEXT);
	if (!home)
		return count(DROPPED_UNKNOWN_HOME, TC_DROP);
	if (home->self) {
		struct another *other = next_for(p);

		if (other && !follows_syn(p))
			return pass_on(skb, p, other);
		return count(DELIVERED_HOME, TC_NEXT);
	}
	if (!same_mac(from, home->mac))
		return forward(skb, p, home->mac, RETURNED_HOME);
	if (p->offset & EARLY && lives)
		return forward_within(skb, p, home->mac, EARLY_HOPS, EARLY, RETURNED_EARLY);
	return count(DROPPED_FROM_HOME, TC_DROP);
}

SEC("tc")
int shunt_guard(struct __sk_buff *skb)
{
	struct packet p = {};
	enum kind kind;

	// The kernel's TCP ignores frames for others (flooded by a bridge, or
	// seen in promiscuous mode) and broadcasts; tagged frames belong to
	// another interface.
	if (skb->pkt_type != PACKET_HOST || skb->vlan_present)
		return TC_NEXT;
	if (skb->protocol == htons(0x0800))
		kind = parse_v4(skb, &p);
	else if (skb->protocol == htons(0x86dd))
		kind = parse_v6(skb, &p);
	else
		return TC_NEXT;

	switch (kind) {
	case OTHER:
		return TC_NEXT;
	case FRAGMENT:
		return count(DELIVERED_FRAGMENT, TC_NEXT);
	case MALFORMED:
		return count(DROPPED_MALFORMED, TC_DROP);
	case SEGMENT:
		break;
	}
	if (bpf_skb_load_bytes(skb, 0, p.eth, sizeof(p.eth)) < 0)
		return count(DROPPED_MALFORMED, TC_DROP);
	return decide(skb, &p);
}
