//go:build !wasm

package jackfieldtest

import (
	"fmt"
	"slices"
	"sort"
	"strings"

	"jackfield.dev/jackfield"
)

// The limits of the real host.
const (
	messageBytesMax        = 128 * 1024
	closeReasonBytesMax    = 123
	rowAttributesMax       = 64
	attributeNameBytesMax  = 64
	attributeValueBytesMax = 1024
	pageItems              = 256
	// pageBytes is how many bytes of attributes end a page of rows.
	pageBytes = 400 * 1024
	// callBytesMax is the limit for all parameters of one call, and for all values that one call returns.
	callBytesMax = 2 * 1024 * 1024
	// elementBytes is what a string or a list within a list counts in addition to its bytes.
	elementBytes = 24
	// turnPosts is how many connections PostToMatching reaches for each host call that it counts as.
	turnPosts = 64
)

// checkParameters panics where the real host ends the event: if the parameters of a call have too many bytes.
func checkParameters(bytes int) {
	if bytes > callBytesMax {
		panic(fmt.Sprintf(
			"the parameters of the call have %d bytes, and those of one call have at most %d", bytes, callBytesMax))
	}
}

func textsBytes(texts []string) int {
	bytes := 0
	for _, text := range texts {
		bytes += len(text) + elementBytes
	}
	return bytes
}

func fieldsBytes(fields []jackfield.Field) int {
	bytes := 0
	for _, field := range fields {
		bytes += len(field.Name) + len(field.Value) + 2*elementBytes
	}
	return bytes
}

func optionBytes(text *string) int {
	if text == nil {
		return 0
	}
	return len(*text)
}

// ---- the current connection

func (state *state) Context() jackfield.ConnectionContext {
	state.mustCount()
	return state.contextOf(state.mustBeHandling().connection)
}

func (state *state) Event() string {
	state.mustCount()
	event := state.mustBeHandling()
	return eventJSON(event, state.contextOf(event.connection))
}

func (state *state) mustBeHandling() *currentEvent {
	if state.current == nil {
		panic("a function of CurrentConnection was called while no event is handled: only a handler can call it")
	}
	return state.current
}

func (state *state) contextOf(connection *connection) jackfield.ConnectionContext {
	return jackfield.ConnectionContext{
		APIID:          "test",
		Stage:          "test",
		DomainName:     "localhost",
		Identity:       connection.identity,
		Authorizer:     slices.Clone(connection.authorizer),
		StageVariables: sortedFields(state.stageVariables),
	}
}

// ---- connections

func (state *state) PostToConnection(id string, payload jackfield.Payload) error {
	checkParameters(len(id) + payload.Len())
	return state.countedPost(id, payload)
}

func (state *state) PostToConnections(ids []string, payload jackfield.Payload) []error {
	checkParameters(textsBytes(ids) + payload.Len())
	errs := make([]error, len(ids))
	for index, id := range ids {
		errs[index] = state.countedPost(id, payload)
	}
	return errs
}

func (state *state) PostToMatching(
	name, value string,
	payload jackfield.Payload,
	except *string,
) (int, error) {
	checkParameters(len(name) + len(value) + payload.Len() + optionBytes(except))
	if payload.Len() > messageBytesMax {
		return 0, jackfield.ErrPayloadTooLarge
	}
	if !state.count(1) {
		return 0, jackfield.ErrLimitExceeded
	}
	attribute := jackfield.Field{Name: name, Value: value}
	ids := state.idsOf(func(row *row) bool { return slices.Contains(row.attributes, attribute) })
	// The call itself was counted as the first turn.
	if turns := (len(ids) + turnPosts - 1) / turnPosts; turns > 1 && !state.count(turns-1) {
		return 0, jackfield.ErrLimitExceeded
	}
	queued := 0
	for _, id := range ids {
		if (except == nil || id != *except) && state.post(id, payload) == nil {
			queued++
		}
	}
	return queued, nil
}

func (state *state) GetConnection(id string) (jackfield.ConnectionInfo, error) {
	checkParameters(len(id))
	if !state.count(1) {
		return jackfield.ConnectionInfo{}, jackfield.ErrLimitExceeded
	}
	connection, err := state.openConnection(id)
	if err != nil {
		return jackfield.ConnectionInfo{}, err
	}
	return jackfield.ConnectionInfo{
		ConnectedAt:  connection.connectedAt,
		LastActiveAt: connection.lastActiveAt,
		Identity:     connection.identity,
	}, nil
}

func (state *state) DeleteConnection(id string, frame *jackfield.CloseFrame) error {
	if frame == nil {
		frame = &jackfield.CloseFrame{Code: 1000}
	}
	checkParameters(len(id) + len(frame.Reason))
	if !state.count(1) {
		return jackfield.ErrLimitExceeded
	}
	code := frame.Code
	if !(code >= 1000 && code <= 1003 || code >= 1007 && code <= 1014 || code >= 3000 && code <= 4999) {
		panic(fmt.Sprintf("%d is not a close code that can be sent", code))
	}
	if len(frame.Reason) > closeReasonBytesMax {
		panic(fmt.Sprintf("a close reason has at most %d bytes", closeReasonBytesMax))
	}
	connection, err := state.openConnection(id)
	if err != nil {
		return err
	}
	connection.closed = &jackfield.CloseFrame{Code: code, Reason: frame.Reason}
	state.deleted = append(state.deleted, connection)
	return nil
}

func (state *state) countedPost(id string, payload jackfield.Payload) error {
	if payload.Len() > messageBytesMax {
		return jackfield.ErrPayloadTooLarge
	}
	if !state.count(1) {
		return jackfield.ErrLimitExceeded
	}
	return state.post(id, payload)
}

