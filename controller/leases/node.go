package leases

import (
	"bytes"
	"errors"
	"fmt"

	"go.etcd.io/bbolt"
)

// PutNodes writes records of nodes, each under its name, in one transaction;
// a nil record removes the node and its index.
func (s *Store) PutNodes(records map[string][]byte) error {
	err := s.db.Update(func(tx *bbolt.Tx) error {
		for name, record := range records {
			if record != nil {
				if err := tx.Bucket(bucketNodes).Put([]byte(name), record); err != nil {
					return err
				}
				continue
			}
			err := tx.Bucket(bucketNodes).Delete([]byte(name))
			if b := tx.Bucket(bucketIndices).Bucket([]byte(KindNode)); b != nil {
				err = errors.Join(err, b.Delete([]byte(name)))
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("write nodes to the state database: %w", err)
	}
	return nil
}

// Nodes returns every record by name.
func (s *Store) Nodes() (map[string][]byte, error) {
	out := make(map[string][]byte)
	err := s.db.View(func(tx *bbolt.Tx) error {
		return tx.Bucket(bucketNodes).ForEach(func(name, record []byte) error {
			out[string(name)] = bytes.Clone(record)
			return nil
		})
	})
	return out, err
}
