package handler

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"jackfield.dev/jackfield"
)

// caller makes the calls of one event.
type caller struct {
	ownID string
	// event is the result of the call "event".
	event any
	// cursor is that of the last page.
	cursor *string
	cas    *jackfield.CAS
}

// call makes one call and returns its result. The error is that of language.throw, and fails the event.
func (caller *caller) call(value any) (any, error) {
	// @self is the connection of the event, and @cursor the cursor of the last page.
	value = mapTexts(value, func(text string) string {
		switch text {
		case "@self":
			return caller.ownID
		case "@cursor":
			return *caller.cursor
		}
		return text
	})
	call := arguments(value.(map[string]any))
	name := call.text("call")
	group, _, _ := strings.Cut(name, ".")
	switch group {
	case "event":
		return caller.event, nil
	case "connections":
		return connectionsCall(name, call), nil
	case "connection-store":
		return caller.storeCall(name, call), nil
	case "keyvalue":
		return caller.keyvalueCall(name, call), nil
	case "language":
		return languageCall(name, call)
	}
	return otherCall(name, call), nil
}

// arguments are the arguments of a call.
type arguments map[string]any

func (call arguments) text(name string) string {
	text, isText := call[name].(string)
	if !isText {
		panic(fmt.Sprintf("%v has no text %q", call, name))
	}
	return text
}

// optional returns a text, or nil.
func (call arguments) optional(name string) *string {
	text, isText := call[name].(string)
	if !isText {
		return nil
	}
	return &text
}

func (call arguments) number(name string) int64 {
	number, err := call[name].(json.Number).Int64()
	if err != nil {
		panic(err)
	}
	return number
}

func (call arguments) texts(name string) []string {
	texts := []string{}
	for _, text := range call[name].([]any) {
		texts = append(texts, text.(string))
	}
	return texts
}

func (call arguments) payload() jackfield.Payload {
	if text, isText := call["data"].(string); isText {
		return jackfield.Text(text)
	}
	return jackfield.Binary(toBytes(call["data"]))
}

func ok(value any, err error) any {
	if err != nil {
		return errorName(err)
	}
	return map[string]any{"ok": value}
}

func done(err error) any {
	if err != nil {
		return errorName(err)
	}
	return "ok"
}

func errorName(err error) any {
	for kind, name := range map[error]string{
		jackfield.ErrGone:             "gone",
		jackfield.ErrPayloadTooLarge:  "payload-too-large",
		jackfield.ErrLimitExceeded:    "limit-exceeded",
		jackfield.ErrForbidden:        "forbidden",
		jackfield.ErrNoSuchConnection: "no-such-connection",
		jackfield.ErrTooLarge:         "too-large",
		jackfield.ErrAccessDenied:     "access-denied",
		jackfield.ErrUnavailable:      "unavailable",
		jackfield.ErrNoSuchStore:      "no-such-store",
		jackfield.ErrBucket:           "other",
		jackfield.ErrConflict:         "cas-failed",
		jackfield.ErrConfig:           "error",
	} {
		if errors.Is(err, kind) {
			return name
		}
	}
	panic(err)
}

func connectionsCall(name string, call arguments) any {
	switch name {
	case "connections.post-to-connection":
		return done(jackfield.PostToConnection(call.text("id"), call.payload()))
	case "connections.post-to-connections":
		results := []any{}
		for _, err := range jackfield.PostToConnections(call.texts("ids"), call.payload()) {
			results = append(results, done(err))
		}
		return results
	case "connections.post-to-matching":
		except := ""
		if id := call.optional("except"); id != nil {
			except = *id
		}
		count, err := jackfield.PostToMatching(call.text("name"), call.text("value"), call.payload(), except)
		return ok(count, err)
	case "connections.get-connection":
		info, err := jackfield.GetConnection(call.text("id"))
		return ok(map[string]any{
			"source-ip":        info.Identity.SourceIP,
			"user-agent":       userAgent(info.Identity),
			"was-active-later": info.LastActiveAt.After(info.ConnectedAt),
		}, err)
	case "connections.delete-connection":
		if call["code"] == nil {
			return done(jackfield.DeleteConnection(call.text("id")))
		}
		frame := jackfield.CloseFrame{Code: int(call.number("code"))}
		if reason := call.optional("reason"); reason != nil {
			frame.Reason = *reason
		}
		return done(jackfield.DeleteConnectionWith(call.text("id"), frame))
	}
	panic("no function " + name)
}

