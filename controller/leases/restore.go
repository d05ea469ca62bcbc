package leases

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"

	"go.etcd.io/bbolt"
)

// Restore leases the addresses to the keys, in the caller's transaction, which
// an error must end. What the keys had is freed, and so is who had the addresses: whether
// that may be is for the caller to say.
func Restore(tx *bbolt.Tx, list []Lease) error {
	for _, l := range list {
		if err := l.check(); err != nil {
			return err
		}
		if l.Address.Is6() != l.IPv6 {
			return fmt.Errorf("lease %v to %v: the address is of the other family", l.Address, l.Key)
		}
		key := []byte(l.Key.String())
		if holder := bytes.Clone(tx.Bucket(bucketHolders).Get(l.Address.AsSlice())); holder != nil && !bytes.Equal(holder, key) {
			if err := free(tx, holder); err != nil {
				return err
			}
		}
		held := tx.Bucket(bucketLeases).Get(key)
		if a, ok := netip.AddrFromSlice(held); ok && a == l.Address {
			continue
		}
		if held != nil {
			if err := free(tx, key); err != nil {
				return err
			}
		}
		if err := errors.Join(tx.Bucket(bucketHolders).Put(l.Address.AsSlice(), key), tx.Bucket(bucketLeases).Put(key, l.Address.AsSlice())); err != nil {
			return err
		}
	}
	return nil
}

// Leasable reports whether an address can be leased at all: a pool contains it,
// and it is neither the first nor the last of that pool.
func Leasable(pools []netip.Prefix, a netip.Addr) bool {
	for _, p := range pools {
		if p.Contains(a) {
			return a != p.Masked().Addr() && a != lastOf(p)
		}
	}
	return false
}
