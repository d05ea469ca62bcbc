package wire

import "fmt"

// Error types and codes, 7.4.4.
const (
	HelloFailed     = 0
	BadRequest      = 1
	BadAction       = 2
	BadInstruction  = 3
	BadMatch        = 4
	FlowModFailed   = 5
	GroupModFailed  = 6
	PortModFailed   = 7
	TableModFailed  = 8
	SwitchConfig    = 10
	RoleFailed      = 11
	TableFeatFailed = 13
)

// An Error is what a switch answers to a message that it does not carry out.
type Error struct {
	Type, Code uint16
	Text       string // for the log; not sent, except for HelloFailed
}

func (e *Error) Error() string {
	return fmt.Sprintf("openflow error %d/%d: %s", e.Type, e.Code, e.Text)
}

// Is compares type and code.
func (e *Error) Is(target error) bool {
	t, ok := target.(*Error)
	return ok && t.Type == e.Type && t.Code == e.Code
}

// The errors that the switch answers with.
var (
	ErrIncompatible       = &Error{HelloFailed, 0, "no version in common: this switch speaks OpenFlow 1.3"}
	ErrBadVersion         = &Error{BadRequest, 0, "message of another OpenFlow version"}
	ErrBadType            = &Error{BadRequest, 1, "unknown message type"}
	ErrBadMultipart       = &Error{BadRequest, 2, "unknown multipart type"}
	ErrBadExperimenter    = &Error{BadRequest, 3, "unknown experimenter"}
	ErrBadExpType         = &Error{BadRequest, 4, "unknown experimenter message"}
	ErrBadLen             = &Error{BadRequest, 6, "wrong length"}
	ErrBufferUnknown      = &Error{BadRequest, 8, "this switch buffers no packets"}
	ErrBadTableID         = &Error{BadRequest, 9, "no such table"}
	ErrIsSlave            = &Error{BadRequest, 10, "the connection's role is slave"}
	ErrBadPort            = &Error{BadRequest, 11, "bad port"}
	ErrBadPacket          = &Error{BadRequest, 12, "bad packet"}
	ErrActionType         = &Error{BadAction, 0, "unknown action"}
	ErrActionLen          = &Error{BadAction, 1, "wrong action length"}
	ErrActionExperimenter = &Error{BadAction, 2, "unknown action experimenter"}
	ErrActionExpType      = &Error{BadAction, 3, "unknown experimenter action"}
	ErrOutPort            = &Error{BadAction, 4, "bad output port"}
	ErrActionArgument     = &Error{BadAction, 5, "bad action argument"}
	ErrOutGroup           = &Error{BadAction, 9, "no such group"}
	ErrMatchInconsistent  = &Error{BadAction, 10, "the action does not fit the match"}
	ErrSetType            = &Error{BadAction, 13, "the field cannot be set"}
	ErrSetLen             = &Error{BadAction, 14, "wrong length of a set-field"}
	ErrSetArgument        = &Error{BadAction, 15, "bad value of a set-field"}
	ErrInstruction        = &Error{BadInstruction, 0, "unknown instruction"}
	ErrInstructionUnsup   = &Error{BadInstruction, 1, "unsupported instruction"}
	ErrGotoTable          = &Error{BadInstruction, 2, "goto to a table that does not exist or does not follow"}
	ErrInstructionExp     = &Error{BadInstruction, 5, "unknown instruction experimenter"}
	ErrInstructionLen     = &Error{BadInstruction, 7, "wrong instruction length"}
	ErrMatchType          = &Error{BadMatch, 0, "match is not OXM"}
	ErrMatchLen           = &Error{BadMatch, 1, "wrong match length"}
	ErrMatchWildcards     = &Error{BadMatch, 5, "value has bits outside its mask"}
	ErrMatchField         = &Error{BadMatch, 6, "unknown match field"}
	ErrMatchValue         = &Error{BadMatch, 7, "match value out of range"}
	ErrMatchMask          = &Error{BadMatch, 8, "the field takes no such mask"}
	ErrMatchPrereq        = &Error{BadMatch, 9, "a field that the match field depends on is missing"}
	ErrMatchDup           = &Error{BadMatch, 10, "field matched twice"}
	ErrTableFull          = &Error{FlowModFailed, 1, "table full"}
	ErrFlowTableID        = &Error{FlowModFailed, 2, "no such table"}
	ErrOverlap            = &Error{FlowModFailed, 3, "overlaps a flow of the same priority"}
	ErrFlowCommand        = &Error{FlowModFailed, 6, "unknown flow mod command"}
	ErrFlowFlags          = &Error{FlowModFailed, 7, "unknown flow mod flags"}
	ErrGroupExists        = &Error{GroupModFailed, 0, "group exists"}
	ErrInvalidGroup       = &Error{GroupModFailed, 1, "invalid group"}
	ErrOutOfGroups        = &Error{GroupModFailed, 3, "too many groups"}
	ErrGroupLoop          = &Error{GroupModFailed, 7, "groups form a loop"}
	ErrUnknownGroup       = &Error{GroupModFailed, 8, "no such group"}
	ErrGroupType          = &Error{GroupModFailed, 10, "unknown group type"}
	ErrGroupCommand       = &Error{GroupModFailed, 11, "unknown group mod command"}
	ErrBucket             = &Error{GroupModFailed, 12, "bad bucket"}
	ErrPortModPort        = &Error{PortModFailed, 0, "no such port"}
	ErrPortModHWAddr      = &Error{PortModFailed, 1, "the hardware address is another's"}
	ErrTableModTable      = &Error{TableModFailed, 0, "no such table"}
	ErrConfigFlags        = &Error{SwitchConfig, 0, "unknown configuration flags"}
	ErrStaleGeneration    = &Error{RoleFailed, 0, "stale generation_id"}
	ErrRole               = &Error{RoleFailed, 2, "unknown role"}
	ErrTableFeaturesEPERM = &Error{TableFeatFailed, 5, "table features cannot be changed"}
)
