package jackfield

import "fmt"

// Routes is a handler of one function for each route key:
//
//	jackfield.Export(jackfield.Routes{
//		"$connect":    jackfield.OnConnect(connect),
//		"sendmessage": jackfield.OnJSON(sendMessage),
//		"$default":    jackfield.OnMessage(unknownAction),
//		"$disconnect": jackfield.OnDisconnect(disconnect),
//	})
//
// Without $connect every peer is admitted, and without $disconnect nothing happens at the end of a connection. A message
// of any other route that is not named is an error of the handler.
type Routes map[string]Route

// Route is the function of a route: OnConnect, OnMessage, OnJSON or OnDisconnect return one.
type Route struct {
	plugin Plugin
}

// OnConnect returns the function of $connect.
func OnConnect(function func(*RequestContext, *ConnectEvent) (Response, error)) Route {
	return Route{Plugin{Connect: function}}
}

// OnMessage returns the function of a route of messages.
func OnMessage(function func(*RequestContext, *MessageEvent) (Response, error)) Route {
	return Route{Plugin{Message: function}}
}

// OnJSON returns the function of a route whose messages are JSON. A message that is no T is the peer's mistake: the
// function is not called, and the response has status 400 and the reason in its body.
func OnJSON[T any](function func(*RequestContext, *T) (Response, error)) Route {
	return OnMessage(func(context *RequestContext, message *MessageEvent) (Response, error) {
		var value T
		if err := message.Body.Unmarshal(&value); err != nil {
			reason := struct {
				Message string `json:"message"`
				Reason  string `json:"reason"`
			}{"Bad Request", err.Error()}
			response, err := ReplyJSON(reason)
			response.StatusCode = 400
			return response, err
		}
		return function(context, &value)
	})
}

// OnDisconnect returns the function of $disconnect.
func OnDisconnect(function func(*RequestContext, *DisconnectEvent) error) Route {
	return Route{Plugin{Disconnect: function}}
}

// OnConnect calls the function of $connect.
func (routes Routes) OnConnect(context *RequestContext, request *ConnectEvent) (Response, error) {
	return routes["$connect"].plugin.OnConnect(context, request)
}

// OnMessage calls the function of the route of the message.
func (routes Routes) OnMessage(context *RequestContext, message *MessageEvent) (Response, error) {
	route, exists := routes[context.RouteKey]
	if !exists || route.plugin.Message == nil {
		return Response{}, fmt.Errorf(
			"the manifest sends the route %s to this plugin, which has no function for it", context.RouteKey)
	}
	return route.plugin.Message(context, message)
}

// OnDisconnect calls the function of $disconnect.
func (routes Routes) OnDisconnect(context *RequestContext, event *DisconnectEvent) error {
	return routes["$disconnect"].plugin.OnDisconnect(context, event)
}
