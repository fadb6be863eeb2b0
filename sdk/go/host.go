package jackfield

// host is the host of a handler: that of the component, or natively the test double of package jackfieldtest. A cursor,
// a value or an id that is nil is none.
type host interface {
	Context() ConnectionContext
	Event() string

	PostToConnection(id string, payload Payload) error
	PostToConnections(ids []string, payload Payload) []error
	PostToMatching(name, value string, payload Payload, except *string) (int, error)
	GetConnection(id string) (ConnectionInfo, error)
	DeleteConnection(id string, frame *CloseFrame) error

	GetRow(id string) (Row, error)
	PutRow(id string, attributes []Field) error
	AddAttribute(id, name, value string) error
	RemoveAttribute(id, name string, value *string) error
	QueryRows(name, value string, cursor *string) (RowPage, error)
	ScanRows(cursor *string) (RowPage, error)

	OpenBucket(name string) (HostBucket, error)
	Config(key string) (*string, error)
	AllConfig() ([]Field, error)
	Log(level Level, context, message string)
}

// HostBucket is a bucket of the host. Handlers use Bucket.
type HostBucket interface {
	Get(key string) (*string, error)
	Set(key, value string) error
	Delete(key string) error
	Exists(key string) (bool, error)
	ListKeys(cursor *string) (KeyPage, error)
	Increment(key string, delta int64) (int64, error)
	GetMany(keys []string) ([]*string, error)
	SetMany(pairs []Field) error
	DeleteMany(keys []string) error
	NewCAS(key string) (HostCAS, error)
}

// HostCAS is a handle for a compare-and-swap of the host. Handlers use CAS.
type HostCAS interface {
	Current() (*string, error)
	// Swap ends the handle. If the value was changed meanwhile, it returns the next handle and ErrConflict.
	Swap(value string) (HostCAS, error)
}
