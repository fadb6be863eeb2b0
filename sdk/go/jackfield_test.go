package jackfield_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"jackfield.dev/jackfield"
	"jackfield.dev/jackfield/jackfieldtest"
)

// greet is a message of the route greet.
type greet struct {
	Name string `json:"name"`
}

var greeter = jackfield.Routes{
	"$connect": jackfield.OnConnect(func(
		context *jackfield.RequestContext,
		request *jackfield.ConnectEvent,
	) (jackfield.Response, error) {
		user := request.Query("user")
		if user == "" {
			return jackfield.Status(400), nil
		}
		offered := request.Subprotocols()
		response := jackfield.OK()
		if len(offered) > 0 {
			response = response.WithHeader("Sec-WebSocket-Protocol", offered[0])
		}
		return response, jackfield.ConnectionStore.Add(context.ConnectionID, "user", user)
	}),
	"greet": jackfield.OnJSON(func(_ *jackfield.RequestContext, greet *greet) (jackfield.Response, error) {
		return jackfield.ReplyJSON(map[string]string{"text": "hello " + greet.Name})
	}),
	"fail": jackfield.OnMessage(func(*jackfield.RequestContext, *jackfield.MessageEvent) (jackfield.Response, error) {
		return jackfield.Response{}, fmt.Errorf("no post: %w", jackfield.PostToConnection("none", jackfield.Text("x")))
	}),
	"$disconnect": jackfield.OnDisconnect(func(
		context *jackfield.RequestContext,
		event *jackfield.DisconnectEvent,
	) error {
		jackfield.Log.Info(context.RouteKey, " ", event.StatusCode)
		_, err := jackfield.ConnectionStore.Get(context.ConnectionID)
		return err
	}),
}

func start(t *testing.T, handler jackfield.Handler) *jackfieldtest.Host {
	host := jackfieldtest.New(t)
	host.Use(handler)
	return host
}

func TestEachRouteHasItsFunction(t *testing.T) {
	host := start(t, greeter)
	_, err := host.Connect("")
	var rejection *jackfieldtest.ConnectError
	if !errors.As(err, &rejection) || rejection.StatusCode != 400 {
		t.Fatal(err)
	}
	peer, err := host.Upgrade("?user=A").Header("sec-websocket-protocol", "chat.v2, chat.v1").Connect()
	if err != nil || peer.Response().Headers[0].Value != "chat.v2" {
		t.Fatal(peer, err)
	}
	for message, expected := range map[string]string{
		`{"action":"greet","name":"<A>"}`: `{"text":"hello <A>"}`,
		`{"action":"greet","name":7}`:     `{"message":"Bad Request"`,
	} {
		response, err := peer.Send(message)
		if err != nil || !strings.HasPrefix(response.Body.String(), expected) {
			t.Error(message, response, err)
		}
	}
	if _, err := peer.Send(`{"action":"fail"}`); !errors.Is(err, jackfield.ErrGone) {
		t.Error(err)
	}
	if _, err := peer.Send(`{"action":"other"}`); err == nil || !strings.Contains(err.Error(), "the route $default") {
		t.Error(err)
	}
	if err := peer.Close(); err != nil {
		t.Error(err)
	}
	expected := []jackfieldtest.LogLine{{Level: jackfield.LevelInfo, Message: "$disconnect 1000"}}
	if !slices.Equal(host.Logs(), expected) {
		t.Error(host.Logs())
	}
	if _, err := jackfield.ConnectionStore.Get(peer.ID()); !errors.Is(err, jackfield.ErrNoSuchConnection) {
		t.Error(err)
	}
}

func TestAllPagesAreIterated(t *testing.T) {
	host := start(t, jackfield.Plugin{})
	host.AddBucket("data")
	bucket, err := jackfield.OpenBucket("data")
	if err != nil {
		t.Fatal(err)
	}
	for number := range 600 {
		host.MustConnect("")
		if err := bucket.Set(fmt.Sprint(number), nil); err != nil {
			t.Fatal(err)
		}
	}
	rows, keys := 0, 0
	for row, err := range jackfield.ConnectionStore.Scan() {
		if err != nil || row.ConnectionID == "" {
			t.Fatal(row, err)
		}
		rows++
	}
	for _, err := range bucket.Keys() {
		if err != nil {
			t.Fatal(err)
		}
		if keys++; keys == 300 {
			break
		}
	}
	if rows != 600 || keys != 300 {
		t.Error(rows, keys)
	}
}