func (state *state) post(id string, payload jackfield.Payload) error {
	connection, err := state.openConnection(id)
	if err != nil {
		return err
	}
	if connection.postError != nil {
		return connection.postError
	}
	if payload.IsNone() {
		payload = jackfield.Text("")
	}
	connection.lastActiveAt = state.now
	connection.posts = append(connection.posts, payload)
	return nil
}

func (state *state) openConnection(id string) (*connection, error) {
	connection := state.connections[id]
	if connection == nil || !connection.isAdmitted || connection.closed != nil {
		return nil, jackfield.ErrGone
	}
	return connection, nil
}

// ---- the connection store

func (state *state) GetRow(id string) (jackfield.Row, error) {
	checkParameters(len(id))
	state.mustCount()
	row := state.rows[id]
	if row == nil {
		return jackfield.Row{}, jackfield.ErrNoSuchConnection
	}
	return rowOf(id, row), nil
}

func (state *state) PutRow(id string, attributes []jackfield.Field) error {
	checkParameters(len(id) + fieldsBytes(attributes))
	return state.changeRow(id, func([]jackfield.Field) []jackfield.Field { return slices.Clone(attributes) })
}

func (state *state) AddAttribute(id, name, value string) error {
	checkParameters(len(id) + len(name) + len(value))
	return state.changeRow(id, func(attributes []jackfield.Field) []jackfield.Field {
		return append(attributes, jackfield.Field{Name: name, Value: value})
	})
}

func (state *state) RemoveAttribute(id, name string, value *string) error {
	checkParameters(len(id) + len(name) + optionBytes(value))
	return state.changeRow(id, func(attributes []jackfield.Field) []jackfield.Field {
		return slices.DeleteFunc(attributes, func(attribute jackfield.Field) bool {
			return attribute.Name == name && (value == nil || attribute.Value == *value)
		})
	})
}

func (state *state) changeRow(id string, change func([]jackfield.Field) []jackfield.Field) error {
	state.mustCount()
	row := state.rows[id]
	if row == nil {
		return jackfield.ErrNoSuchConnection
	}
	changed := change(slices.Clone(row.attributes))
	slices.SortFunc(changed, func(a, b jackfield.Field) int {
		if a.Name != b.Name {
			return strings.Compare(a.Name, b.Name)
		}
		return strings.Compare(a.Value, b.Value)
	})
	changed = slices.Compact(changed)
	if len(changed) > rowAttributesMax {
		return jackfield.ErrTooLarge
	}
	for _, attribute := range changed {
		if len(attribute.Name) > attributeNameBytesMax || len(attribute.Value) > attributeValueBytesMax {
			return jackfield.ErrTooLarge
		}
	}
	row.attributes = changed
	return nil
}

func (state *state) QueryRows(name, value string, cursor *string) (jackfield.RowPage, error) {
	checkParameters(len(name) + len(value) + optionBytes(cursor))
	attribute := jackfield.Field{Name: name, Value: value}
	return state.page(cursor, func(row *row) bool { return slices.Contains(row.attributes, attribute) })
}

func (state *state) ScanRows(cursor *string) (jackfield.RowPage, error) {
	checkParameters(optionBytes(cursor))
	return state.page(cursor, func(*row) bool { return true })
}

func (state *state) page(cursor *string, matches func(*row) bool) (jackfield.RowPage, error) {
	state.mustCount()
	if cursor != nil && !isConnectionID(*cursor) {
		return jackfield.RowPage{}, fmt.Errorf("%w: the cursor is none that a page has given", jackfield.ErrUnavailable)
	}
	ids := state.idsOf(matches)
	if cursor != nil {
		ids = ids[sort.Search(len(ids), func(index int) bool { return ids[index] > *cursor }):]
	}
	page := jackfield.RowPage{Rows: []jackfield.Row{}}
	bytes := 0
	for index, id := range ids {
		if len(page.Rows) == pageItems || bytes >= pageBytes {
			last := ids[index-1]
			page.Cursor = &last
			break
		}
		row := rowOf(id, state.rows[id])
		for _, attribute := range row.Attributes {
			bytes += len(attribute.Name) + len(attribute.Value)
		}
		page.Rows = append(page.Rows, row)
	}
	return page, nil
}

// idsOf returns the sorted ids of the rows that match.
func (state *state) idsOf(matches func(*row) bool) []string {
	var ids []string
	for id, row := range state.rows {
		if matches(row) {
			ids = append(ids, id)
		}
	}
	sort.Strings(ids)
	return ids
}

// isConnectionID returns whether a text has the form of a connection id: 15 characters of base64url and =.
func isConnectionID(text string) bool {
	if len(text) != 16 || text[15] != '=' {
		return false
	}
	for _, char := range []byte(text[:15]) {
		isLetter := char >= 'a' && char <= 'z' || char >= 'A' && char <= 'Z'
		if !isLetter && !(char >= '0' && char <= '9') && char != '-' && char != '_' {
			return false
		}
	}
	return true
}

func rowOf(id string, row *row) jackfield.Row {
	return jackfield.Row{
		ConnectionID: id,
		ConnectedAt:  row.connectedAt,
		Attributes:   slices.Clone(row.attributes),
	}
}

// ---- configuration and log

func (state *state) Config(key string) (*string, error) {
	value, exists := state.config[key]
	if !exists {
		return nil, nil
	}
	return &value, nil
}

func (state *state) AllConfig() ([]jackfield.Field, error) {
	return sortedFields(state.config), nil
}

func (state *state) Log(level jackfield.Level, context, message string) {
	state.logs = append(state.logs, LogLine{level, context, message})
}
