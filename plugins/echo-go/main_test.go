package main

import (
	"testing"

	"jackfield.dev/jackfield"
	"jackfield.dev/jackfield/jackfieldtest"
)

func TestAMessageIsSentBack(t *testing.T) {
	host := jackfieldtest.New(t)
	peer := host.MustConnect("")
	for sent, expected := range map[jackfield.Payload]jackfield.Payload{
		jackfield.Text("hello"):                                   jackfield.Text("hello"),
		jackfield.Text(""):                                        jackfield.Text(""),
		jackfield.Text(`{"action":"echo"}`):                       jackfield.Text(`{"action":"echo"}`),
		jackfield.Text(`{"action":"echo","content":"x"}`):         jackfield.Text("x"),
		jackfield.Binary([]byte(`{"action":"echo","content":1}`)): jackfield.Binary([]byte(`{"action":"echo","content":1}`)),
	} {
		response, err := peer.SendPayload(sent)
		if err != nil || response.Body != expected {
			t.Errorf("%v: found %v and %v", sent, response.Body, err)
		}
	}
}
