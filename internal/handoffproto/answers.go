package handoffproto

import "encoding/binary"

// Heed is what an agent says that wants to hear how an application answers.
type Heed struct{}

// Answers tells how an application answered since the frame before.
type Answers struct {
	Errors uint32 // answers with a status of 500 to 599
	InARow uint32 // of these, how many came after the latest other answer; all, if there was none
	Others bool   // there were other answers
}

// Append implements Frame.
func (Heed) Append(b []byte) ([]byte, error) { return header(b, kindHeed), nil }

// Append implements Frame.
func (a Answers) Append(b []byte) ([]byte, error) {
	b = binary.BigEndian.AppendUint32(header(b, kindAnswers), a.Errors)
	b = binary.BigEndian.AppendUint32(b, a.InARow)
	if a.Others {
		return append(b, 1), nil
	}
	return append(b, 0), nil
}
