package jackfield

import "time"

// ConnectionInfo is what is known about a connection.
type ConnectionInfo struct {
	// ConnectedAt is the time at which the upgrade request arrived.
	ConnectedAt time.Time
	// LastActiveAt is the time at which the last message was received from the peer or sent to it.
	LastActiveAt time.Time
	Identity     Identity
}

// CloseFrame is the code and the reason with which a connection is closed.
type CloseFrame struct {
	// Code is from 1000 to 1003, 1007 to 1014 or 3000 to 4999.
	Code int
	// Reason has at most 123 bytes.
	Reason string
}

// PostToConnection queues a message for the peer, on any node that holds its connection. It returns as soon as the
// message is queued, not when it is delivered.
//
// The error is ErrGone, ErrPayloadTooLarge, ErrLimitExceeded or ErrForbidden.
func PostToConnection(id string, payload Payload) error {
	return currentHost().PostToConnection(id, payload)
}

// PostToConnections queues the same message for many peers in one call. It returns one error, or nil, for each id, in
// the order of the ids.
func PostToConnections(ids []string, payload Payload) []error {
	return currentHost().PostToConnections(ids, payload)
}

// PostToMatching queues the same message for every connection whose row has the attribute name = value, except for the
// connection except, which can be "". It returns for how many connections the message was queued: one that is gone or
// whose peer reads too slowly is not counted.
//
// This is one call for any number of connections, and the handler does not have to read their rows.
func PostToMatching(name, value string, payload Payload, except string) (int, error) {
	if except == "" {
		return currentHost().PostToMatching(name, value, payload, nil)
	}
	return currentHost().PostToMatching(name, value, payload, &except)
}

// GetConnection returns when the connection was opened, when it was last active, and the identity of its peer. The error
// is ErrGone, ErrLimitExceeded or ErrForbidden.
func GetConnection(id string) (ConnectionInfo, error) {
	return currentHost().GetConnection(id)
}

// DeleteConnection closes the connection with code 1000 and no reason. What was posted before is still sent. The error
// is ErrGone, ErrLimitExceeded or ErrForbidden.
func DeleteConnection(id string) error {
	return currentHost().DeleteConnection(id, nil)
}

// DeleteConnectionWith closes the connection with this code and reason. A frame that cannot be sent ends the event.
func DeleteConnectionWith(id string, frame CloseFrame) error {
	return currentHost().DeleteConnection(id, &frame)
}

// CurrentConnection is the connection whose event is being handled.
var CurrentConnection currentConnection

type currentConnection struct{}

// Context returns the properties of the connection that do not change while it is open. They are not part of every
// event, because most handlers do not need them and each event copies its strings.
func (currentConnection) Context() ConnectionContext {
	return currentHost().Context()
}

// Event returns the event that is being handled as JSON, exactly as API Gateway sends it to a Lambda function.
func (currentConnection) Event() string {
	return currentHost().Event()
}
