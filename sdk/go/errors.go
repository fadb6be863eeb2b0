package jackfield

import "errors"

// The reasons why an operation on a connection was rejected, for errors.Is.
var (
	// ErrGone: there is no such connection, it is closed, or its $connect has not ended (410).
	ErrGone = errors.New("the connection is gone")
	// ErrPayloadTooLarge: the payload is larger than the limit for a message, which is 128 KiB (413).
	ErrPayloadTooLarge = errors.New("the payload is larger than a message may be")
	// ErrLimitExceeded: the peer reads too slowly, or the handler sends too much (429).
	ErrLimitExceeded = errors.New("more was sent than the peer takes")
	// ErrForbidden: the manifest does not grant connections to this handler (403).
	ErrForbidden = errors.New("the handler has no grant for connections")
)

// The reasons why an operation of the connection store or of a bucket failed, for errors.Is.
var (
	// ErrNoSuchConnection: the connection has no row, or has none any more.
	ErrNoSuchConnection = errors.New("the connection has no row")
	// ErrTooLarge: the row would have more attributes, or longer ones, than the limits allow.
	ErrTooLarge = errors.New("the row would be larger than a row may be")
	// ErrAccessDenied: the manifest does not grant the connection store, or any bucket, to this handler.
	ErrAccessDenied = errors.New("the handler has no grant for this store")
	// ErrUnavailable: the connection store could not be reached or failed, for the reason in the text.
	ErrUnavailable = errors.New("the connection store is unavailable")
	// ErrNoSuchStore: the manifest grants other buckets to the handler, but none of that name.
	ErrNoSuchStore = errors.New("the handler has no grant for a bucket of that name")
	// ErrBucket: any other failure of a bucket, for the reason in the text.
	ErrBucket = errors.New("the bucket failed")
	// ErrConflict: the value of a key was changed after it had been read.
	ErrConflict = errors.New("the value was changed meanwhile")
	// ErrConfig: the configuration cannot be read, for the reason in the text.
	ErrConfig = errors.New("the configuration cannot be read")
)

// withReason returns an error of this kind whose text has the reason of the host.
func withReason(kind error, reason string) error {
	return &reasonError{kind, reason}
}

type reasonError struct {
	kind   error
	reason string
}

func (err *reasonError) Error() string {
	return err.kind.Error() + ": " + err.reason
}

func (err *reasonError) Unwrap() error {
	return err.kind
}
