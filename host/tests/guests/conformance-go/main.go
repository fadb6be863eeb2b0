// The component of the conformance cases.
package main

import (
	"conformance/handler"

	"jackfield.dev/jackfield"
)

func init() {
	jackfield.Export(handler.Plugin)
}

func main() {}
