//go:build wasm

package jackfield

import (
	"time"

	"jackfield.dev/jackfield/internal/bindings/imports/jackfield_gateway_connection_store"
	"jackfield.dev/jackfield/internal/bindings/imports/jackfield_gateway_connections"
	"jackfield.dev/jackfield/internal/bindings/imports/jackfield_gateway_current_connection"
	types "jackfield.dev/jackfield/internal/bindings/imports/jackfield_gateway_types"
	witConfig "jackfield.dev/jackfield/internal/bindings/imports/wasi_config_store"
	"jackfield.dev/jackfield/internal/bindings/imports/wasi_keyvalue_0_2_0_draft2_atomics"
	"jackfield.dev/jackfield/internal/bindings/imports/wasi_keyvalue_0_2_0_draft2_batch"
	"jackfield.dev/jackfield/internal/bindings/imports/wasi_keyvalue_0_2_0_draft2_store"
	"jackfield.dev/jackfield/internal/bindings/imports/wasi_logging_logging"
	wit "jackfield.dev/jackfield/internal/wit/types"
)

// guest calls the imports of the component. Its methods are those of host, but it is no interface, so that a component
// has only the imports that it uses.
type guest struct{}

func currentHost() guest {
	return guest{}
}

func (guest) Context() ConnectionContext {
	context := jackfield_gateway_current_connection.Context()
	return ConnectionContext{
		APIID:          context.ApiId,
		Stage:          context.Stage,
		DomainName:     context.DomainName,
		Identity:       fromIdentity(context.Identity),
		Authorizer:     fromFields(context.Authorizer),
		StageVariables: fromFields(context.StageVariables),
	}
}

func (guest) Event() string {
	return jackfield_gateway_current_connection.Event()
}

// ---- connections

func (guest) PostToConnection(id string, payload Payload) error {
	return connectionResult(jackfield_gateway_connections.PostToConnection(id, toPayload(payload)))
}

func (guest) PostToConnections(ids []string, payload Payload) []error {
	results := jackfield_gateway_connections.PostToConnections(ids, toPayload(payload))
	errs := make([]error, len(results))
	for index, result := range results {
		errs[index] = connectionResult(result)
	}
	return errs
}

func (guest) PostToMatching(name, value string, payload Payload, except *string) (int, error) {
	result := jackfield_gateway_connections.PostToMatching(name, value, toPayload(payload), toOption(except))
	if result.IsErr() {
		return 0, connectionError(result.Err())
	}
	return int(result.Ok()), nil
}

func (guest) GetConnection(id string) (ConnectionInfo, error) {
	result := jackfield_gateway_connections.GetConnection(id)
	if result.IsErr() {
		return ConnectionInfo{}, connectionError(result.Err())
	}
	info := result.Ok()
	return ConnectionInfo{
		ConnectedAt:  time.UnixMilli(int64(info.ConnectedAt)),
		LastActiveAt: time.UnixMilli(int64(info.LastActiveAt)),
		Identity:     fromIdentity(info.Identity),
	}, nil
}

func (guest) DeleteConnection(id string, frame *CloseFrame) error {
	converted := wit.None[jackfield_gateway_connections.CloseFrame]()
	if frame != nil {
		if frame.Code < 0 || frame.Code > 65535 {
			panic("a close code is a number of 16 bits")
		}
		converted = wit.Some(jackfield_gateway_connections.CloseFrame{Code: uint16(frame.Code), Reason: frame.Reason})
	}
	return connectionResult(jackfield_gateway_connections.DeleteConnection(id, converted))
}

func connectionResult(result wit.Result[wit.Unit, jackfield_gateway_connections.ConnectionError]) error {
	if result.IsErr() {
		return connectionError(result.Err())
	}
	return nil
}

func connectionError(err jackfield_gateway_connections.ConnectionError) error {
	switch err {
	case jackfield_gateway_connections.ConnectionError_Gone:
		return ErrGone
	case jackfield_gateway_connections.ConnectionError_PayloadTooLarge:
		return ErrPayloadTooLarge
	case jackfield_gateway_connections.ConnectionError_LimitExceeded:
		return ErrLimitExceeded
	default:
		return ErrForbidden
	}
}

// ---- the connection store

