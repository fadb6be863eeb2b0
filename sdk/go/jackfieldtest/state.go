//go:build !wasm

package jackfieldtest

import (
	"errors"
	"fmt"
	"sort"
	"time"

	"jackfield.dev/jackfield"
)

const (
	// startMilliseconds is the initial time of the clock, in November 2023.
	startMilliseconds = 1_700_000_000_000
	// eventHostCalls is the real host's default for the calls of one event that send or store something.
	eventHostCalls = 10_000
	// grantBytesMax is the real host's limit for what an authorizer grants, with the principal.
	grantBytesMax = 8 * 1024
	// frameBytesMax is the real host's limit for a frame of a peer.
	frameBytesMax = 32 * 1024
)

// state is the state of the test double. Its methods with the names of package jackfield are the host functions.
type state struct {
	now       time.Time
	idsIssued int
	// current is the event that is being handled, or nil.
	current *currentEvent
	// callsLeft is how many host calls that event may still make.
	callsLeft      int
	connections    map[string]*connection
	rows           map[string]*row
	buckets        map[string]*bucket
	config         map[string]string
	stageVariables map[string]string
	logs           []LogLine
	// deleted are the connections that a handler has deleted and whose $disconnect has not run yet.
	deleted  []*connection
	failures []error
}

type currentEvent struct {
	context      jackfield.RequestContext
	connection   *connection
	connect      *jackfield.ConnectEvent
	message      *jackfield.MessageEvent
	disconnect   *jackfield.DisconnectEvent
	isAuthorizer bool
}

type connection struct {
	id           string
	handler      jackfield.Handler
	identity     jackfield.Identity
	authorizer   []jackfield.Field
	connectedAt  time.Time
	lastActiveAt time.Time
	isAdmitted   bool
	closed       *jackfield.CloseFrame
	posts        []jackfield.Payload
	postError    error
}

// row is the row of a connection. Its attributes are sorted, and none is there twice.
type row struct {
	connectedAt time.Time
	attributes  []jackfield.Field
}

func newState() *state {
	return &state{
		now:            time.UnixMilli(startMilliseconds),
		connections:    map[string]*connection{},
		rows:           map[string]*row{},
		buckets:        map[string]*bucket{},
		config:         map[string]string{},
		stageVariables: map[string]string{},
	}
}

func (state *state) connect(
	connection *connection,
	event jackfield.ConnectEvent,
) (*connection, jackfield.Response, error) {
	state.open(connection)
	state.rows[connection.id] = &row{connectedAt: state.now}
	// A handler that panics admits no peer.
	defer func() {
		if !connection.isAdmitted {
			delete(state.rows, connection.id)
			delete(state.connections, connection.id)
		}
	}()
	response, err := state.handle(&currentEvent{connection: connection, connect: &event}, "$connect")
	if err != nil {
		err = &ConnectError{StatusCode: 502, Err: err}
	} else if code := response.Code(); code < 200 || code > 299 {
		err = &ConnectError{StatusCode: code, Response: response}
	} else {
		connection.isAdmitted = true
	}
	if err != nil {
		delete(state.rows, connection.id)
	}
	state.disconnectDeleted()
	return connection, response, err
}

func (state *state) open(connection *connection) {
	connection.id = state.nextID()
	connection.connectedAt, connection.lastActiveAt = state.now, state.now
	state.connections[connection.id] = connection
}

func (state *state) authorize(
	connection *connection,
	request jackfield.ConnectEvent,
	authorizer jackfield.Authorizer,
) (jackfield.Decision, error) {
	state.open(connection)
	defer delete(state.connections, connection.id)
	event := &currentEvent{connection: connection, connect: &request, isAuthorizer: true}
	state.begin(event, "$connect")
	defer state.end()
	decision, err := authorizer(&event.context, &request)
	if err != nil {
		return jackfield.Decision{}, err
	}
	bytes := len("principalId") + len(decision.PrincipalID())
	for _, value := range decision.Values() {
		if value.Name != "principalId" && value.Name != "usageIdentifierKey" {
			bytes += len(value.Name) + len(value.Value)
		}
	}
	if decision.IsAllowed() && bytes > grantBytesMax {
		return jackfield.Decision{}, fmt.Errorf(
			"the authorizer granted %d bytes; the maximum is %d", bytes, grantBytesMax)
	}
	return decision, nil
}

