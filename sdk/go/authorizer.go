package jackfield

// Authorizer decides about an upgrade request, before $connect, whether the peer is admitted. An error rejects the peer
// with 500, and the host logs its text.
type Authorizer func(context *RequestContext, request *ConnectEvent) (Decision, error)

// Decision is the decision of an authorizer. The zero value denies.
type Decision struct {
	kind        decisionKind
	principalID string
	values      []Field
}

type decisionKind uint8

const (
	deny decisionKind = iota
	allow
	unauthorized
)

// Allow admits the peer as this principal.
func Allow(principalID string) Decision {
	return Decision{kind: allow, principalID: principalID}
}

// Deny rejects a peer that is known but not allowed to connect, with 403.
func Deny() Decision {
	return Decision{kind: deny}
}

// Unauthorized rejects a peer that is not known, with 401.
func Unauthorized() Decision {
	return Decision{kind: unauthorized}
}

// With returns the decision with a value that ConnectionContext.Authorizer has during every later event of the
// connection. All values together have at most 8 KiB, with their names and the principal.
func (decision Decision) With(name, value string) Decision {
	values := decision.values[:len(decision.values):len(decision.values)]
	decision.values = append(values, Field{name, value})
	return decision
}

// IsAllowed returns whether the peer is admitted.
func (decision Decision) IsAllowed() bool {
	return decision.kind == allow
}

// StatusCode returns the status with which the peer is rejected, and 200 if it is admitted.
func (decision Decision) StatusCode() int {
	switch decision.kind {
	case allow:
		return 200
	case unauthorized:
		return 401
	default:
		return 403
	}
}

// PrincipalID returns the principal as which the peer is admitted.
func (decision Decision) PrincipalID() string {
	return decision.principalID
}

// Values returns the values for later events.
func (decision Decision) Values() []Field {
	return decision.values
}