func (guest) GetRow(id string) (Row, error) {
	result := jackfield_gateway_connection_store.Get(id)
	if result.IsErr() {
		return Row{}, storeError(result.Err())
	}
	return fromRow(result.Ok()), nil
}

func (guest) PutRow(id string, attributes []Field) error {
	return storeResult(jackfield_gateway_connection_store.Put(id, toFields(attributes)))
}

func (guest) AddAttribute(id, name, value string) error {
	return storeResult(jackfield_gateway_connection_store.Add(id, name, value))
}

func (guest) RemoveAttribute(id, name string, value *string) error {
	return storeResult(jackfield_gateway_connection_store.Remove(id, name, toOption(value)))
}

func (guest) QueryRows(name, value string, cursor *string) (RowPage, error) {
	return rowPage(jackfield_gateway_connection_store.Query(name, value, toOption(cursor)))
}

func (guest) ScanRows(cursor *string) (RowPage, error) {
	return rowPage(jackfield_gateway_connection_store.Scan(toOption(cursor)))
}

func rowPage(
	result wit.Result[jackfield_gateway_connection_store.Page, jackfield_gateway_connection_store.StoreError],
) (RowPage, error) {
	if result.IsErr() {
		return RowPage{}, storeError(result.Err())
	}
	page := result.Ok()
	rows := make([]Row, len(page.Rows))
	for index, row := range page.Rows {
		rows[index] = fromRow(row)
	}
	return RowPage{Rows: rows, Cursor: fromOption(page.Cursor)}, nil
}

func fromRow(row jackfield_gateway_connection_store.Row) Row {
	return Row{
		ConnectionID: row.ConnectionId,
		ConnectedAt:  time.UnixMilli(int64(row.ConnectedAt)),
		Attributes:   fromFields(row.Attributes),
	}
}

func storeResult(result wit.Result[wit.Unit, jackfield_gateway_connection_store.StoreError]) error {
	if result.IsErr() {
		return storeError(result.Err())
	}
	return nil
}

func storeError(err jackfield_gateway_connection_store.StoreError) error {
	switch err.Tag() {
	case jackfield_gateway_connection_store.StoreError_NoSuchConnection:
		return ErrNoSuchConnection
	case jackfield_gateway_connection_store.StoreError_TooLarge:
		return ErrTooLarge
	case jackfield_gateway_connection_store.StoreError_AccessDenied:
		return ErrAccessDenied
	default:
		return withReason(ErrUnavailable, err.Unavailable())
	}
}

// ---- buckets

type guestBucket struct {
	handle *wasi_keyvalue_0_2_0_draft2_store.Bucket
}

func (guest) OpenBucket(name string) (HostBucket, error) {
	result := wasi_keyvalue_0_2_0_draft2_store.Open(name)
	if result.IsErr() {
		return nil, bucketError(result.Err())
	}
	return guestBucket{result.Ok()}, nil
}

func (bucket guestBucket) Get(key string) (*string, error) {
	return optionalBytes(bucket.handle.Get(key))
}

func (bucket guestBucket) Set(key, value string) error {
	return bucketResult(bucket.handle.Set(key, bytesOf(value)))
}

func (bucket guestBucket) Delete(key string) error {
	return bucketResult(bucket.handle.Delete(key))
}

func (bucket guestBucket) Exists(key string) (bool, error) {
	return bucketValue(bucket.handle.Exists(key))
}

func (bucket guestBucket) ListKeys(cursor *string) (KeyPage, error) {
	page, err := bucketValue(bucket.handle.ListKeys(toOption(cursor)))
	if err != nil {
		return KeyPage{}, err
	}
	return KeyPage{Keys: page.Keys, Cursor: fromOption(page.Cursor)}, nil
}

func (bucket guestBucket) Increment(key string, delta int64) (int64, error) {
	return bucketValue(wasi_keyvalue_0_2_0_draft2_atomics.Increment(bucket.handle, key, delta))
}

func (bucket guestBucket) GetMany(keys []string) ([]*string, error) {
	found, err := bucketValue(wasi_keyvalue_0_2_0_draft2_batch.GetMany(bucket.handle, keys))
	if err != nil {
		return nil, err
	}
	values := make([]*string, len(found))
	for index, pair := range found {
		if pair.IsSome() {
			value := stringOf(pair.Some().F1)
			values[index] = &value
		}
	}
	return values, nil
}

