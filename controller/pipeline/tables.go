package pipeline

// The flow tables, in the order in which packets meet them; a flow only ever
// leads to a higher table. See docs/flow-tables.md.
const (
	TablePorts      uint8 = 0   // which interface a port belongs to
	TableInterfaces uint8 = 1   // 1 … 90: one table per interface, in their order
	TableAdvertise  uint8 = 95  // the second half of answering a neighbour solicitation
	TableDiverted   uint8 = 100 // packets that a guard sent on to another node
	TableReplies    uint8 = 101 // session address → VIP
	TableServices   uint8 = 102 // VIP:port: SYNs, other packets; the rest is routed
	TableSYN        uint8 = 103 // conntrack steering only: a SYN erases the mark
	TableSteer      uint8 = 104 // which node holds the session
	TableLease      uint8 = 105 // conntrack steering only: which session address
	TableHome       uint8 = 106 // the home of a connection: VIP → session address
	TableRoutes     uint8 = 107 // longest prefix first
	TableEgress     uint8 = 108 // hardware address → interface and port
	TableProbe      uint8 = 200 // what the switch can do is tried out here
)

// PriorityPort is the priority of the flows in TablePorts, which claim the ports
// of interfaces.
const PriorityPort = 100

// MaxInterfaces is how many interfaces a switch can have.
const MaxInterfaces = 90

// Priorities in the table of an interface.
const (
	prioNeighbourUs   = 700 // questions and answers for our own addresses
	prioNeighbourFlow = 690 // … answered in the switch
	prioNeighbourAll  = 640 // other questions: flooded, copied to the controller
	prioDiverted      = 600
	prioPoolDst       = 590 // drop
	prioOthersReply   = 585 // drop
	prioReply         = 580
	prioPoolSrc       = 570 // drop
	prioEcho          = 510
	prioRouted        = 500
	prioSwitched      = 100
	prioOurMAC        = 90 // drop
	prioLearn         = 50
	prioFlood         = 10
)

// Priorities in the other tables.
const (
	prioPort         = PriorityPort
	prioFenceHome    = 420
	prioFence        = 410 // drop
	prioSYN          = 400
	prioService      = 300
	prioSession      = 200 // steering of one session
	prioMark         = 100
	prioAdvertise    = 100
	prioHome         = 100 // plus the number of source port bits that count
	prioTeach        = 200
	prioDeliver      = 100
	prioDeliverBack  = 110
	prioOwnAddress   = 1990
	prioRoute        = 1000 // plus three times the prefix length, plus 0 … 2
	prioRouteOnLink  = 1
	prioRouteHost    = 2
	prioMiss         = 0
	prioRouteLength  = 3
	maxControllerLen = 0xffff
)
