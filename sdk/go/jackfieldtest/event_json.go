//go:build !wasm

package jackfieldtest

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"jackfield.dev/jackfield"
)

// eventJSON returns the event that is being handled as the JSON that API Gateway sends to a Lambda function. The keys,
// their order and the values are those of the real host, for a peer without a proxy.
func eventJSON(event *currentEvent, connection jackfield.ConnectionContext) string {
	var document object
	if event.isAuthorizer {
		authorizerEvent(&document, event, connection)
	} else {
		handlerEvent(&document, event, connection)
	}
	return document.String()
}

func handlerEvent(document *object, event *currentEvent, connection jackfield.ConnectionContext) {
	if event.connect != nil {
		headers := forwardedHeaders(event, connection)
		for _, name := range []string{"Connection", "Upgrade", "content-length"} {
			headers.remove(name)
		}
		headers.sort()
		document.fields("headers", "multiValueHeaders", headers)
		if len(event.connect.QueryString) > 0 {
			query := group(event.connect.QueryString, equal)
			document.fields("queryStringParameters", "multiValueQueryStringParameters", query)
		}
	}
	if event.disconnect != nil {
		headers := []jackfield.Field{
			{Name: "Host", Value: connection.DomainName}, {Name: "x-api-key"}, {Name: "X-Forwarded-For"}, {Name: "x-restapi"},
		}
		document.fields("headers", "multiValueHeaders", group(headers, equal))
	}
	if len(connection.StageVariables) > 0 {
		document.raw("stageVariables", group(connection.StageVariables, equal).lastValues())
	}
	document.raw("requestContext", requestContext(event, connection))
	isBase64Encoded := false
	if event.message != nil {
		body := event.message.Body.String()
		if isBase64Encoded = event.message.Body.IsBinary(); isBase64Encoded {
			body = base64.StdEncoding.EncodeToString([]byte(body))
		}
		document.entry("body", body)
	}
	document.entry("isBase64Encoded", isBase64Encoded)
}

// authorizerEvent is the event of a REQUEST authorizer, whose event is that of $connect.
func authorizerEvent(document *object, event *currentEvent, connection jackfield.ConnectionContext) {
	headers := forwardedHeaders(event, connection)
	headers.set("Connection", "upgrade")
	headers.set("Upgrade", "websocket")
	headers.set("content-length", "0")
	headers.sort()
	document.entry("type", "REQUEST")
	document.entry("methodArn", fmt.Sprintf(
		"arn:aws:execute-api:us-east-1:123456789012:%s/%s/%s", connection.APIID, connection.Stage, event.context.RouteKey))
	document.fields("headers", "multiValueHeaders", headers)
	query := group(event.connect.QueryString, equal)
	document.fields("queryStringParameters", "multiValueQueryStringParameters", query)
	document.raw("stageVariables", group(connection.StageVariables, equal).lastValues())
	document.raw("requestContext", requestContext(event, connection))
}

// forwardedHeaders adds the headers that API Gateway adds. The values that a proxy has sent are kept.
func forwardedHeaders(event *currentEvent, connection jackfield.ConnectionContext) *groups {
	headers := group(event.connect.Headers, strings.EqualFold)
	seconds := event.context.RequestTime.UnixMilli() / 1000
	unique := strings.TrimRight(event.context.RequestID, "=")
	unique = strings.Repeat("0", max(0, 24-len(unique))) + unique
	headers.set("X-Amzn-Trace-Id", headers.last("X-Amzn-Trace-Id", fmt.Sprintf("Root=1-%08x-%s", seconds, unique)))
	addresses := append(slices.Clone(headers.all("X-Forwarded-For")), connection.Identity.SourceIP)
	headers.set("X-Forwarded-For", strings.Join(addresses, ", "))
	proto := headers.last("X-Forwarded-Proto", "http")
	headers.set("X-Forwarded-Port", headers.last("X-Forwarded-Port", portOf(connection.DomainName, proto)))
	headers.set("X-Forwarded-Proto", proto)
	return headers
}