func TestAnUpdateLosesNoOtherWrite(t *testing.T) {
	host := start(t, jackfield.Plugin{})
	host.AddBucket("data")
	bucket, _ := jackfield.OpenBucket("data")
	tries := 0
	players, err := jackfield.UpdateJSON(bucket, "game", func(players *[]string) error {
		if tries++; tries == 1 {
			// Another event writes in between.
			return errors.Join(bucket.SetJSON("game", []string{"B"}), add(players, "A"))
		}
		return add(players, "A")
	})
	if err != nil || !slices.Equal(players, []string{"B", "A"}) || tries != 2 {
		t.Error(players, err, tries)
	}
	_, err = bucket.Update("game", func([]byte) ([]byte, error) {
		_, err := bucket.Increment("counter", 1)
		return nil, errors.Join(err, bucket.Set("game", []byte(fmt.Sprint(time.Now().UnixNano(), tries))), count(&tries))
	})
	if !errors.Is(err, jackfield.ErrConflict) {
		t.Error(err)
	}
	if _, err := jackfield.OpenBucket("other"); !errors.Is(err, jackfield.ErrNoSuchStore) {
		t.Error(err)
	}
}

func add(players *[]string, player string) error {
	*players = append(*players, player)
	return nil
}

func count(tries *int) error {
	*tries++
	return nil
}

func TestADeletedConnectionIsDisconnectedAfterItsHandler(t *testing.T) {
	var ends []string
	host := start(t, jackfield.Plugin{
		Message: func(context *jackfield.RequestContext, _ *jackfield.MessageEvent) (jackfield.Response, error) {
			frame := jackfield.CloseFrame{Code: 4000, Reason: "enough"}
			err := jackfield.DeleteConnectionWith(context.ConnectionID, frame)
			ends = append(ends, "deleted")
			return jackfield.OK(), err
		},
		Disconnect: func(_ *jackfield.RequestContext, event *jackfield.DisconnectEvent) error {
			ends = append(ends, fmt.Sprint(event.StatusCode, event.Reason))
			return errors.New("logged")
		},
	})
	peer := host.MustConnect("")
	if _, err := peer.Send("x"); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(ends, []string{"deleted", "4000enough"}) || peer.IsOpen() || len(host.Failures()) != 1 {
		t.Error(ends, peer.IsOpen(), host.Failures())
	}
}

func TestAnAuthorizerDecides(t *testing.T) {
	jackfield.ExportAuthorizer(func(
		_ *jackfield.RequestContext,
		request *jackfield.ConnectEvent,
	) (jackfield.Decision, error) {
		switch size := len(request.Query("values")); {
		case request.Query("user") == "":
			return jackfield.Unauthorized(), nil
		case size > 0:
			return jackfield.Allow("").With("x", strings.Repeat("v", 8*1024-len("principalId")-1-10+size)), nil
		}
		return jackfield.Allow(request.Query("user")).With("room", "cave"), nil
	})
	host := start(t, jackfield.Plugin{})
	decision, err := host.Upgrade("?user=A").Authorize()
	if err != nil || !decision.IsAllowed() || decision.PrincipalID() != "A" || decision.Values()[0].Value != "cave" {
		t.Error(decision, err)
	}
	if decision, err = host.Upgrade("").Authorize(); err != nil || decision.StatusCode() != 401 {
		t.Error(decision, err)
	}
	if _, err = host.Upgrade("?user=A&values=1234567890").Authorize(); err != nil {
		t.Error(err)
	}
	if _, err = host.Upgrade("?user=A&values=12345678901").Authorize(); err == nil {
		t.Error("a grant of more than 8 KiB was accepted")
	}
}

func TestJSONEscapesOnlyWhatItMust(t *testing.T) {
	payload, err := jackfield.JSON("<&>\u2028\u2029\\u2028\\\u2028\"\x01")
	if expected := "\"<&>\u2028\u2029\\\\u2028\\\\\u2028\\\"\\u0001\""; err != nil || payload.String() != expected {
		t.Errorf("%q, %v", payload, err)
	}
}

func TestAFunctionOfTheHostWithoutATestDoubleNamesIt(t *testing.T) {
	defer func() {
		if text := fmt.Sprint(recover()); !strings.Contains(text, "jackfieldtest.New") {
			t.Error(text)
		}
	}()
	jackfield.Log.Info("x")
}
