package jackfield

import (
	"encoding/json"
	"errors"
	"iter"
)

// updateTries is how often Update tries before it gives up. A try fails only if another update has succeeded meanwhile.
const updateTries = 32

// Bucket has keys and values, for data that outlives a connection. A key has at most 1,024 bytes, a value at most
// 400 KiB.
type Bucket struct {
	host HostBucket
}

// OpenBucket opens a bucket. The error is ErrNoSuchStore if the manifest does not grant it, and ErrAccessDenied if it
// grants no bucket at all.
func OpenBucket(name string) (*Bucket, error) {
	host, err := currentHost().OpenBucket(name)
	if err != nil {
		return nil, err
	}
	return &Bucket{host}, nil
}

// Get returns the value of a key, and whether there is one.
func (bucket *Bucket) Get(key string) ([]byte, bool, error) {
	return optional(bucket.host.Get(key))
}

// GetJSON parses the value of a key as JSON, and returns whether there is one.
func (bucket *Bucket) GetJSON(key string, value any) (bool, error) {
	data, exists, err := bucket.Get(key)
	if err != nil || !exists {
		return false, err
	}
	return true, json.Unmarshal(data, value)
}

// Set sets the value of a key.
func (bucket *Bucket) Set(key string, value []byte) error {
	return bucket.host.Set(key, string(value))
}

// SetJSON sets the value of a key to the value as JSON.
func (bucket *Bucket) SetJSON(key string, value any) error {
	data, err := json.Marshal(value)
	if err != nil {
		return err
	}
	return bucket.host.Set(key, stringOf(data))
}

// Delete deletes a key. It is no error if the key does not exist.
func (bucket *Bucket) Delete(key string) error {
	return bucket.host.Delete(key)
}

// Exists returns whether a key exists.
func (bucket *Bucket) Exists(key string) (bool, error) {
	return bucket.host.Exists(key)
}

// Increment adds delta to a decimal number and returns the sum, atomically. A key that does not exist counts as 0.
func (bucket *Bucket) Increment(key string, delta int64) (int64, error) {
	return bucket.host.Increment(key, delta)
}

// KeyPage is a page of keys.
type KeyPage struct {
	Keys []string
	// Cursor is that of the next page; nil if this page is the last one.
	Cursor *string
}

// Keys iterates over all keys, sorted by their bytes. They are fetched in pages, when they are needed. An error is the
// last item.
func (bucket *Bucket) Keys() iter.Seq2[string, error] {
	return pages(func(cursor *string) ([]string, *string, error) {
		page, err := bucket.host.ListKeys(cursor)
		return page.Keys, page.Cursor, err
	})
}

// ListKeys returns the page of a cursor, which is nil for the first page: up to 256 keys.
func (bucket *Bucket) ListKeys(cursor *string) (KeyPage, error) {
	return bucket.host.ListKeys(cursor)
}

// GetMany returns the values of at most 256 keys in one call, in the order of the keys; nil for a key that does not
// exist. The call is not atomic.
func (bucket *Bucket) GetMany(keys []string) ([][]byte, error) {
	found, err := bucket.host.GetMany(keys)
	if err != nil {
		return nil, err
	}
	values := make([][]byte, len(found))
	for index, value := range found {
		if value != nil {
			values[index] = append([]byte{}, *value...)
		}
	}
	return values, nil
}

// KeyValue is a key with its value.
type KeyValue struct {
	Key   string
	Value []byte
}

// SetMany sets at most 256 keys in one call. The call is not atomic: after an error, some of them may be set.
func (bucket *Bucket) SetMany(pairs ...KeyValue) error {
	converted := make([]Field, len(pairs))
	for index, pair := range pairs {
		converted[index] = Field{pair.Key, string(pair.Value)}
	}
	return bucket.host.SetMany(converted)
}

// DeleteMany deletes at most 256 keys in one call, which is not atomic.
func (bucket *Bucket) DeleteMany(keys []string) error {
	return bucket.host.DeleteMany(keys)
}

// CAS is a handle for a compare-and-swap: it writes a value only if the key still has the value that was read last.
type CAS struct {
	host HostCAS
}

// NewCAS reads the value of a key and returns a handle for its replacement.
func (bucket *Bucket) NewCAS(key string) (*CAS, error) {
	host, err := bucket.host.NewCAS(key)
	if err != nil {
		return nil, err
	}
	return &CAS{host}, nil
}

// Current reads the value of the key again, and returns whether there is one.
func (cas *CAS) Current() ([]byte, bool, error) {
	return optional(cas.host.Current())
}

// Swap sets the value, if the key still has the value that was read last. Otherwise the error is ErrConflict, and the
// handle has the current value. After success or any other error the handle must not be used any more.
func (cas *CAS) Swap(value []byte) error {
	next, err := cas.host.Swap(string(value))
	cas.host = next
	return err
}

// Update replaces a value by the result of change, and returns it. Writes of other events are not lost: if one comes in
// between, change is called again with the new value, which is nil if there is none. After 32 tries in vain the error is
// ErrConflict.
func (bucket *Bucket) Update(key string, change func(current []byte) ([]byte, error)) ([]byte, error) {
	cas, err := bucket.NewCAS(key)
	if err != nil {
		return nil, err
	}
	for range updateTries {
		current, _, err := cas.Current()
		if err != nil {
			return nil, err
		}
		value, err := change(current)
		if err != nil {
			return nil, err
		}
		if err = cas.Swap(value); err == nil {
			return value, nil
		}
		if !errors.Is(err, ErrConflict) {
			return nil, err
		}
	}
	return nil, ErrConflict
}

// UpdateJSON changes a value that is stored as JSON, and returns the new one. Writes of other events are not lost, as
// with Update. A key that does not exist starts with the zero value.
func UpdateJSON[T any](bucket *Bucket, key string, change func(value *T) error) (T, error) {
	var value T
	_, err := bucket.Update(key, func(current []byte) ([]byte, error) {
		var none T
		value = none
		if current != nil {
			if err := json.Unmarshal(current, &value); err != nil {
				return nil, err
			}
		}
		if err := change(&value); err != nil {
			return nil, err
		}
		return json.Marshal(value)
	})
	return value, err
}

func optional(value *string, err error) ([]byte, bool, error) {
	if err != nil || value == nil {
		return nil, false, err
	}
	return append([]byte{}, *value...), true, nil
}