func requestContext(event *currentEvent, connection jackfield.ConnectionContext) string {
	var document object
	document.entry("routeKey", event.context.RouteKey)
	if len(connection.Authorizer) > 0 {
		document.raw("authorizer", group(connection.Authorizer, equal).lastValues())
	}
	switch {
	case event.connect != nil:
		document.entry("eventType", "CONNECT")
	case event.message != nil:
		document.entry("messageId", event.message.MessageID)
		document.entry("eventType", "MESSAGE")
	default:
		document.entry("disconnectStatusCode", event.disconnect.StatusCode)
		document.entry("eventType", "DISCONNECT")
	}
	document.entry("extendedRequestId", event.context.RequestID)
	document.entry("requestTime", event.context.RequestTime.UTC().Format("02/Jan/2006:15:04:05 -0700"))
	document.entry("messageDirection", "IN")
	if event.disconnect != nil {
		document.entry("disconnectReason", event.disconnect.Reason)
	}
	document.entry("stage", connection.Stage)
	document.entry("connectedAt", event.context.ConnectedAt.UnixMilli())
	document.entry("requestTimeEpoch", event.context.RequestTime.UnixMilli())
	var identity object
	if connection.Identity.UserAgent != "" {
		identity.entry("userAgent", connection.Identity.UserAgent)
	}
	identity.entry("sourceIp", connection.Identity.SourceIP)
	document.raw("identity", identity.String())
	document.entry("requestId", event.context.RequestID)
	document.entry("domainName", connection.DomainName)
	document.entry("connectionId", event.context.ConnectionID)
	document.entry("apiId", connection.APIID)
	return document.String()
}

// portOf returns the port in a Host header; if it has none, the default port of the scheme.
func portOf(host, proto string) string {
	if colon := strings.LastIndexByte(host, ':'); colon >= 0 {
		port := host[colon+1:]
		isDigit := func(char rune) bool { return char >= '0' && char <= '9' }
		if port != "" && strings.TrimFunc(port, isDigit) == "" {
			return port
		}
	}
	if strings.EqualFold(proto, "https") {
		return "443"
	}
	return "80"
}

// object is a JSON object whose keys keep their order.
type object struct {
	text bytes.Buffer
}

func (document *object) entry(name string, value any) {
	document.raw(name, encode(value))
}

// raw adds a value that is JSON already.
func (document *object) raw(name, value string) {
	if document.text.Len() == 0 {
		document.text.WriteByte('{')
	} else {
		document.text.WriteByte(',')
	}
	document.text.WriteString(encode(name) + ":" + value)
}

// fields adds fields under two keys: with the last value of each name, and with all values.
func (document *object) fields(last, all string, fields *groups) {
	document.raw(last, fields.lastValues())
	document.raw(all, fields.allValues())
}

func (document *object) String() string {
	if document.text.Len() == 0 {
		return "{}"
	}
	return document.text.String() + "}"
}

func encode(value any) string {
	var text bytes.Buffer
	encoder := json.NewEncoder(&text)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(value); err != nil {
		panic(err)
	}
	return strings.TrimSuffix(text.String(), "\n")
}

// groups has each name with all of its values, in the order in which the names first appear.
type groups struct {
	names  []string
	values [][]string
}

func equal(a, b string) bool {
	return a == b
}

func group(fields []jackfield.Field, same func(a, b string) bool) *groups {
	grouped := &groups{}
	for _, field := range fields {
		index := slices.IndexFunc(grouped.names, func(name string) bool { return same(name, field.Name) })
		if index < 0 {
			index = len(grouped.names)
			grouped.names = append(grouped.names, field.Name)
			grouped.values = append(grouped.values, nil)
		}
		grouped.values[index] = append(grouped.values[index], field.Value)
	}
	return grouped
}

func (grouped *groups) index(name string) int {
	return slices.IndexFunc(grouped.names, func(other string) bool { return strings.EqualFold(other, name) })
}

func (grouped *groups) all(name string) []string {
	if index := grouped.index(name); index >= 0 {
		return grouped.values[index]
	}
	return nil
}

func (grouped *groups) last(name, fallback string) string {
	values := grouped.all(name)
	if len(values) == 0 {
		return fallback
	}
	return values[len(values)-1]
}

func (grouped *groups) remove(name string) {
	if index := grouped.index(name); index >= 0 {
		grouped.names = slices.Delete(grouped.names, index, index+1)
		grouped.values = slices.Delete(grouped.values, index, index+1)
	}
}

func (grouped *groups) set(name, value string) {
	grouped.remove(name)
	grouped.names = append(grouped.names, name)
	grouped.values = append(grouped.values, []string{value})
}

func (grouped *groups) sort() {
	order := make([]int, len(grouped.names))
	for index := range order {
		order[index] = index
	}
	slices.SortStableFunc(order, func(a, b int) int {
		return strings.Compare(strings.ToLower(grouped.names[a]), strings.ToLower(grouped.names[b]))
	})
	sorted := groups{}
	for _, index := range order {
		sorted.names = append(sorted.names, grouped.names[index])
		sorted.values = append(sorted.values, grouped.values[index])
	}
	*grouped = sorted
}

func (grouped *groups) lastValues() string {
	var document object
	for index, name := range grouped.names {
		document.entry(name, grouped.values[index][len(grouped.values[index])-1])
	}
	return document.String()
}

func (grouped *groups) allValues() string {
	var document object
	for index, name := range grouped.names {
		document.entry(name, grouped.values[index])
	}
	return document.String()
}