// message handles a message. Its content selects the route if the key is "".
func (state *state) message(
	connection *connection,
	routeKey string,
	body jackfield.Payload,
) (jackfield.Response, error) {
	if connection.closed != nil {
		return jackfield.Response{}, errors.New("the connection is closed")
	}
	if body.IsNone() {
		body = jackfield.Text("")
	}
	if body.Len() > messageBytesMax {
		reason := fmt.Sprintf("a message has at most %d bytes, a frame %d", messageBytesMax, frameBytesMax)
		if err := state.close(connection, jackfield.CloseFrame{Code: 1009, Reason: reason}); err != nil {
			return jackfield.Response{}, err
		}
		return jackfield.Response{}, fmt.Errorf(
			"the message has more than %d bytes, so the connection is closed", messageBytesMax)
	}
	connection.lastActiveAt = state.now
	if routeKey == "" {
		routeKey = selectRoute(body, connection.handler)
	}
	event := &currentEvent{
		connection: connection,
		message:    &jackfield.MessageEvent{MessageID: state.nextID(), Body: body},
	}
	response, err := state.handle(event, routeKey)
	state.disconnectDeleted()
	return response, err
}

func (state *state) close(connection *connection, frame jackfield.CloseFrame) error {
	if connection.closed != nil {
		return nil
	}
	connection.closed = &frame
	err := state.disconnect(connection)
	state.disconnectDeleted()
	return err
}

// disconnect runs the $disconnect of a closed connection, then removes its row.
func (state *state) disconnect(connection *connection) error {
	defer delete(state.rows, connection.id)
	end := &jackfield.DisconnectEvent{StatusCode: connection.closed.Code, Reason: connection.closed.Reason}
	_, err := state.handle(&currentEvent{connection: connection, disconnect: end}, "$disconnect")
	return err
}

// disconnectDeleted runs the $disconnect of the connections that handlers have deleted. As on the real host, it runs
// after the handler that has deleted the connection.
func (state *state) disconnectDeleted() {
	for len(state.deleted) > 0 {
		next := state.deleted[0]
		state.deleted = state.deleted[1:]
		if err := state.disconnect(next); err != nil {
			state.failures = append(state.failures, err)
		}
	}
}

// handle calls the handler, and checks its response as the real host does.
func (state *state) handle(event *currentEvent, routeKey string) (jackfield.Response, error) {
	response, err := state.call(event, routeKey)
	if err != nil {
		return jackfield.Response{}, err
	}
	if code := response.Code(); code < 200 || code > 599 {
		return jackfield.Response{}, fmt.Errorf("the handler returned status %d, expected 200 to 599", code)
	}
	if response.Body.Len() > messageBytesMax {
		return jackfield.Response{}, fmt.Errorf(
			"the handler returned a body of %d bytes; a message has at most %d", response.Body.Len(), messageBytesMax)
	}
	return response, nil
}

func (state *state) call(event *currentEvent, routeKey string) (jackfield.Response, error) {
	state.begin(event, routeKey)
	defer state.end()
	// A handler may change what it receives, which is no change of the event.
	context, handler := event.context, event.connection.handler
	switch {
	case event.connect != nil:
		request := *event.connect
		return handler.OnConnect(&context, &request)
	case event.message != nil:
		message := *event.message
		return handler.OnMessage(&context, &message)
	default:
		end := *event.disconnect
		return jackfield.OK(), handler.OnDisconnect(&context, &end)
	}
}

func (state *state) begin(event *currentEvent, routeKey string) {
	if state.current != nil {
		panic("a handler must not call the methods of a jackfieldtest.Peer")
	}
	event.context = jackfield.RequestContext{
		ConnectionID: event.connection.id,
		RouteKey:     routeKey,
		RequestID:    state.nextID(),
		RequestTime:  state.now,
		ConnectedAt:  event.connection.connectedAt,
	}
	state.current = event
	state.callsLeft = eventHostCalls
}

func (state *state) end() {
	state.current = nil
}

// count counts host calls against the limit of the event, and returns whether it allows them. A test may call what it
// needs.
func (state *state) count(calls int) bool {
	if state.current == nil {
		return true
	}
	if state.callsLeft < calls {
		return false
	}
	state.callsLeft -= calls
	return true
}

// mustCount counts a host call that cannot return the error of the limit. It panics where the real host ends the event.
func (state *state) mustCount() {
	if !state.count(1) {
		panic(fmt.Sprintf("the event made more than %d host calls", eventHostCalls))
	}
}

// nextID returns a new id in the format of the real ones: fifteen characters and =.
func (state *state) nextID() string {
	state.idsIssued++
	return fmt.Sprintf("%015d=", state.idsIssued)
}

func sortedFields(values map[string]string) []jackfield.Field {
	fields := make([]jackfield.Field, 0, len(values))
	for name, value := range values {
		fields = append(fields, jackfield.Field{Name: name, Value: value})
	}
	sort.Slice(fields, func(a, b int) bool { return fields[a].Name < fields[b].Name })
	return fields
}
