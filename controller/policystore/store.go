// Package policystore keeps the dispatch policy: services, pools and servers,
// each with a version, and a revision of the whole.
//
// It is in the controller's database. A change is one transaction that is on
// the disk before the method that makes it returns: a process that is killed at
// any moment leaves the policy before the change or the one after it, never a
// part of it. What is stored is also in memory, as a State that is never
// changed, so that readers need no transaction.
package policystore

import (
	"encoding/binary"
	"errors"
	"fmt"
	"sync"

	"go.etcd.io/bbolt"
	"google.golang.org/protobuf/proto"

	shuntv1 "github.com/shunt-sdn/shunt/proto/shunt/v1"
)

// The database's buckets and keys.
var (
	bucketPolicy = []byte("policy")   // a bucket per kind: name → resource; and
	keyRevision  = []byte("revision") // → 8 octets, big-endian
	keyStates    = []byte("states")   // → PolicySnapshot with states alone
)

// State is the policy at a revision. It is never changed.
type State struct {
	// Revision grows with each change; 0: nothing was ever stored.
	Revision uint64
	// Policy is ordered by name.
	Policy *shuntv1.Policy
}

// Store is the policy in an open database. Its methods may be called
// concurrently.
type Store struct {
	db *bbolt.DB

	writing sync.Mutex // held while a change is made

	mu      sync.Mutex // guards what follows
	state   *State
	changed chan struct{} // closed by the next change
}

// Open reads the policy from db, which stays the caller's.
func Open(db *bbolt.DB) (*Store, error) {
	s := &Store{db: db, changed: make(chan struct{}), state: &State{Policy: &shuntv1.Policy{}}}
	err := db.Update(func(tx *bbolt.Tx) error {
		b, err := tx.CreateBucketIfNotExists(bucketPolicy)
		if err != nil {
			return err
		}
		if v := b.Get(keyRevision); v != nil {
			if len(v) != 8 {
				return fmt.Errorf("its revision has %d octets", len(v))
			}
			s.state.Revision = binary.BigEndian.Uint64(v)
		}
		for _, k := range Kinds {
			resources, err := b.CreateBucketIfNotExists([]byte(KindName(k)))
			if err != nil {
				return err
			}
			if err := resources.ForEach(func(name, record []byte) error {
				r := newResource(k)
				if err := proto.Unmarshal(record, r); err != nil {
					return fmt.Errorf("%s %s: %w", KindName(k), name, err)
				}
				Add(s.state.Policy, r)
				return nil
			}); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read the policy from the state database: %w; restore the file from a copy, or the policy from an export", err)
	}
	sort(s.state.Policy)
	return s, nil
}

// Latest returns the policy as it is, and what is closed when it is not any
// more.
func (s *Store) Latest() (*State, <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.state, s.changed
}

// State returns the policy as it is.
func (s *Store) State() *State {
	state, _ := s.Latest()
	return state
}

// Update makes the change that plan derives from the present state, on the
// disk and then for readers. One is made at a time. Without Changes, or after an
// error of plan, nothing is written but what is beside it. It returns the state
// after the change.
func (s *Store) Update(plan func(*State) (*Plan, error)) (*State, *Plan, error) {
	s.writing.Lock()
	defer s.writing.Unlock()
	old := s.State()
	p, err := plan(old)
	if err != nil {
		return old, nil, err
	}
	changes := p.changes()
	if p.dry || !changes && p.Beside == nil {
		return old, p, nil
	}
	if err := s.db.Update(func(tx *bbolt.Tx) error {
		if p.Beside != nil {
			if err := p.Beside(tx); err != nil {
				return err
			}
		}
		if !changes {
			return nil
		}
		return p.write(tx)
	}); err != nil {
		return old, nil, fmt.Errorf("write the policy to the state database: %w", err)
	}
	if !changes {
		return old, p, nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.state = p.next
	close(s.changed)
	s.changed = make(chan struct{})
	return s.state, p, nil
}

// write puts the plan's changes into a transaction.
func (p *Plan) write(tx *bbolt.Tx) error {
	b := tx.Bucket(bucketPolicy)
	for _, c := range p.Changes {
		resources := b.Bucket([]byte(KindName(c.Kind)))
		switch c.What {
		case shuntv1.ChangeKind_CHANGE_KIND_UNCHANGED:
		case shuntv1.ChangeKind_CHANGE_KIND_DELETED:
			if err := resources.Delete([]byte(c.Name)); err != nil {
				return err
			}
		default:
			record, err := proto.Marshal(c.New)
			if err != nil {
				return err
			}
			if err := resources.Put([]byte(c.Name), record); err != nil {
				return err
			}
		}
	}
	return b.Put(keyRevision, binary.BigEndian.AppendUint64(nil, p.next.Revision))
}

// Health returns the states of servers as they were last kept.
func (s *Store) Health() ([]*shuntv1.ServerState, error) {
	var m shuntv1.PolicySnapshot
	err := s.db.View(func(tx *bbolt.Tx) error {
		return proto.Unmarshal(tx.Bucket(bucketPolicy).Get(keyStates), &m)
	})
	if err != nil {
		return nil, fmt.Errorf("read the servers' health from the state database: %w", err)
	}
	return m.States, nil
}

// KeepHealth keeps the states of servers, so that a controller that starts again
// does not send requests to servers that were known to fail.
func (s *Store) KeepHealth(states []*shuntv1.ServerState) error {
	record, err := proto.Marshal(&shuntv1.PolicySnapshot{States: states})
	err = errors.Join(err, s.db.Update(func(tx *bbolt.Tx) error {
		return tx.Bucket(bucketPolicy).Put(keyStates, record)
	}))
	if err != nil {
		return fmt.Errorf("write the servers' health to the state database: %w", err)
	}
	return nil
}
