package jackfield

import (
	"strings"
	"time"
)

// Field is a name and its value: a header, a value of a query string, an attribute of a row.
type Field struct {
	Name, Value string
}

// RequestContext is the context of an event. CurrentConnection has more about the connection.
type RequestContext struct {
	// ConnectionID identifies the connection from its upgrade request until it is closed.
	ConnectionID string
	// RouteKey is the route that was selected, such as "$connect" or "sendmessage".
	RouteKey string
	// RequestID identifies this event, also in the host's log.
	RequestID string
	// RequestTime is the time at which the event arrived, in milliseconds.
	RequestTime time.Time
	// ConnectedAt is the time at which the upgrade request arrived, in milliseconds.
	ConnectedAt time.Time
}

// ConnectEvent is the upgrade request of a peer, which waits for the response of the handler.
type ConnectEvent struct {
	// Headers have the order and the case in which the peer sent the names.
	Headers []Field
	// QueryString has the names and values in their order, percent-decoded.
	QueryString []Field
}

// Query returns the first value of the name in the query string, and "" if there is none.
func (event *ConnectEvent) Query(name string) string {
	value, _ := event.LookupQuery(name)
	return value
}

// LookupQuery returns the first value of the name in the query string, and whether there is one.
func (event *ConnectEvent) LookupQuery(name string) (string, bool) {
	return lookup(event.QueryString, name)
}

// Header returns the first value of the header, without regard to case, and "" if there is none.
func (event *ConnectEvent) Header(name string) string {
	for _, field := range event.Headers {
		if strings.EqualFold(field.Name, name) {
			return field.Value
		}
	}
	return ""
}

// Subprotocols returns the subprotocols that the peer offers, in the order of its preference. A peer that offers some
// expects one of them in the header Sec-WebSocket-Protocol of the response.
func (event *ConnectEvent) Subprotocols() []string {
	var offered []string
	for _, field := range event.Headers {
		if !strings.EqualFold(field.Name, "Sec-WebSocket-Protocol") {
			continue
		}
		for name := range strings.SplitSeq(field.Value, ",") {
			if name = strings.TrimSpace(name); name != "" {
				offered = append(offered, name)
			}
		}
	}
	return offered
}

// MessageEvent is a message of the peer.
type MessageEvent struct {
	MessageID string
	Body      Payload
}

// DisconnectEvent is the end of a connection, which is already closed.
type DisconnectEvent struct {
	// StatusCode is the close code of RFC 6455: 1005 if the peer sent none, 1006 if the connection was lost.
	StatusCode int
	// Reason is the close reason; empty if there was none.
	Reason string
}

// Identity is what is known about a peer.
type Identity struct {
	// SourceIP is the source address of the upgrade request.
	SourceIP string
	// UserAgent is the User-Agent header of the upgrade request; empty if there was none.
	UserAgent string
}

// ConnectionContext has the properties of a connection that do not change while it is open.
type ConnectionContext struct {
	// APIID is the id of the API in the manifest.
	APIID string
	// Stage is the path of the API.
	Stage string
	// DomainName is the Host header of the upgrade request.
	DomainName string
	Identity   Identity
	// Authorizer has the values that the authorizer granted, among them principalId.
	Authorizer []Field
	// StageVariables are those of the manifest.
	StageVariables []Field
}

// AuthorizerValue returns a value that the authorizer granted, and "" if there is none.
func (context *ConnectionContext) AuthorizerValue(name string) string {
	value, _ := lookup(context.Authorizer, name)
	return value
}

// StageVariable returns a stage variable, and "" if there is none.
func (context *ConnectionContext) StageVariable(name string) string {
	value, _ := lookup(context.StageVariables, name)
	return value
}

func lookup(fields []Field, name string) (string, bool) {
	for _, field := range fields {
		if field.Name == name {
			return field.Value, true
		}
	}
	return "", false
}
