//go:build wasm

// Package export_jackfield_gateway_handler connects the generated export of a route handler with the SDK.
package export_jackfield_gateway_handler

import (
	types "jackfield.dev/jackfield/internal/bindings/imports/jackfield_gateway_types"
	wit "jackfield.dev/jackfield/internal/wit/types"
)

// Function is what the export calls. Package jackfield sets it.
var Function func(types.RequestContext, types.Event) wit.Result[types.Response, types.Failure]

// Handle is called once for each event.
func Handle(context types.RequestContext, event types.Event) wit.Result[types.Response, types.Failure] {
	return Function(context, event)
}
