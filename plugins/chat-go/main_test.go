package main

import (
	"errors"
	"slices"
	"testing"

	"jackfield.dev/jackfield"
	"jackfield.dev/jackfield/jackfieldtest"
)

// texts returns what was posted to a peer since the last call.
func texts(host *jackfieldtest.Host, peer *jackfieldtest.Peer) []string {
	texts := []string{}
	for _, post := range host.TakePostsTo(peer) {
		texts = append(texts, post.String())
	}
	return texts
}

func expectPosts(t *testing.T, host *jackfieldtest.Host, peer *jackfieldtest.Peer, expected ...string) {
	t.Helper()
	if found := texts(host, peer); !slices.Equal(found, expected) {
		t.Errorf("found %q, expected %q", found, expected)
	}
}

func expectReply(t *testing.T, peer *jackfieldtest.Peer, message, expected string) {
	t.Helper()
	response, err := peer.Send(message)
	if err != nil || response.Body.String() != expected {
		t.Errorf("%s: found %q and %v, expected %q", message, response.Body, err, expected)
	}
}

func TestAMessageReachesEveryTabOfItsUser(t *testing.T) {
	host := jackfieldtest.New(t)
	a := host.MustConnect("?userId=A")
	tabs := []*jackfieldtest.Peer{host.MustConnect("?userId=B"), host.MustConnect("?userId=B")}
	expectReply(t, a, `{"action":"sendmessage","to":"B","content":"a <b> & \u2028"}`, "")
	for _, tab := range tabs {
		expectPosts(t, host, tab, "{\"type\":\"message\",\"from\":\"A\",\"content\":\"a <b> & \u2028\"}")
	}
}

func TestTheOtherTabsOfTheSenderReceiveACopy(t *testing.T) {
	host := jackfieldtest.New(t)
	a, other := host.MustConnect("?userId=A"), host.MustConnect("?userId=A")
	host.MustConnect("?userId=B")
	texts(host, a)
	texts(host, other)
	expectReply(t, a, `{"action":"sendmessage","to":"B","content":""}`, "")
	expectPosts(t, host, a)
	expectPosts(t, host, other, `{"type":"sent","to":"B","content":""}`)
}

func TestAUserJoinsWithTheFirstTabAndLeavesWithTheLast(t *testing.T) {
	host := jackfieldtest.New(t)
	a := host.MustConnect("?userId=A")
	first := host.MustConnect("?userId=B")
	expectPosts(t, host, a, `{"type":"joined","user":"B"}`)
	second := host.MustConnect("?userId=B")
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	expectPosts(t, host, a)
	if err := second.Close(); err != nil {
		t.Fatal(err)
	}
	expectPosts(t, host, a, `{"type":"left","user":"B"}`)
}

func TestAPeerWithoutAValidNameIsRejected(t *testing.T) {
	host := jackfieldtest.New(t)
	for _, query := range []string{"", "?userId=", "?userId=%20", "?userId=123456789012345678901234567890123"} {
		_, err := host.Connect(query)
		var rejection *jackfieldtest.ConnectError
		if !errors.As(err, &rejection) || rejection.StatusCode != 400 {
			t.Errorf("%s: %v", query, err)
		}
	}
	host.MustConnect("?userId=12345678901234567890123456789012")
	rows := 0
	for range jackfield.ConnectionStore.Scan() {
		rows++
	}
	if rows != 1 {
		t.Errorf("%d rows", rows)
	}
}

func TestWhatCannotBeHandledGetsAnError(t *testing.T) {
	host := jackfieldtest.New(t)
	a := host.MustConnect("?userId=A")
	host.MustConnect("?userId=B")
	host.MustConnect("?userId=B")
	for message, expected := range map[string]string{
		"hello":                             `{"type":"error","message":"a message is JSON with an \"action\""}`,
		`{"action":7}`:                      `{"type":"error","message":"a message is JSON with an \"action\""}`,
		`{"action":"dance"}`:                `{"type":"error","message":"there is no action \"dance\" here"}`,
		`{"action":"who"}`:                  `{"type":"who","users":["A","B"]}`,
		`{"action":"sendmessage","to":"B"}`: `{"type":"error","message":"a message needs \"to\" and \"content\""}`,
		`{"action":"sendmessage","to":"Z","content":"hi"}`: `{"type":"error","message":"Z is not here"}`,
	} {
		expectReply(t, a, message, expected)
	}
}
