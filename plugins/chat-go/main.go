// A chat in which each user can have several tabs: the same as plugins/chat, in Go.
//
// A tab is a connection, and its row in the connection store has the name of its user. Nothing else is stored: a user is
// online if there is a row with that name.
package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"jackfield.dev/jackfield"
)

const (
	// userAttribute is the attribute with the user of a connection.
	userAttribute = "user"
	// everyoneName and everyoneValue are the attribute that every tab has, so that one post is sent to all of them.
	everyoneName, everyoneValue = "in", "chat"
	// nameCharsMax is the length of the longest accepted name, because every user sees it.
	nameCharsMax = 32
)

func init() {
	jackfield.Export(jackfield.Routes{
		"$connect":    jackfield.OnConnect(connect),
		"$disconnect": jackfield.OnDisconnect(disconnect),
		"sendmessage": jackfield.OnMessage(sendMessage),
		"who":         jackfield.OnMessage(who),
		"$default":    jackfield.OnMessage(unknownAction),
	})
}

func main() {}

// notice is a message to a tab. Another user wrote to this user (message), this user wrote to another user, in another
// tab (sent), a user joined or left, and so on.
type notice struct {
	Type    string   `json:"type"`
	User    string   `json:"user,omitempty"`
	Users   []string `json:"users,omitempty"`
	From    *string  `json:"from,omitempty"`
	To      *string  `json:"to,omitempty"`
	Content *string  `json:"content,omitempty"`
	Message string   `json:"message,omitempty"`
}

func connect(context *jackfield.RequestContext, request *jackfield.ConnectEvent) (jackfield.Response, error) {
	user := strings.TrimSpace(request.Query("userId"))
	if user == "" || utf8.RuneCountInString(user) > nameCharsMax {
		return jackfield.Status(400), nil
	}
	// The other tabs of the user are looked up before this one is stored. If two first tabs connect at the same moment,
	// both may find no other tab and post the notice twice, which does no harm. If they stored themselves first, each
	// would find the other, and no notice would be posted.
	hasOther, err := hasTab(user)
	if err != nil {
		return jackfield.Response{}, err
	}
	err = jackfield.ConnectionStore.Put(context.ConnectionID,
		jackfield.Field{Name: userAttribute, Value: user}, jackfield.Field{Name: everyoneName, Value: everyoneValue})
	if err != nil {
		return jackfield.Response{}, err
	}
	if !hasOther {
		err = postToOthers(context, notice{Type: "joined", User: user})
	}
	return jackfield.OK(), err
}

func disconnect(context *jackfield.RequestContext, _ *jackfield.DisconnectEvent) error {
	user, err := userOf(context)
	if err != nil {
		return err
	}
	// The row of this connection exists until this handler has run. The name is removed from it first, so that if the
	// last two tabs of a user close at the same moment, at least one of them finds no other tab.
	if err := jackfield.ConnectionStore.RemoveAll(context.ConnectionID, userAttribute); err != nil {
		return err
	}
	hasOther, err := hasTab(user)
	if err != nil || hasOther {
		return err
	}
	return postToOthers(context, notice{Type: "left", User: user})
}

func sendMessage(context *jackfield.RequestContext, message *jackfield.MessageEvent) (jackfield.Response, error) {
	var request struct {
		To      *string `json:"to"`
		Content *string `json:"content"`
	}
	if message.Body.Unmarshal(&request) != nil || request.To == nil || request.Content == nil {
		return errorNotice(`a message needs "to" and "content"`)
	}
	from, err := userOf(context)
	if err != nil {
		return jackfield.Response{}, err
	}
	payload, err := jackfield.JSON(notice{Type: "message", From: &from, Content: request.Content})
	if err != nil {
		return jackfield.Response{}, err
	}
	tabs, err := jackfield.PostToMatching(userAttribute, *request.To, payload, "")
	if err != nil {
		return jackfield.Response{}, err
	}
	if tabs == 0 {
		return errorNotice(fmt.Sprintf("%s is not here", *request.To))
	}
	if from == *request.To {
		return jackfield.OK(), nil
	}
	payload, err = jackfield.JSON(notice{Type: "sent", To: request.To, Content: request.Content})
	if err != nil {
		return jackfield.Response{}, err
	}
	_, err = jackfield.PostToMatching(userAttribute, from, payload, context.ConnectionID)
	return jackfield.OK(), err
}

func who(*jackfield.RequestContext, *jackfield.MessageEvent) (jackfield.Response, error) {
	var users []string
	for row, err := range jackfield.ConnectionStore.Query(everyoneName, everyoneValue) {
		if err != nil {
			return jackfield.Response{}, err
		}
		if user, exists := row.LookupAttribute(userAttribute); exists {
			users = append(users, user)
		}
	}
	slices.Sort(users)
	return jackfield.ReplyJSON(notice{Type: "who", Users: slices.Compact(users)})
}

func unknownAction(_ *jackfield.RequestContext, message *jackfield.MessageEvent) (jackfield.Response, error) {
	var request struct {
		Action *string `json:"action"`
	}
	if message.Body.Unmarshal(&request) != nil || request.Action == nil {
		return errorNotice(`a message is JSON with an "action"`)
	}
	return errorNotice(fmt.Sprintf(`there is no action "%s" here`, *request.Action))
}

func errorNotice(message string) (jackfield.Response, error) {
	return jackfield.ReplyJSON(notice{Type: "error", Message: message})
}

func postToOthers(context *jackfield.RequestContext, notice notice) error {
	payload, err := jackfield.JSON(notice)
	if err != nil {
		return err
	}
	_, err = jackfield.PostToMatching(everyoneName, everyoneValue, payload, context.ConnectionID)
	return err
}

func userOf(context *jackfield.RequestContext) (string, error) {
	row, err := jackfield.ConnectionStore.Get(context.ConnectionID)
	if err != nil {
		return "", err
	}
	user, exists := row.LookupAttribute(userAttribute)
	if !exists {
		return "", errors.New("the connection has no user")
	}
	return user, nil
}

func hasTab(user string) (bool, error) {
	for _, err := range jackfield.ConnectionStore.Query(userAttribute, user) {
		return err == nil, err
	}
	return false, nil
}
