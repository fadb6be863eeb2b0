//go:build !wasm

package jackfieldtest

import (
	"fmt"
	"sort"
	"strconv"

	"jackfield.dev/jackfield"
)

// The limits of the real host.
const (
	keyBytesMax    = 1024
	valueBytesMax  = 400 * 1024
	batchKeysMax   = 256
	bucketBytesMax = 64 * 1024 * 1024
	bucketKeysMax  = 100_000
)

// bucket has keys and values, and how much it may hold.
type bucket struct {
	name     string
	pairs    map[string]string
	bytes    int64
	bytesMax int64
	keysMax  int64
}

func (state *state) addBucket(name string, bytesMax, keysMax int64) {
	if state.buckets[name] == nil {
		state.buckets[name] = &bucket{name: name, pairs: map[string]string{}}
	}
	state.buckets[name].bytesMax, state.buckets[name].keysMax = bytesMax, keysMax
}

func (state *state) OpenBucket(name string) (jackfield.HostBucket, error) {
	checkParameters(len(name))
	state.mustCount()
	if len(state.buckets) == 0 {
		return nil, jackfield.ErrAccessDenied
	}
	if state.buckets[name] == nil {
		return nil, jackfield.ErrNoSuchStore
	}
	return &openBucket{state, state.buckets[name]}, nil
}

type openBucket struct {
	state  *state
	bucket *bucket
}

func (open *openBucket) begin(parameterBytes int) {
	checkParameters(parameterBytes)
	open.state.mustCount()
}

func (open *openBucket) Get(key string) (*string, error) {
	open.begin(len(key))
	if err := checkKey(key); err != nil {
		return nil, err
	}
	return open.bucket.read(key), nil
}

func (open *openBucket) Set(key, value string) error {
	open.begin(len(key) + len(value))
	if err := checkKey(key); err != nil {
		return err
	}
	if err := checkValue(value); err != nil {
		return err
	}
	return open.bucket.write(key, value)
}

func (open *openBucket) Delete(key string) error {
	open.begin(len(key))
	if err := checkKey(key); err != nil {
		return err
	}
	open.bucket.remove(key)
	return nil
}

func (open *openBucket) Exists(key string) (bool, error) {
	value, err := open.Get(key)
	return value != nil, err
}

func (open *openBucket) ListKeys(cursor *string) (jackfield.KeyPage, error) {
	open.begin(optionBytes(cursor))
	keys := make([]string, 0, len(open.bucket.pairs))
	for key := range open.bucket.pairs {
		if cursor == nil || key > *cursor {
			keys = append(keys, key)
		}
	}
	sort.Strings(keys)
	if len(keys) <= pageItems {
		return jackfield.KeyPage{Keys: keys}, nil
	}
	last := keys[pageItems-1]
	return jackfield.KeyPage{Keys: keys[:pageItems], Cursor: &last}, nil
}

func (open *openBucket) Increment(key string, delta int64) (int64, error) {
	open.begin(len(key))
	if err := checkKey(key); err != nil {
		return 0, err
	}
	now := int64(0)
	if value := open.bucket.read(key); value != nil {
		var err error
		if now, err = strconv.ParseInt(*value, 10, 64); err != nil {
			return 0, failure("the value of %s is not a decimal number", key)
		}
	}
	sum := now + delta
	if (delta > 0) != (sum > now) && delta != 0 {
		return 0, failure("%d and %d are more than a number can be", now, delta)
	}
	return sum, open.bucket.write(key, strconv.FormatInt(sum, 10))
}

func (open *openBucket) GetMany(keys []string) ([]*string, error) {
	open.begin(textsBytes(keys))
	if err := checkKeys(keys); err != nil {
		return nil, err
	}
	values := make([]*string, len(keys))
	bytes := 0
	for index, key := range keys {
		values[index] = open.bucket.read(key)
		bytes += optionBytes(values[index])
	}
	if bytes > callBytesMax {
		return nil, failure("%d bytes of values in one call: at most %d", bytes, callBytesMax)
	}
	return values, nil
}

