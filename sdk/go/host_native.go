//go:build !wasm

package jackfield

import "jackfield.dev/jackfield/internal/double"

// Export makes the handler that of the component. It is called once, in a function init.
func Export(handler Handler) {
	double.Handler = handler
}

// ExportAuthorizer makes the function the authorizer of the component. It is called once, in a function init.
func ExportAuthorizer(authorizer Authorizer) {
	double.Authorizer = authorizer
}

// currentHost returns the test double.
func currentHost() host {
	current, ok := double.Current().(host)
	if !ok {
		panic("outside of a component the functions of jackfield need a test double of the host: create one with " +
			"jackfieldtest.New, and keep it while you call them")
	}
	return current
}
