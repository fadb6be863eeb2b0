//go:build wasm

package jackfield

import (
	"fmt"
	"runtime"
	"strings"
	"time"
	"unsafe"

	exportAuthorizer "jackfield.dev/jackfield/internal/bindings/exports/export_jackfield_gateway_authorizer"
	exportHandler "jackfield.dev/jackfield/internal/bindings/exports/export_jackfield_gateway_handler"
	_ "jackfield.dev/jackfield/internal/bindings/exports/wit_authorizer_exports"
	_ "jackfield.dev/jackfield/internal/bindings/exports/wit_exports"
	witAuthorizer "jackfield.dev/jackfield/internal/bindings/imports/jackfield_gateway_authorizer"
	types "jackfield.dev/jackfield/internal/bindings/imports/jackfield_gateway_types"
	wit "jackfield.dev/jackfield/internal/wit/types"
)

// Export makes the handler that of the component. It is called once, in a function init.
func Export(handler Handler) {
	exportHandler.Function = func(context types.RequestContext, event types.Event) result {
		return handle(handler, fromContext(context), event)
	}
}

// ExportAuthorizer makes the function the authorizer of the component. It is called once, in a function init.
func ExportAuthorizer(authorizer Authorizer) {
	exportAuthorizer.Function = func(context types.RequestContext, request types.ConnectEvent) decisionResult {
		return authorize(authorizer, fromContext(context), request)
	}
}

type result = wit.Result[types.Response, types.Failure]
type decisionResult = wit.Result[witAuthorizer.Decision, types.Failure]

// Without this, a program that exports nothing would end with an invalid address instead of a reason.
func init() {
	exportHandler.Function = func(types.RequestContext, types.Event) result {
		return wit.Err[types.Response](types.Failure{
			Message: "the program exports no handler: call jackfield.Export in a function init",
		})
	}
	exportAuthorizer.Function = func(types.RequestContext, types.ConnectEvent) decisionResult {
		return wit.Err[witAuthorizer.Decision](types.Failure{
			Message: "the program exports no authorizer: call jackfield.ExportAuthorizer in a function init",
		})
	}
}

func handle(handler Handler, context *RequestContext, event types.Event) (answer result) {
	defer func() {
		if value := recover(); value != nil {
			answer = wit.Err[types.Response](panicFailure(value))
		}
	}()
	var response Response
	var err error
	switch event.Tag() {
	case types.Event_Connect:
		request := fromConnectEvent(event.Connect())
		response, err = handler.OnConnect(context, &request)
	case types.Event_Message:
		message := event.Message()
		response, err = handler.OnMessage(context, &MessageEvent{message.MessageId, fromPayload(message.Body)})
	default:
		end := event.Disconnect()
		err = handler.OnDisconnect(context, &DisconnectEvent{int(end.StatusCode), end.Reason})
	}
	if err != nil {
		return wit.Err[types.Response](failure(err))
	}
	code := response.Code()
	if code < 0 || code > 65535 {
		// The host reports every status that it does not know, but only those that it can receive.
		code = 0
	}
	converted := types.Response{StatusCode: uint16(code), Headers: toFields(response.Headers)}
	if !response.Body.IsNone() {
		converted.Body = wit.Some(toPayload(response.Body))
	}
	return wit.Ok[types.Response, types.Failure](converted)
}

func authorize(
	authorizer Authorizer,
	context *RequestContext,
	event types.ConnectEvent,
) (answer decisionResult) {
	defer func() {
		if value := recover(); value != nil {
			answer = wit.Err[witAuthorizer.Decision](panicFailure(value))
		}
	}()
	request := fromConnectEvent(event)
	decision, err := authorizer(context, &request)
	if err != nil {
		return wit.Err[witAuthorizer.Decision](failure(err))
	}
	var converted witAuthorizer.Decision
	switch decision.kind {
	case allow:
		grant := witAuthorizer.Grant{PrincipalId: decision.principalID, Context: toFields(decision.values)}
		converted = witAuthorizer.MakeDecisionAllow(grant)
	case unauthorized:
		converted = witAuthorizer.MakeDecisionUnauthorized()
	default:
		converted = witAuthorizer.MakeDecisionDeny()
	}
	return wit.Ok[witAuthorizer.Decision, types.Failure](converted)
}

func failure(err error) types.Failure {
	return types.Failure{Message: err.Error()}
}

// panicFailure returns the failure of a handler that has panicked, as net/http does for each request, so that the host
// logs the stack in one line with the text. It is called by the deferred function.
func panicFailure(value any) types.Failure {
	callers := make([]uintptr, 64)
	// Without runtime.Callers, this function, the deferred one and the panic itself.
	callers = callers[:runtime.Callers(4, callers)]
	var stack strings.Builder
	for frames := runtime.CallersFrames(callers); ; {
		frame, more := frames.Next()
		// What is below is the same for every event.
		if frame.Function == "jackfield.dev/jackfield.handle" || frame.Function == "jackfield.dev/jackfield.authorize" {
			break
		}
		fmt.Fprintf(&stack, "%s (%s:%d)\n", frame.Function, frame.File, frame.Line)
		if !more {
			break
		}
	}
	return types.Failure{Message: fmt.Sprint("panic: ", value), Stack: wit.Some(strings.TrimSpace(stack.String()))}
}

// The conversions below share the memory of strings and fields, which have the same layout on both sides.

func fromContext(context types.RequestContext) *RequestContext {
	return &RequestContext{
		ConnectionID: context.ConnectionId,
		RouteKey:     context.RouteKey,
		RequestID:    context.RequestId,
		RequestTime:  time.UnixMilli(int64(context.RequestTime)),
		ConnectedAt:  time.UnixMilli(int64(context.ConnectedAt)),
	}
}

func fromConnectEvent(event types.ConnectEvent) ConnectEvent {
	return ConnectEvent{Headers: fromFields(event.Headers), QueryString: fromFields(event.QueryString)}
}

func fromPayload(payload types.Payload) Payload {
	if payload.Tag() == types.Payload_Text {
		return Payload{textPayload, payload.Text()}
	}
	return Payload{binaryPayload, stringOf(payload.Binary())}
}

func toPayload(payload Payload) types.Payload {
	if payload.IsBinary() {
		return types.MakePayloadBinary(bytesOf(payload.data))
	}
	return types.MakePayloadText(payload.data)
}

func fromFields(fields []wit.Tuple2[string, string]) []Field {
	return unsafe.Slice((*Field)(unsafe.Pointer(unsafe.SliceData(fields))), len(fields))
}

func toFields(fields []Field) []wit.Tuple2[string, string] {
	return unsafe.Slice((*wit.Tuple2[string, string])(unsafe.Pointer(unsafe.SliceData(fields))), len(fields))
}

// bytesOf returns the bytes of a string without a copy. They must not be changed.
func bytesOf(text string) []byte {
	return unsafe.Slice(unsafe.StringData(text), len(text))
}