func (open *openBucket) SetMany(pairs []jackfield.Field) error {
	open.begin(fieldsBytes(pairs))
	keys := make([]string, len(pairs))
	for index, pair := range pairs {
		keys[index] = pair.Name
	}
	if err := checkKeys(keys); err != nil {
		return err
	}
	for _, pair := range pairs {
		if err := checkValue(pair.Value); err != nil {
			return err
		}
	}
	for _, pair := range pairs {
		if err := open.bucket.write(pair.Name, pair.Value); err != nil {
			return err
		}
	}
	return nil
}

func (open *openBucket) DeleteMany(keys []string) error {
	open.begin(textsBytes(keys))
	if err := checkKeys(keys); err != nil {
		return err
	}
	for _, key := range keys {
		open.bucket.remove(key)
	}
	return nil
}

func (open *openBucket) NewCAS(key string) (jackfield.HostCAS, error) {
	seen, err := open.Get(key)
	if err != nil {
		return nil, err
	}
	return &cas{open, key, seen}, nil
}

// cas has the value that was read last, which Swap expects.
type cas struct {
	open *openBucket
	key  string
	seen *string
}

func (cas *cas) Current() (*string, error) {
	cas.open.begin(0)
	cas.seen = cas.open.bucket.read(cas.key)
	return cas.seen, nil
}

func (cas *cas) Swap(value string) (jackfield.HostCAS, error) {
	cas.open.begin(len(value))
	if err := checkValue(value); err != nil {
		return nil, err
	}
	now := cas.open.bucket.read(cas.key)
	if (now == nil) != (cas.seen == nil) || now != nil && *now != *cas.seen {
		next := *cas
		next.seen = now
		return &next, jackfield.ErrConflict
	}
	return nil, cas.open.bucket.write(cas.key, value)
}

func (bucket *bucket) read(key string) *string {
	value, exists := bucket.pairs[key]
	if !exists {
		return nil
	}
	return &value
}

func (bucket *bucket) remove(key string) {
	if value, exists := bucket.pairs[key]; exists {
		bucket.bytes -= int64(len(key) + len(value))
		delete(bucket.pairs, key)
	}
}

// write writes a value, if the bucket has space for it. A write that adds neither keys nor bytes always fits.
func (bucket *bucket) write(key, value string) error {
	bytes, keys := bucket.bytes+int64(len(key)+len(value)), int64(len(bucket.pairs))+1
	if before, exists := bucket.pairs[key]; exists {
		bytes -= int64(len(key) + len(before))
		keys--
	}
	hasTooManyKeys := keys > bucket.keysMax && keys > int64(len(bucket.pairs))
	if hasTooManyKeys || bytes > bucket.bytesMax && bytes > bucket.bytes {
		return failure("the bucket %q is full", bucket.name)
	}
	bucket.pairs[key], bucket.bytes = value, bytes
	return nil
}

func checkKey(key string) error {
	if len(key) > keyBytesMax {
		return failure("a key has at most %d bytes", keyBytesMax)
	}
	return nil
}

func checkValue(value string) error {
	if len(value) > valueBytesMax {
		return failure("a value has at most %d bytes", valueBytesMax)
	}
	return nil
}

// checkKeys checks all keys before the first one is used, so that a batch with a bad key changes nothing.
func checkKeys(keys []string) error {
	if len(keys) > batchKeysMax {
		return failure("%d keys in one call: at most %d", len(keys), batchKeysMax)
	}
	for _, key := range keys {
		if err := checkKey(key); err != nil {
			return err
		}
	}
	return nil
}

func failure(format string, arguments ...any) error {
	return fmt.Errorf("%w: %s", jackfield.ErrBucket, fmt.Sprintf(format, arguments...))
}
