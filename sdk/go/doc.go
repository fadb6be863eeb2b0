// Package jackfield is for route handlers of a jackfield WebSocket API, written in Go.
//
// A plugin is a handler of up to three functions. This is a complete one:
//
//	package main
//
//	import "jackfield.dev/jackfield"
//
//	func init() {
//		jackfield.Export(jackfield.Plugin{Message: echo})
//	}
//
//	func main() {}
//
//	func echo(_ *jackfield.RequestContext, message *jackfield.MessageEvent) (jackfield.Response, error) {
//		return jackfield.Reply(message.Body), nil
//	}
//
// Or it has one function for each route, see Routes. A component of its own, an Authorizer, can decide before any
// handler runs whether a peer is admitted.
//
// # Host functions
//
// Without its grant in the manifest, each call returns an error, and the host's log names the line to add.
//
//   - CurrentConnection, Config and Log need no grant.
//   - PostToConnection, PostToConnections, PostToMatching, GetConnection and DeleteConnection need
//     grants = ["connections"].
//   - ConnectionStore needs grants = ["connection-store"] or connection_store = "NAME".
//   - OpenBucket needs buckets = ["NAME"].
//
// An error that a function of the handler returns is the handler's own failure: the host logs its text, and the peer
// receives only a general error message. A panic is one too: its text and stack are in the host's log.
//
// # Building and testing
//
// `jackfield build` and `jackfield dev` build a component of a program for which the manifest has language = "go".
// Package jackfieldtest has a test double of the host, for `go test`.
package jackfield