func userAgent(identity jackfield.Identity) any {
	if identity.UserAgent == "" {
		return nil
	}
	return identity.UserAgent
}

func (caller *caller) storeCall(name string, call arguments) any {
	store := jackfield.ConnectionStore
	page := func(page jackfield.RowPage, err error) any {
		if err != nil {
			return errorName(err)
		}
		caller.cursor = page.Cursor
		rows := []any{}
		for _, row := range page.Rows {
			rows = append(rows, fromRow(row))
		}
		return ok(map[string]any{"rows": rows, "cursor": page.Cursor != nil}, nil)
	}
	switch name {
	case "connection-store.get":
		row, err := store.Get(call.text("id"))
		return ok(fromRow(row), err)
	case "connection-store.put":
		attributes := []jackfield.Field{}
		for _, attribute := range call["attributes"].([]any) {
			pair := attribute.([]any)
			attributes = append(attributes, jackfield.Field{Name: pair[0].(string), Value: pair[1].(string)})
		}
		return done(store.Put(call.text("id"), attributes...))
	case "connection-store.add":
		return done(store.Add(call.text("id"), call.text("name"), call.text("value")))
	case "connection-store.remove":
		if value := call.optional("value"); value != nil {
			return done(store.Remove(call.text("id"), call.text("name"), *value))
		}
		return done(store.RemoveAll(call.text("id"), call.text("name")))
	case "connection-store.query":
		return page(store.QueryPage(call.text("name"), call.text("value"), call.optional("cursor")))
	case "connection-store.scan":
		return page(store.ScanPage(call.optional("cursor")))
	case "connection-store.query-pages":
		return pages(func(cursor *string) ([]string, *string) {
			return ids(store.QueryPage(call.text("name"), call.text("value"), cursor))
		})
	case "connection-store.scan-pages":
		return pages(func(cursor *string) ([]string, *string) { return ids(store.ScanPage(cursor)) })
	}
	panic("no function " + name)
}

func fromRow(row jackfield.Row) any {
	return map[string]any{"connection-id": row.ConnectionID, "attributes": pairs(row.Attributes)}
}

func ids(page jackfield.RowPage, err error) ([]string, *string) {
	if err != nil {
		panic(err)
	}
	ids := []string{}
	for _, row := range page.Rows {
		ids = append(ids, row.ConnectionID)
	}
	return ids, page.Cursor
}

// pages follows the cursors of all pages. It returns their lengths, and whether the items are sorted and none is there
// twice.
func pages(fetch func(cursor *string) ([]string, *string)) any {
	lengths, items := []int{}, []string{}
	var cursor *string
	for {
		page, next := fetch(cursor)
		lengths = append(lengths, len(page))
		items = append(items, page...)
		if next == nil {
			break
		}
		cursor = next
	}
	sorted := slices.IsSorted(items) && len(slices.Compact(slices.Clone(items))) == len(items)
	return map[string]any{"pages": lengths, "sorted": sorted}
}

