package jackfieldtest

import (
	"os"
	"strings"
	"testing"
	"time"

	"jackfield.dev/jackfield"
)

// golden returns the golden file with this name, which the real host is compared with too, without its indentation.
func golden(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile("../../../host/tests/golden/" + name + ".json")
	if err != nil {
		t.Fatal(err)
	}
	var compact strings.Builder
	for line := range strings.SplitSeq(string(text), "\n") {
		compact.WriteString(strings.Replace(strings.TrimSpace(line), "\": ", "\":", 1))
	}
	return compact.String()
}

func fields(pairs ...string) []jackfield.Field {
	var fields []jackfield.Field
	for index := 0; index < len(pairs); index += 2 {
		fields = append(fields, jackfield.Field{Name: pairs[index], Value: pairs[index+1]})
	}
	return fields
}

func context(connection, request, routeKey string, connectedAt, requestTime int64) jackfield.RequestContext {
	return jackfield.RequestContext{
		ConnectionID: connection,
		RouteKey:     routeKey,
		RequestID:    request,
		RequestTime:  time.UnixMilli(requestTime),
		ConnectedAt:  time.UnixMilli(connectedAt),
	}
}

func expect(t *testing.T, event *currentEvent, connection jackfield.ConnectionContext, name string) {
	t.Helper()
	if found, expected := eventJSON(event, connection), golden(t, name); found != expected {
		t.Errorf("found    %s\nexpected %s", found, expected)
	}
}

func capture() jackfield.ConnectionContext {
	return jackfield.ConnectionContext{
		APIID:      "dl7ptocha9",
		Stage:      "prod",
		DomainName: "dl7ptocha9.execute-api.ap-northeast-1.amazonaws.com",
		Identity:   jackfield.Identity{SourceIP: "49.105.91.154"},
	}
}

func TestAMessageEventIsThatOfTheRealHost(t *testing.T) {
	connection := capture()
	connection.Identity.UserAgent = "Mozilla/5.0 (X11; Linux x86_64)"
	message := jackfield.MessageEvent{MessageID: "R1knPc2ntjMCFIA=", Body: jackfield.Text("{\r\n\t\"a\": 1\r\n}")}
	event := &currentEvent{
		context: context("R1kmxc2VNjMCFIA=", "R1knPH17NjMFftw=", "$default", 1_705_751_697_419, 1_705_751_700_453),
		message: &message,
	}
	expect(t, event, connection, "message")

	event.context.RouteKey = "sendmessage"
	connection.Identity.UserAgent = ""
	connection.Authorizer = fields("principalId", "user-1", "admin", "true", "quota", "42")
	connection.StageVariables = fields("table", "connections-prod", "mode", "")
	message.Body = jackfield.Binary([]byte{0, 1, 254, 255})
	expect(t, event, connection, "message_binary_after_an_authorizer")
}

func TestADisconnectEventIsThatOfTheRealHost(t *testing.T) {
	connection := capture()
	connection.Authorizer = fields("principalId", "user-1", "admin", "true", "quota", "42")
	connection.StageVariables = fields("table", "connections-prod")
	reason := "Client-side close frame status not set"
	event := &currentEvent{
		context:    context("R1kmxc2VNjMCFIA=", "R1koeHsUtjMFbRw=", "$disconnect", 1_705_751_697_419, 1_705_751_708_326),
		disconnect: &jackfield.DisconnectEvent{StatusCode: 1005, Reason: reason},
	}
	expect(t, event, connection, "disconnect_after_an_authorizer")
}

func TestTheEventOfAnAuthorizerIsThatOfTheRealHost(t *testing.T) {
	host := "abcdef123.execute-api.us-east-1.amazonaws.com"
	connection := jackfield.ConnectionContext{
		APIID:          "abcdef123",
		Stage:          "default",
		DomainName:     host,
		Identity:       jackfield.Identity{SourceIP: "192.0.2.1"},
		StageVariables: fields("table", "connections-prod"),
	}
	event := &currentEvent{
		context: context("eyo8acKnIAMCFdw=", "eyo8aHZUIAMFo3A=", "$connect", 1_674_162_806_344, 1_674_162_806_345),
		connect: &jackfield.ConnectEvent{Headers: fields(
			"Host", host,
			"Upgrade", "websocket",
			"Connection", "Upgrade",
			"Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==",
			"Sec-WebSocket-Version", "13",
			"Sec-WebSocket-Extensions", "permessage-deflate; client_max_window_bits",
			"x-forwarded-proto", "https",
			"x-amzn-trace-id", "Root=1-63c9b276-0123456789abcdef01234567",
			"HeaderAuth1", "headerValue1",
		)},
		isAuthorizer: true,
	}
	expect(t, event, connection, "authorizer_without_a_query")
}

func TestAnActionSelectsItsRoute(t *testing.T) {
	all, some := jackfield.Plugin{}, jackfield.Routes{"send": {}, "7": {}}
	for _, test := range []struct {
		body     jackfield.Payload
		handler  jackfield.Handler
		expected string
	}{
		{jackfield.Text(`{"action":"send"}`), all, "send"},
		{jackfield.Text(`{"action":"send"}`), some, "send"},
		{jackfield.Text(`{"action":"who"}`), some, "$default"},
		{jackfield.Text(`{"action":7}`), some, "7"},
		{jackfield.Text("hello"), all, "$default"},
		{jackfield.Text(`"send"`), all, "$default"},
		{jackfield.Text(`{"action":["a",1, [null]]}`), all, "[a, 1, [null]]"},
		{jackfield.Text(`{"action":{"b" : [1, 2.50], "a":{}}}`), all, `{"b":[1,2.50],"a":{}}`},
		{jackfield.Text(`{"action":1e2}`), all, "1e2"},
		{jackfield.Text(`{"action":"$connect"}`), all, "$default"},
		{jackfield.Binary([]byte(`{"action":"send"}`)), all, "$default"},
	} {
		if found := selectRoute(test.body, test.handler); found != test.expected {
			t.Errorf("%s: found %s, expected %s", test.body, found, test.expected)
		}
	}
}

func TestAQueryStringIsParsedAndDecoded(t *testing.T) {
	found := parseQuery("?a=1&b=x%20y+z&c&a=%C3%A4&d=100%")
	expected := fields("a", "1", "b", "x y z", "c", "", "a", "ä", "d", "100%")
	if len(found) != len(expected) {
		t.Fatal(found)
	}
	for index := range found {
		if found[index] != expected[index] {
			t.Errorf("found %v, expected %v", found[index], expected[index])
		}
	}
}
