package leases

import (
	"encoding/binary"
	"errors"
	"fmt"

	"go.etcd.io/bbolt"
)

// Kinds of things that have an index, as package steering names them.
const (
	// KindAddress is for session addresses. Freed with the lease.
	KindAddress = "session-address"
	// KindNode is for nodes, by name. Freed with the node's record.
	KindNode = "node"
)

// lastKey holds the index that was allotted last; no name is empty.
var lastKey = []byte{0}

// Index returns the number, 1 to 65535, that the thing of that kind and name
// has as long as it is not freed, across restarts. The first call allots it;
// numbers are taken in a ring, so that a freed one is not taken soon: marks
// made of it may still be in a switch. If the kind has all 65535 in use, or
// the database cannot be written, Index returns an error and 0, which is no
// thing's number.
func (s *Store) Index(kind, name string) (uint16, error) {
	if name == "" {
		return 0, fmt.Errorf("index of a %s without a name", kind)
	}
	var index uint16
	err := s.db.View(func(tx *bbolt.Tx) error {
		if b := tx.Bucket(bucketIndices).Bucket([]byte(kind)); b != nil {
			index = number(b.Get([]byte(name)))
		}
		return nil
	})
	if err != nil || index != 0 {
		return index, err
	}
	err = s.db.Update(func(tx *bbolt.Tx) error {
		b, err := tx.Bucket(bucketIndices).CreateBucketIfNotExists([]byte(kind))
		if err != nil {
			return err
		}
		index, err = allot(b, name)
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("number %s %s in the state database: %w", kind, name, err)
	}
	return index, nil
}

func allot(b *bbolt.Bucket, name string) (uint16, error) {
	if n := number(b.Get([]byte(name))); n != 0 {
		return n, nil
	}
	used := make(map[uint16]bool)
	last := number(b.Get(lastKey))
	if err := b.ForEach(func(k, v []byte) error {
		if len(k) != 1 || k[0] != 0 {
			used[number(v)] = true
		}
		return nil
	}); err != nil {
		return 0, err
	}
	n := last
	for range 65535 {
		if n++; n == 0 {
			n = 1
		}
		if !used[n] {
			value := binary.BigEndian.AppendUint16(nil, n)
			return n, errors.Join(b.Put(lastKey, value), b.Put([]byte(name), value))
		}
	}
	return 0, errors.New("all 65535 numbers are in use; remove nodes or services that are gone")
}

func number(v []byte) uint16 {
	if len(v) != 2 {
		return 0
	}
	return binary.BigEndian.Uint16(v)
}

// FreeIndex forgets a number. It is no error if there is none.
func (s *Store) FreeIndex(kind, name string) error {
	err := s.db.Update(func(tx *bbolt.Tx) error {
		if b := tx.Bucket(bucketIndices).Bucket([]byte(kind)); b != nil && name != "" {
			return b.Delete([]byte(name))
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("free the number of %s %s in the state database: %w", kind, name, err)
	}
	return nil
}