func (caller *caller) keyvalueCall(name string, call arguments) any {
	switch name {
	case "keyvalue.cas.current":
		value, exists, err := caller.cas.Current()
		return ok(optionalBytes(value, exists), err)
	case "keyvalue.cas.swap":
		return done(caller.cas.Swap(toBytes(call["value"])))
	}
	bucket, err := jackfield.OpenBucket(call.text("bucket"))
	if err != nil {
		return errorName(err)
	}
	key := ""
	if text := call.optional("key"); text != nil {
		key = *text
	}
	switch name {
	case "keyvalue.open":
		return "ok"
	case "keyvalue.cas.new":
		caller.cas, err = bucket.NewCAS(key)
		return done(err)
	case "keyvalue.get":
		value, exists, err := bucket.Get(key)
		return ok(optionalBytes(value, exists), err)
	case "keyvalue.set":
		return done(bucket.Set(key, toBytes(call["value"])))
	case "keyvalue.delete":
		return done(bucket.Delete(key))
	case "keyvalue.exists":
		return ok(bucket.Exists(key))
	case "keyvalue.increment":
		return ok(bucket.Increment(key, call.number("delta")))
	case "keyvalue.list-keys":
		page, err := bucket.ListKeys(call.optional("cursor"))
		if err != nil {
			return errorName(err)
		}
		caller.cursor = page.Cursor
		return ok(map[string]any{"keys": page.Keys, "cursor": page.Cursor != nil}, nil)
	case "keyvalue.key-pages":
		return pages(func(cursor *string) ([]string, *string) {
			page, err := bucket.ListKeys(cursor)
			if err != nil {
				panic(err)
			}
			return page.Keys, page.Cursor
		})
	case "keyvalue.get-many":
		keys := call.texts("keys")
		values, err := bucket.GetMany(keys)
		found := []any{}
		for index, value := range values {
			if value == nil {
				found = append(found, nil)
			} else {
				found = append(found, []any{keys[index], fromBytes(value)})
			}
		}
		return ok(found, err)
	case "keyvalue.set-many":
		pairs := []jackfield.KeyValue{}
		for _, item := range call["pairs"].([]any) {
			pair := item.([]any)
			pairs = append(pairs, jackfield.KeyValue{Key: pair[0].(string), Value: toBytes(pair[1])})
		}
		return done(bucket.SetMany(pairs...))
	case "keyvalue.delete-many":
		return done(bucket.DeleteMany(call.texts("keys")))
	}
	panic("no function " + name)
}

func optionalBytes(value []byte, exists bool) any {
	if !exists {
		return nil
	}
	return fromBytes(value)
}

func otherCall(name string, call arguments) any {
	switch name {
	case "config.get":
		value, exists, err := jackfield.Config.Lookup(call.text("key"))
		if !exists {
			return ok(nil, err)
		}
		return ok(value, err)
	case "config.get-all":
		fields, err := jackfield.Config.GetAll()
		return ok(pairs(fields), err)
	case "current-connection.context":
		context := jackfield.CurrentConnection.Context()
		return map[string]any{
			"source-ip":       context.Identity.SourceIP,
			"user-agent":      userAgent(context.Identity),
			"authorizer":      pairs(context.Authorizer),
			"stage-variables": pairs(context.StageVariables),
		}
	case "current-connection.event":
		parsed, err := parse(jackfield.CurrentConnection.Event())
		if err != nil {
			panic(err)
		}
		event := parsed.(map[string]any)
		request := event["requestContext"].(map[string]any)
		// The rest of the event differs from one event to the next.
		return map[string]any{
			"keys":                            slices.Sorted(maps.Keys(event)),
			"body":                            event["body"],
			"isBase64Encoded":                 event["isBase64Encoded"],
			"queryStringParameters":           event["queryStringParameters"],
			"multiValueQueryStringParameters": event["multiValueQueryStringParameters"],
			"stageVariables":                  event["stageVariables"],
			"routeKey":                        request["routeKey"],
			"eventType":                       request["eventType"],
			"connectionId":                    request["connectionId"],
			"disconnectStatusCode":            request["disconnectStatusCode"],
			"disconnectReason":                request["disconnectReason"],
		}
	}
	panic("no function " + name)
}
