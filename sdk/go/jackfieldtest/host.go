//go:build !wasm

// Package jackfieldtest has a test double of the host: handlers run natively in `go test`, and no server has to be
// started.
//
// A Host replaces the real host from New until its test ends. A test connects peers, sends their messages and closes
// them; each event calls the handler. The host functions that the handler calls are those of the test double. A test can
// call the same functions to examine what a handler has stored.
//
//	func TestEcho(t *testing.T) {
//		host := jackfieldtest.New(t)
//		peer := host.MustConnect("")
//		response, err := peer.Send("hello")
//		if err != nil || response.Body != jackfield.Text("hello") {
//			t.Fatal(response, err)
//		}
//	}
//
// The test double behaves like the real host in these points: a row exists from before $connect until after $disconnect,
// and a rejected peer leaves no row. A post to a connection that is unknown, is closed or has not finished its $connect
// fails with ErrGone. Payloads, attributes, keys, values, buckets, batches and the number of host calls have the same
// limits. A bucket that is not granted cannot be opened. Where the real host ends an event, the test double panics.
//
// It does not simulate the component itself, its sandbox with the limits of time and memory, grants other than those of
// buckets, and peers that read too slowly; Host.FailPostsTo makes posts fail.
package jackfieldtest

import (
	"fmt"
	"testing"
	"time"

	"jackfield.dev/jackfield"
	"jackfield.dev/jackfield/internal/double"
)

// Host is the test double of the host. There is one at a time: tests that have one do not run at the same time.
type Host struct {
	state   *state
	handler jackfield.Handler
	test    testing.TB
}

// New returns a new test double, which is the host until the test ends. Its peers are handled by the handler that the
// program exports. It fails the test if there is another test double, such as that of a parallel test.
func New(t testing.TB) *Host {
	t.Helper()
	host, err := Start()
	if err != nil {
		t.Fatal(err)
	}
	host.test = t
	t.Cleanup(host.Close)
	return host
}

// Start returns a new test double, which is the host until Close, for programs that are no test.
func Start() (*Host, error) {
	handler, _ := double.Handler.(jackfield.Handler)
	host := &Host{state: newState(), handler: handler}
	if !double.Replace(nil, host.state) {
		return nil, fmt.Errorf("there is another jackfieldtest.Host: close it first, and run no test that has one in parallel")
	}
	return host, nil
}

// Close ends the test double. New calls it at the end of the test.
func (host *Host) Close() {
	double.Replace(host.state, nil)
}

// Use makes another handler that of the peers that connect from now on.
func (host *Host) Use(handler jackfield.Handler) {
	host.handler = handler
}

// Connect connects a peer with this query string: "?userId=A", or "" for none. The error is a *ConnectError if the
// handler rejects the peer or fails.
func (host *Host) Connect(query string) (*Peer, error) {
	return host.Upgrade(query).Connect()
}

// MustConnect connects a peer, and fails the test if the handler rejects it.
func (host *Host) MustConnect(query string) *Peer {
	peer, err := host.Connect(query)
	if err != nil {
		if host.test == nil {
			panic(err)
		}
		host.test.Helper()
		host.test.Fatal(err)
	}
	return peer
}

// Upgrade prepares the upgrade request of a peer, for tests that also set headers or an address, or that call an
// authorizer.
func (host *Host) Upgrade(query string) *Upgrade {
	return &Upgrade{host: host, query: parseQuery(query), sourceIP: "127.0.0.1"}
}

// PostsTo returns the messages that were posted to the peer so far, in order. Responses of the handler are not among
// them: Peer.Send returns those.
func (host *Host) PostsTo(peer *Peer) []jackfield.Payload {
	return append([]jackfield.Payload{}, peer.connection.posts...)
}

// TakePostsTo returns and removes the messages that were posted to the peer so far, in order.
func (host *Host) TakePostsTo(peer *Peer) []jackfield.Payload {
	posts := host.PostsTo(peer)
	peer.connection.posts = nil
	return posts
}

// FailPostsTo makes every later post to the peer fail with this error. With ErrLimitExceeded, the peer behaves like one
// that reads too slowly.
func (host *Host) FailPostsTo(peer *Peer, err error) {
	peer.connection.postError = err
}

// AddBucket grants a bucket, like the key buckets of the manifest.
func (host *Host) AddBucket(name string) {
	host.AddBucketWith(name, bucketBytesMax, bucketKeysMax)
}

// AddBucketWith grants a bucket that may hold this much, like size and keys of [buckets.NAME] in the manifest.
func (host *Host) AddBucketWith(name string, size, keys int64) {
	host.state.addBucket(name, size, keys)
}

// SetConfig sets a value of the handler's configuration.
func (host *Host) SetConfig(key, value string) {
	host.state.config[key] = value
}

// SetStageVariable sets a stage variable.
func (host *Host) SetStageVariable(name, value string) {
	host.state.stageVariables[name] = value
}

// Advance advances the clock of the host, which does not run by itself.
func (host *Host) Advance(by time.Duration) {
	host.state.now = host.state.now.Add(by)
}

// LogLine is a line in the log of the test double.
type LogLine struct {
	Level   jackfield.Level
	Context string
	Message string
}

// Logs returns the lines that handlers have logged.
func (host *Host) Logs() []LogLine {
	return append([]LogLine{}, host.state.logs...)
}

