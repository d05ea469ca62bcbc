package packet

import "encoding/binary"

// add adds the octets, taken as 16-bit words from an even offset on, to a sum
// in ones' complement (RFC 1071) that is not folded yet.
func add(sum uint64, b []byte) uint64 {
	for len(b) >= 4 {
		sum += uint64(binary.BigEndian.Uint32(b))
		b = b[4:]
	}
	if len(b) >= 2 {
		sum += uint64(binary.BigEndian.Uint16(b))
		b = b[2:]
	}
	if len(b) == 1 {
		sum += uint64(b[0]) << 8
	}
	return sum
}

func fold(sum uint64) uint16 {
	for sum>>16 != 0 {
		sum = sum&0xffff + sum>>16
	}
	return uint16(sum)
}

// replaced returns the complete checksum after octets that it covers changed from
// old to new (RFC 1624, equation 3). Both begin at an even offset.
func replaced(checksum uint16, old, new []byte) uint16 {
	return ^replacedSum(^checksum, old, new)
}

// replacedSum is replaced for a sum that is not complemented, as a partial
// checksum's pseudo-header sum.
func replacedSum(sum uint16, old, new []byte) uint16 {
	s := uint64(sum) + add(0, new)
	return fold(s + uint64(^fold(add(0, old))))
}

// Checksum returns the Internet checksum of the octets.
func Checksum(b []byte) uint16 { return ^fold(add(0, b)) }
