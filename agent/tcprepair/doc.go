// Package tcprepair takes a live TCP connection out of one Linux kernel and puts
// it into another, or into another socket of the same one, with the TCP_REPAIR
// socket options of stock Linux.
//
// A move is
//
//	source                          target
//	Freeze(fd)
//	s, err := Dump(fd)
//	                 State  ──►     fd, err := Restore(s)
//	                                … attach fd to an application …
//	s.Unchanged(fd)                 Activate(fd, s)
//	CloseSilently(fd)
//
// and everything before Activate can be undone: Thaw lets the source go on as if
// nothing had happened, CloseSilently removes the copy on the target, and the
// peer has seen no packet of either.
//
// # A frozen socket is deaf
//
// TCP_REPAIR by itself does not stop reception: the kernel goes on to accept and
// to acknowledge what arrives, and what it acknowledged after the dump is lost
// with the copy that is thrown away. So every socket that this package puts into
// repair mode also carries a socket filter that drops each incoming packet, from
// Freeze until Thaw and from before Restore's connect until Activate. The peer
// retransmits what was dropped; a caller who wants to spare it that diverts the
// packets on their way in. A frozen socket is not mute: its timers can retransmit
// what the dump holds too, which the peer discards. After the end of the moved
// connection they would meet no socket there, and be answered with an RST, so
// close the source as soon as the target is active.
//
// # What is not carried
//
// The kernel lets nobody read or write the congestion window, the round-trip
// estimate, the retransmission timeout, the out-of-order queue (the peer still
// holds it and sends it again) and the negotiation of ECN.
//
// So a restored connection starts with the initial window and, unlike one that has
// seen a handshake, with a retransmission timeout of 3 s (1 s for a tail loss
// probe, with SACK), until something that it sends is acknowledged, or unless the
// host remembers the peer (tcp_metrics). And it does not echo congestion marks:
// a node that accepts connections to be moved should run with net.ipv4.tcp_ecn=0.
//
// By choice, the congestion control algorithm is that of the target, whose network
// it has to suit; TCP_CORK, IP_TOS, SO_MARK, SO_PRIORITY and socket filters of the
// application do not travel.
//
// # Half-closed connections
//
// A connection whose peer has sent its FIN (CLOSE_WAIT) is moved, see
// State.FinReceived. One whose own side has sent or queued a FIN is refused with
// ErrUnsupportedState.
//
// Sources: net/ipv4/tcp.c, tcp_output.c and inet_hashtables.c of Linux 6.x; the
// order of steps is that which CRIU found (soccr/). Needs CAP_NET_ADMIN in the
// user namespace of the socket's network namespace, and kernel 4.8 or later;
// before 5.15 a connection restored with large queues keeps fixed buffer sizes.
//
// Restore makes its sockets in the network namespace of the calling thread. All
// functions take plain descriptors, do not block, and leave their ownership with
// the caller, except CloseSilently. No two of them may run at once on the same
// descriptor, and nobody may read or write a frozen one.
package tcprepair
