// Package guard keeps stray packets of sessions from doing harm.
//
// Packets of a live connection keep arriving at a node that no longer holds
// it, for as long as the switch's caches take to follow a move. Left to the
// kernel such a packet is answered with a RST. The guard is an eBPF program on
// the ingress of a node's data interface that decides, for each TCP packet
// whose destination is a session address (an address in a pool):
//
//  1. A SYN without ACK begins a new connection: the diversion of its tuple is
//     erased; at home it is delivered, or passed to another dispatcher if nothing
//     listens, elsewhere it is sent home.
//  2. A diverted tuple is forwarded to the node that it is diverted to.
//  3. A tuple that has a socket here (in any state but LISTEN) is delivered,
//     but for two things to one in TIME_WAIT: a bare ACK, which is dropped, and
//     payload that does not come from home, which is sent there.
//  4. At home everything else is delivered, unless another dispatcher may know it:
//     a listener may know it by its SYN cookie, or the kernel answers with a RST,
//     which is then right. If there is another dispatcher to ask for this session
//     address and client's port, it is passed to that one, with the session
//     address that that one has for the service.
//  5. Elsewhere it is sent home.
//  6. With no home known it is dropped.
//
// A bare ACK (no payload, no SYN, FIN or RST) can do nothing for a socket in
// TIME_WAIT, which has all that the client has sent, its FIN included. One that
// the client's FIN has overtaken, because the switch changed the session's path
// between the two, would be answered with an ACK, and the client, which has closed
// by then, would refuse that with a RST. The client's FIN, sent again, is
// delivered and acknowledged. (A closed socket that still awaits the client's FIN
// looks the same here. What a bare ACK could do there is to ask whether it lives,
// a keepalive; it goes unanswered for the minute for which the kernel keeps such a
// socket, and clients usually ask for longer before they give up.)
//
// Payload for a connection that is in TIME_WAIT here probably belongs to a later
// one: the client uses its port again, its SYN has gone home, and the switch still
// takes what follows for the old session. Home knows: it has the new connection,
// or it sends the packet on to where the old one is diverted to, and from there it
// is delivered.
//
// A packet is never forwarded back to the node whose MAC it carries as source,
// unless it is early (below); it is dropped and the client retransmits it, or,
// where it would be passed to another dispatcher, delivered: that one does not
// know it either. Forwarding
// needs a layer 2 network between nodes that leaves the source MAC alone. Every
// forwarded packet loses one from its TTL or hop limit, so that even a circle of
// three diversions, or of three dispatchers, ends.
//
// # Several dispatchers
//
// The switch spreads a service's connections over its dispatchers by bits 1 to 6
// of the client's port, and gives each packet the session address of the
// dispatcher whose share it is in. When a dispatcher comes or goes, shares change
// hands, and packets of connections that are older than that arrive where nothing
// knows them. [Guard.SetOthers] says whom to ask next, in a ring of all dispatchers
// that may have the share. There the packet meets the same decisions as if the
// switch had sent it: it is diverted, has a socket, or is passed on once more. The
// first one that passes it on takes away all its hops but 16 and as many as there
// are more dispatchers to ask; each of these takes one, and the one that gets it with
// 16 is the last. So none is asked twice, nothing goes round for long while the
// dispatchers hear of a change one after the other, and a diversion at the last one
// still has hops to spend. (A packet that comes with 16 hops or fewer is not passed
// on: its client is farther away than any on the Internet.)
//
// A SYN is passed on only if nothing listens for it here: the dispatcher's program
// has ended, and the switch does not know it yet. Else a new connection begins with
// the dispatcher that has the share now. If that one's kernel answers with a SYN
// cookie, nothing in the kernel knows the connection until the client's next packet. So the guard notes
// the SYNs that it delivers in such shares, and delivers what has the sequence
// number that follows a SYN's. It holds 65,536 of them; only a flood that brings
// as many more while the client's answer is on its way makes it forget one, whose
// connection is then refused. (The kernel can check cookies for an eBPF program,
// but only for one under the GPL.)
//
// # What is early
//
// What a client says while its connection is handed over, such as the body that it
// sends right after the head of a request, may reach the other node before the
// connection is there. If it were dropped, the client would send it again when its
// retransmission timer expires, 200 ms later or more. Nothing on the way can hold a
// packet for the few hundred microseconds, but the way itself can: of a diversion that
// is not settled home marks what it sends on by the second of TCP's reserved bits, and
// the other node sends what has the mark, and no socket, back to home, which sends it
// on again. A socket that is being restored, and hears nothing yet, counts as none; it
// is known by its priority (tcprepair.Nascent). The mark is not trusted
// but from home and, there, from the node that it is diverted to. It takes
// away all hops but 64, and each round takes two: of a session that never
// comes to be there a packet makes 31 rounds.
//
// # What teaches the switch
//
// A switch between the nodes sees what guards send on, and could take the short way
// for the next packet. A diversion that is settled may be learnt from: [Guard.Settle]
// says that it is, or the client shows it, by acknowledging what this node has not
// sent ([Guard.DivertUnanswered]). Then, from the third packet on, the first of TCP's reserved bits is set in what is sent
// on. It is for switches only, and means nothing to the node that gets the packet. A
// packet that ends the connection (FIN, RST), or comes after one that did, has it only
// if an earlier one had: who learns of a connection sees its end. Whatever else is
// sent on has the bit erased.
//
// Everything that is not TCP to a session address, and frames that the
// interface does not own (another's MAC, broadcast, VLAN-tagged), pass
// untouched, and "delivered" means passed on to the programs of others and the
// kernel. IPv4 options and up to eight IPv6 extension headers are read over.
//
// Fragments: the first fragment has the TCP header and is judged like a whole
// packet. Later ones have none and are delivered: the kernel acts on nothing
// that it cannot reassemble, and it reassembles only where the first fragment
// was delivered. A packet that reaches a session through a diversion must
// therefore be whole; TCP sets "don't fragment" and sees to that.
//
// # What outlives what
//
// The program and its maps belong to the interface, not to the process. They
// survive [Guard.Close] and a killed process, and the next [Open] on the
// interface adopts the maps with every diversion in them and swaps the program
// for its own in one step. [Guard.Detach] or the end of the interface ends
// them. The guard decides about nothing until [Guard.SetPools], so set homes
// and others, then pools, and only then give the host the addresses.
package guard