func (bucket guestBucket) SetMany(pairs []Field) error {
	converted := make([]wit.Tuple2[string, []uint8], len(pairs))
	for index, pair := range pairs {
		converted[index] = wit.Tuple2[string, []uint8]{F0: pair.Name, F1: bytesOf(pair.Value)}
	}
	return bucketResult(wasi_keyvalue_0_2_0_draft2_batch.SetMany(bucket.handle, converted))
}

func (bucket guestBucket) DeleteMany(keys []string) error {
	return bucketResult(wasi_keyvalue_0_2_0_draft2_batch.DeleteMany(bucket.handle, keys))
}

func (bucket guestBucket) NewCAS(key string) (HostCAS, error) {
	handle, err := bucketValue(wasi_keyvalue_0_2_0_draft2_atomics.CasNew(bucket.handle, key))
	if err != nil {
		return nil, err
	}
	return guestCAS{bucket, handle}, nil
}

type guestCAS struct {
	// The handle refers to the bucket, which must not be dropped before it.
	bucket guestBucket
	handle *wasi_keyvalue_0_2_0_draft2_atomics.Cas
}

func (cas guestCAS) Current() (*string, error) {
	return optionalBytes(cas.handle.Current())
}

func (cas guestCAS) Swap(value string) (HostCAS, error) {
	result := wasi_keyvalue_0_2_0_draft2_atomics.Swap(cas.handle, bytesOf(value))
	if !result.IsErr() {
		return nil, nil
	}
	err := result.Err()
	if err.Tag() == wasi_keyvalue_0_2_0_draft2_atomics.CasError_CasFailed {
		return guestCAS{cas.bucket, err.CasFailed()}, ErrConflict
	}
	return nil, bucketError(err.StoreError())
}

func optionalBytes(
	result wit.Result[wit.Option[[]uint8], wasi_keyvalue_0_2_0_draft2_store.Error],
) (*string, error) {
	value, err := bucketValue(result)
	if err != nil || !value.IsSome() {
		return nil, err
	}
	text := stringOf(value.Some())
	return &text, nil
}

func bucketValue[T any](result wit.Result[T, wasi_keyvalue_0_2_0_draft2_store.Error]) (T, error) {
	if result.IsErr() {
		var none T
		return none, bucketError(result.Err())
	}
	return result.Ok(), nil
}

func bucketResult(result wit.Result[wit.Unit, wasi_keyvalue_0_2_0_draft2_store.Error]) error {
	_, err := bucketValue(result)
	return err
}

func bucketError(err wasi_keyvalue_0_2_0_draft2_store.Error) error {
	switch err.Tag() {
	case wasi_keyvalue_0_2_0_draft2_store.Error_NoSuchStore:
		return ErrNoSuchStore
	case wasi_keyvalue_0_2_0_draft2_store.Error_AccessDenied:
		return ErrAccessDenied
	default:
		return withReason(ErrBucket, err.Other())
	}
}

// ---- configuration and log

func (guest) Config(key string) (*string, error) {
	result := witConfig.Get(key)
	if result.IsErr() {
		return nil, configError(result.Err())
	}
	return fromOption(result.Ok()), nil
}

func (guest) AllConfig() ([]Field, error) {
	result := witConfig.GetAll()
	if result.IsErr() {
		return nil, configError(result.Err())
	}
	return fromFields(result.Ok()), nil
}

func configError(err witConfig.Error) error {
	if err.Tag() == witConfig.Error_Upstream {
		return withReason(ErrConfig, err.Upstream())
	}
	return withReason(ErrConfig, err.Io())
}

func (guest) Log(level Level, context, message string) {
	wasi_logging_logging.Log(wasi_logging_logging.Level(level), context, message)
}

// ---- conversions

func fromIdentity(identity types.Identity) Identity {
	converted := Identity{SourceIP: identity.SourceIp}
	if identity.UserAgent.IsSome() {
		converted.UserAgent = identity.UserAgent.Some()
	}
	return converted
}

func fromOption(option wit.Option[string]) *string {
	if !option.IsSome() {
		return nil
	}
	text := option.Some()
	return &text
}

func toOption(text *string) wit.Option[string] {
	if text == nil {
		return wit.None[string]()
	}
	return wit.Some(*text)
}
