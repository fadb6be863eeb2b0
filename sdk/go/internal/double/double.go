//go:build !wasm

// Package double connects package jackfield with the test double of package jackfieldtest.
package double

import "sync"

// Handler and Authorizer are what the program exports, or nil.
var Handler, Authorizer any

var (
	mutex   sync.Mutex
	current any
)

// Current returns the test double that is active, or nil.
func Current() any {
	mutex.Lock()
	defer mutex.Unlock()
	return current
}

// Replace makes next the active test double, if the active one is expected. It returns whether it was.
func Replace(expected, next any) bool {
	mutex.Lock()
	defer mutex.Unlock()
	if current != expected {
		return false
	}
	current = next
	return true
}
