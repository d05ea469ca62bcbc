package tcprepair

import "golang.org/x/sys/unix"

// Counts returns the octets that the socket has received and that its peer has
// acknowledged since it was made, sequence numbers of FINs included: the
// kernel's tcpi_bytes_received and tcpi_bytes_acked. Differences tell how far
// the sequence numbers of a State have moved on since.
func Counts(fd int) (received, acked uint64, err error) {
	var info unix.TCPInfo
	if err := getStruct(fd, unix.TCP_INFO, &info, "TCP_INFO"); err != nil {
		return 0, 0, err
	}
	return info.Bytes_received, info.Bytes_acked, nil
}
