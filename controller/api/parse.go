package api

import (
	"fmt"
	"net/netip"

	"google.golang.org/protobuf/proto"

	"github.com/shunt-sdn/shunt/controller/registry"
	shuntv1 "github.com/shunt-sdn/shunt/proto/shunt/v1"
)

// maxReport bounds a Report, encoded, octets.
const maxReport = 64 << 10

// Ends is a session as its sockets see it.
type Ends struct{ Client, Local netip.AddrPort }

// Held is a session that a node's kernel holds.
type Held struct {
	Ends
	Path      shuntv1.Path
	ProxiedTo string
	Owner     uint64 // of a diversion; 0: not known
}

func endsOf(s *shuntv1.Session) (Ends, error) {
	client, local, err := s.Ends()
	return Ends{client, local}, err
}

// parseEnds reads the session of the hand-off id.
func parseEnds(id string, s *shuntv1.Session) (Ends, error) {
	if id == "" || len(id) > registry.MaxID {
		return Ends{}, fmt.Errorf("hand-off's id has %d octets, want 1 to %d", len(id), registry.MaxID)
	}
	e, err := endsOf(s)
	if err != nil {
		return e, fmt.Errorf("hand-off %s: %w", id, err)
	}
	return e, nil
}

func parseSync(m *shuntv1.Sync) ([]Held, error) {
	held := make([]Held, 0, len(m.GetSessions()))
	for i, s := range m.GetSessions() {
		e, err := endsOf(s.GetSession())
		if err != nil {
			return nil, fmt.Errorf("session %d of %d: %w", i+1, len(m.Sessions), err)
		}
		if _, known := shuntv1.Path_name[int32(s.Path)]; !known {
			return nil, fmt.Errorf("session %d of %d: path %d is unknown", i+1, len(m.Sessions), s.Path)
		}
		held = append(held, Held{e, s.Path, s.ProxiedTo, s.Owner})
	}
	return held, nil
}

func parseReport(m *shuntv1.Report) ([]registry.Application, error) {
	if size := proto.Size(m); size > maxReport {
		return nil, fmt.Errorf("%d octets, at most %d are taken", size, maxReport)
	}
	return registry.ParseApplications(m.GetApplications())
}
