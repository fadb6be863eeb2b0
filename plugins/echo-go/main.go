// Sends each message back.
package main

import "jackfield.dev/jackfield"

func init() {
	jackfield.Export(jackfield.Plugin{Message: echo})
}

// A component has no main function. Go needs it for a program.
func main() {}

// request is a message whose content alone is sent back.
type request struct {
	Action  *string `json:"action"`
	Content *string `json:"content"`
}

func echo(_ *jackfield.RequestContext, message *jackfield.MessageEvent) (jackfield.Response, error) {
	var request request
	isText := !message.Body.IsBinary()
	if isText && message.Body.Unmarshal(&request) == nil && request.Action != nil && *request.Action == "echo" &&
		request.Content != nil {
		return jackfield.ReplyText(*request.Content), nil
	}
	return jackfield.Reply(message.Body), nil
}
