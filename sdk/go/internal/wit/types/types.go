// Package wit_types has the types with which generated bindings represent those of WIT that Go does not have.
package wit_types

// The tags of an Option.
const (
	OptionNone = 0
	OptionSome = 1
)

// Option is a value or none.
type Option[T any] struct {
	tag   uint8
	value T
}

// None returns an option without a value.
func None[T any]() Option[T] {
	return Option[T]{}
}

// Some returns an option with this value.
func Some[T any](value T) Option[T] {
	return Option[T]{OptionSome, value}
}

// Tag returns OptionNone or OptionSome.
func (option Option[T]) Tag() uint8 {
	return option.tag
}

// IsSome returns whether there is a value.
func (option Option[T]) IsSome() bool {
	return option.tag == OptionSome
}

// Some returns the value. It panics if there is none.
func (option Option[T]) Some() T {
	if option.tag != OptionSome {
		panic("the option has no value")
	}
	return option.value
}

// The tags of a Result.
const (
	ResultOk  = 0
	ResultErr = 1
)

// Result is a value or an error.
type Result[T any, E any] struct {
	tag   uint8
	value T
	err   E
}

// Ok returns a result with this value.
func Ok[T any, E any](value T) Result[T, E] {
	return Result[T, E]{value: value}
}

// Err returns a result with this error.
func Err[T any, E any](err E) Result[T, E] {
	return Result[T, E]{tag: ResultErr, err: err}
}

// Tag returns ResultOk or ResultErr.
func (result Result[T, E]) Tag() uint8 {
	return result.tag
}

// IsErr returns whether the result is an error.
func (result Result[T, E]) IsErr() bool {
	return result.tag == ResultErr
}

// Ok returns the value. It panics if the result is an error.
func (result Result[T, E]) Ok() T {
	if result.tag != ResultOk {
		panic("the result is an error")
	}
	return result.value
}

// Err returns the error. It panics if the result is none.
func (result Result[T, E]) Err() E {
	if result.tag != ResultErr {
		panic("the result is no error")
	}
	return result.err
}

// Tuple2 is a pair.
type Tuple2[T0 any, T1 any] struct {
	F0 T0
	F1 T1
}

// Unit is the value of a result that has none.
type Unit struct{}
