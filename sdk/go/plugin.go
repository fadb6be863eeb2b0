package jackfield

// Handler receives the events of connections. Plugin, Routes and any other type with these methods are handlers.
//
// Each event can run in a fresh sandbox, in which the variables of the program have their initial values. Data for
// later events belongs into the ConnectionStore or into a Bucket.
type Handler interface {
	// OnConnect decides whether a peer that connects is admitted. Nothing can be sent to the peer before that. An error
	// rejects the peer with 502.
	OnConnect(context *RequestContext, request *ConnectEvent) (Response, error)
	// OnMessage handles a message of the peer. With an error, the peer receives the message of an internal error, and
	// the host logs the text of the error.
	OnMessage(context *RequestContext, message *MessageEvent) (Response, error)
	// OnDisconnect handles the end of a connection, which is already closed. Its row in the connection store is removed
	// afterwards. The host logs an error.
	OnDisconnect(context *RequestContext, event *DisconnectEvent) error
}

// Plugin is a handler of up to three functions. A peer is admitted if Connect is nil, a message is accepted without a
// reply if Message is nil, and nothing happens at the end of a connection if Disconnect is nil.
type Plugin struct {
	Connect    func(*RequestContext, *ConnectEvent) (Response, error)
	Message    func(*RequestContext, *MessageEvent) (Response, error)
	Disconnect func(*RequestContext, *DisconnectEvent) error
}

// OnConnect calls Connect.
func (plugin Plugin) OnConnect(context *RequestContext, request *ConnectEvent) (Response, error) {
	if plugin.Connect == nil {
		return OK(), nil
	}
	return plugin.Connect(context, request)
}

// OnMessage calls Message.
func (plugin Plugin) OnMessage(context *RequestContext, message *MessageEvent) (Response, error) {
	if plugin.Message == nil {
		return OK(), nil
	}
	return plugin.Message(context, message)
}

// OnDisconnect calls Disconnect.
func (plugin Plugin) OnDisconnect(context *RequestContext, event *DisconnectEvent) error {
	if plugin.Disconnect == nil {
		return nil
	}
	return plugin.Disconnect(context, event)
}
