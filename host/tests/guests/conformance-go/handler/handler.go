// Package handler is the handler of the cases: each event makes the calls that came with it, and keeps or returns their
// results.
package handler

import (
	"encoding/json"
	"strconv"
	"strings"

	"jackfield.dev/jackfield"
)

// bucket is the one in which the handler keeps results, and calls for later events. No case uses it.
const bucket = "conformance"

// Plugin is the handler.
var Plugin = jackfield.Plugin{Connect: connect, Message: message, Disconnect: disconnect}

// connect makes the calls of the parameter calls, and keeps their results as "connect ID". The parameter status is the
// status of the response.
func connect(context *jackfield.RequestContext, request *jackfield.ConnectEvent) (jackfield.Response, error) {
	query, headers := []any{}, []any{}
	for _, field := range request.QueryString {
		if field.Name != "calls" && field.Name != "status" {
			query = append(query, pair(field))
		}
	}
	for _, field := range request.Headers {
		if strings.HasPrefix(strings.ToLower(field.Name), "x-test") {
			headers = append(headers, pair(field))
		}
	}
	event := map[string]any{
		"connection-id": context.ConnectionID,
		"route-key":     context.RouteKey,
		"query-string":  query,
		"headers":       headers,
	}
	if text, exists := request.LookupQuery("calls"); exists {
		calls, err := parse(text)
		if err != nil {
			return jackfield.Response{}, err
		}
		results, err := run(calls, context, event)
		if err != nil {
			return jackfield.Response{}, err
		}
		if err := keep("connect "+context.ConnectionID, results); err != nil {
			return jackfield.Response{}, err
		}
	}
	status := 200
	if text, exists := request.LookupQuery("status"); exists {
		var err error
		if status, err = strconv.Atoi(text); err != nil {
			return jackfield.Response{}, err
		}
	}
	return response(status), nil
}

// response returns a response with this status. A status of 0 in a Response stands for 200, so that an invalid one is
// returned in its place.
func response(status int) jackfield.Response {
	if status == 0 {
		status = -1
	}
	return jackfield.Status(status)
}

// message makes the calls of a message, or keeps them for $disconnect, or returns results that were kept, or a response
// of a given status and length. Any other message is returned with its route.
func message(context *jackfield.RequestContext, message *jackfield.MessageEvent) (jackfield.Response, error) {
	var document map[string]any
	if !message.Body.IsBinary() {
		value, _ := parse(message.Body.String())
		document, _ = value.(map[string]any)
	}
	var reply any
	var err error
	if calls, isList := document["calls"].([]any); isList {
		event := map[string]any{"connection-id": context.ConnectionID, "route-key": context.RouteKey}
		reply, err = run(calls, context, event)
	} else if calls, isList := document["at-disconnect"].([]any); isList {
		err = keep("calls "+context.ConnectionID, calls)
	} else if status, isNumber := document["status"].(json.Number); isNumber {
		return respond(status, document["bytes"])
	} else if key, isText := document["kept"].(string); isText {
		reply, err = kept(key)
	} else {
		body := map[string]any{"text": message.Body.String()}
		if message.Body.IsBinary() {
			body = map[string]any{"binary": fromBytes(message.Body.Bytes())}
		}
		reply = shortened(map[string]any{"route-key": context.RouteKey, "body": body})
	}
	if err != nil {
		return jackfield.Response{}, err
	}
	text, err := json.Marshal(reply)
	return jackfield.ReplyText(replyPrefix + string(text)), err
}

func respond(status json.Number, bytes any) (jackfield.Response, error) {
	code, err := status.Int64()
	if err != nil {
		return jackfield.Response{}, err
	}
	length := 0
	if number, isNumber := bytes.(json.Number); isNumber {
		length = count(number)
	}
	response := response(int(code))
	response.Body = jackfield.Text(replyPrefix + strings.Repeat("x", max(0, length-len(replyPrefix))))
	return response, nil
}

// disconnect makes the calls that were kept for this connection, and keeps their results as "disconnect ID".
func disconnect(context *jackfield.RequestContext, event *jackfield.DisconnectEvent) error {
	calls, err := kept("calls " + context.ConnectionID)
	if err != nil {
		return err
	}
	if calls == nil {
		calls = []any{}
	}
	results, err := run(calls, context, map[string]any{
		"connection-id": context.ConnectionID,
		"route-key":     context.RouteKey,
		"code":          event.StatusCode,
		"reason":        event.Reason,
	})
	if err != nil {
		return err
	}
	return keep("disconnect "+context.ConnectionID, results)
}

func run(calls any, context *jackfield.RequestContext, event any) (any, error) {
	list, _ := expand(calls).([]any)
	run := caller{ownID: context.ConnectionID, event: event}
	results := []any{}
	for _, call := range list {
		result, err := run.call(call)
		if err != nil {
			return nil, err
		}
		results = append(results, result)
	}
	return shortened(results), nil
}

func keep(key string, value any) error {
	bucket, err := jackfield.OpenBucket(bucket)
	if err != nil {
		return err
	}
	return bucket.SetJSON(key, value)
}

// kept returns what was kept, or nil.
func kept(key string) (any, error) {
	bucket, err := jackfield.OpenBucket(bucket)
	if err != nil {
		return nil, err
	}
	text, exists, err := bucket.Get(key)
	if err != nil || !exists {
		return nil, err
	}
	return parse(string(text))
}
