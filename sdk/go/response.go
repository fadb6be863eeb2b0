package jackfield

// Response is the response of a handler to an event.
//
// On $connect, a status from 200 to 299 admits the peer, and any other status rejects the peer with that status. On a
// message, the body is sent to the peer if the route has a route response. A status of 0 is 200; one that is not from
// 200 to 599 and a body of more than 128 KiB are failures of the handler.
type Response struct {
	StatusCode int
	Headers    []Field
	// Body is sent to the peer. The zero value sends nothing.
	Body Payload
}

// OK returns status 200 without a body: it admits a peer, or sends no reply to a message.
func OK() Response {
	return Response{}
}

// Status returns a response without a body.
func Status(code int) Response {
	return Response{StatusCode: code}
}

// Reply returns a response that sends the payload to the peer, if the route has a route response.
func Reply(body Payload) Response {
	return Response{Body: body}
}

// ReplyText returns a response that sends a text to the peer, if the route has a route response.
func ReplyText(text string) Response {
	return Reply(Text(text))
}

// ReplyJSON returns a response that sends the value as JSON to the peer, if the route has a route response.
func ReplyJSON(value any) (Response, error) {
	body, err := JSON(value)
	return Reply(body), err
}

// WithHeader returns the response with a further header.
func (response Response) WithHeader(name, value string) Response {
	headers := response.Headers[:len(response.Headers):len(response.Headers)]
	response.Headers = append(headers, Field{name, value})
	return response
}

// Code returns the status code, which is 200 if none is set.
func (response Response) Code() int {
	if response.StatusCode == 0 {
		return 200
	}
	return response.StatusCode
}
