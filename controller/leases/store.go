// Package leases keeps what must outlive the controller's process: which
// session address belongs to which (service, dispatcher, family), the small
// numbers that conntrack marks are made of, and the nodes that the controller
// knew when it last ran.
//
// Everything is in one bbolt database. A change is on the disk before the
// method that makes it returns, so a process that is killed at any moment
// leaves either the state before a change or the one after it.
package leases

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"
)

// The database's buckets. Addresses are keys of their own so that two holders
// of one address cannot be written down.
var (
	bucketMeta    = []byte("meta")    // "version" → format; "next/<pool>" → the address after the last one leased
	bucketLeases  = []byte("leases")  // Key → address, 4 or 16 octets
	bucketHolders = []byte("holders") // address → Key
	bucketIndices = []byte("indices") // kind → bucket of name → index, 2 octets; "" → the last one allotted
	bucketNodes   = []byte("nodes")   // name → record
)

// format is the version of the database's layout.
const format = "1"

// lockTimeout is how long Open waits for another process to let go of the file.
const lockTimeout = 2 * time.Second

// Store is an open database. Its methods may be called concurrently.
type Store struct{ db *bbolt.DB }

// Open opens the database at path and makes it, and its directory, if there is
// none. Only one process can have it open.
func Open(path string) (*Store, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, fmt.Errorf("make the directory of the state database: %w", err)
	}
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{Timeout: lockTimeout})
	if errors.Is(err, bolterrors.ErrTimeout) {
		return nil, fmt.Errorf("open state database %s: another process has it open; is a controller running already?", path)
	}
	if err != nil {
		return nil, fmt.Errorf("open state database %s: %w; restore it from a copy, or remove it if no session lives", path, err)
	}
	if err := db.Update(prepare); err != nil {
		db.Close()
		return nil, fmt.Errorf("open state database %s: %w", path, err)
	}
	return &Store{db}, nil
}

func prepare(tx *bbolt.Tx) error {
	for _, name := range [][]byte{bucketMeta, bucketLeases, bucketHolders, bucketIndices, bucketNodes} {
		if _, err := tx.CreateBucketIfNotExists(name); err != nil {
			return err
		}
	}
	meta := tx.Bucket(bucketMeta)
	switch v := meta.Get([]byte("version")); {
	case v == nil:
		return meta.Put([]byte("version"), []byte(format))
	case string(v) != format:
		return fmt.Errorf("its format is %q and this program reads %q; use the program that wrote it", v, format)
	}
	return nil
}

// Close waits for transactions to end and closes the file.
func (s *Store) Close() error { return s.db.Close() }

// DB is the open database, for packages that keep buckets of their own in it:
// one file holds everything that outlives the controller.
func (s *Store) DB() *bbolt.DB { return s.db }
