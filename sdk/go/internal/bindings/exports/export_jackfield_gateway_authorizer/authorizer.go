//go:build wasm

// Package export_jackfield_gateway_authorizer connects the generated export of an authorizer with the SDK.
package export_jackfield_gateway_authorizer

import (
	authorizer "jackfield.dev/jackfield/internal/bindings/imports/jackfield_gateway_authorizer"
	types "jackfield.dev/jackfield/internal/bindings/imports/jackfield_gateway_types"
	wit "jackfield.dev/jackfield/internal/wit/types"
)

// Function is what the export calls. Package jackfield sets it.
var Function func(types.RequestContext, types.ConnectEvent) wit.Result[authorizer.Decision, types.Failure]

// Authorize is called for each upgrade request.
func Authorize(
	context types.RequestContext,
	request types.ConnectEvent,
) wit.Result[authorizer.Decision, types.Failure] {
	return Function(context, request)
}