// Failures returns the errors of those $disconnect handlers that ran because a handler deleted a connection. No call of
// the test returns these errors.
func (host *Host) Failures() []error {
	return append([]error{}, host.state.failures...)
}

// Upgrade is the upgrade request of a peer that has not connected yet.
type Upgrade struct {
	host       *Host
	query      []jackfield.Field
	headers    []jackfield.Field
	sourceIP   string
	authorizer []jackfield.Field
}

// Header adds a header to the upgrade request.
func (upgrade *Upgrade) Header(name, value string) *Upgrade {
	upgrade.headers = append(upgrade.headers, jackfield.Field{Name: name, Value: value})
	return upgrade
}

// SourceIP sets the address of the peer, which is 127.0.0.1 by default.
func (upgrade *Upgrade) SourceIP(address string) *Upgrade {
	upgrade.sourceIP = address
	return upgrade
}

// Authorizer adds a value to the authorizer's grant.
func (upgrade *Upgrade) Authorizer(name, value string) *Upgrade {
	upgrade.authorizer = append(upgrade.authorizer, jackfield.Field{Name: name, Value: value})
	return upgrade
}

// Connect connects the peer. The error is a *ConnectError if the handler rejects the peer or fails.
func (upgrade *Upgrade) Connect() (*Peer, error) {
	if upgrade.host.handler == nil {
		return nil, fmt.Errorf("the program exports no handler: call jackfield.Export in a function init, or Host.Use")
	}
	state := upgrade.host.state
	connection, response, err := state.connect(upgrade.connection(), upgrade.event())
	if err != nil {
		return nil, err
	}
	return &Peer{state, connection, response}, nil
}

// Authorize returns the decision of the authorizer that the program exports about the peer, which is not connected.
func (upgrade *Upgrade) Authorize() (jackfield.Decision, error) {
	authorizer, _ := double.Authorizer.(jackfield.Authorizer)
	if authorizer == nil {
		return jackfield.Decision{}, fmt.Errorf(
			"the program exports no authorizer: call jackfield.ExportAuthorizer in a function init")
	}
	return upgrade.host.state.authorize(upgrade.connection(), upgrade.event(), authorizer)
}

func (upgrade *Upgrade) event() jackfield.ConnectEvent {
	return jackfield.ConnectEvent{Headers: upgrade.headers, QueryString: upgrade.query}
}

func (upgrade *Upgrade) connection() *connection {
	event := upgrade.event()
	identity := jackfield.Identity{SourceIP: upgrade.sourceIP, UserAgent: event.Header("User-Agent")}
	return &connection{handler: upgrade.host.handler, identity: identity, authorizer: upgrade.authorizer}
}

// Peer is the peer of a connection that was admitted.
type Peer struct {
	state      *state
	connection *connection
	response   jackfield.Response
}

// ID returns the id of the connection.
func (peer *Peer) ID() string {
	return peer.connection.id
}

// Response returns the handler's response to $connect.
func (peer *Peer) Response() jackfield.Response {
	return peer.response
}

// Send sends a text message and returns the handler's response.
//
// $request.body.action selects the route. A message without an action, or with one that the handler has no function for,
// is sent to $default. A handler that is no Routes has a function for every action.
func (peer *Peer) Send(text string) (jackfield.Response, error) {
	return peer.SendPayload(jackfield.Text(text))
}

// SendBinary sends a binary message and returns the handler's response.
func (peer *Peer) SendBinary(data []byte) (jackfield.Response, error) {
	return peer.SendPayload(jackfield.Binary(data))
}

// SendPayload sends a message and returns the handler's response.
func (peer *Peer) SendPayload(body jackfield.Payload) (jackfield.Response, error) {
	return peer.state.message(peer.connection, "", body)
}

// SendTo sends a message to this route, whatever the message contains.
func (peer *Peer) SendTo(routeKey string, body jackfield.Payload) (jackfield.Response, error) {
	return peer.state.message(peer.connection, routeKey, body)
}

// Close closes the connection with code 1000 and runs its $disconnect, whose error it returns.
func (peer *Peer) Close() error {
	return peer.CloseWith(1000, "")
}

// CloseWith closes the connection with this code and reason and runs its $disconnect, whose error it returns.
func (peer *Peer) CloseWith(code int, reason string) error {
	return peer.state.close(peer.connection, jackfield.CloseFrame{Code: code, Reason: reason})
}

// IsOpen returns whether the connection is open.
func (peer *Peer) IsOpen() bool {
	return peer.connection.closed == nil
}

// CloseFrame returns the code and reason with which either side has closed the connection, and nil while it is open.
func (peer *Peer) CloseFrame() *jackfield.CloseFrame {
	return peer.connection.closed
}

// ConnectError is the reason why a peer was not admitted.
type ConnectError struct {
	// StatusCode is the HTTP status that the peer receives.
	StatusCode int
	// Response is that of the handler, if it has rejected the peer.
	Response jackfield.Response
	// Err is the failure of the handler, or nil.
	Err error
}

func (err *ConnectError) Error() string {
	if err.Err != nil {
		return "the handler failed: " + err.Err.Error()
	}
	return fmt.Sprintf("the handler rejected the peer with %d", err.StatusCode)
}

// Unwrap returns the failure of the handler, or nil.
func (err *ConnectError) Unwrap() error {
	return err.Err
}
