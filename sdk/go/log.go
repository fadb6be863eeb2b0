package jackfield

import "fmt"

// Level is the severity of a line in the host's log.
type Level uint8

// The levels, from the least to the most severe one.
const (
	LevelTrace Level = iota
	LevelDebug
	LevelInfo
	LevelWarn
	LevelError
	LevelCritical
)

// Log writes lines to the host's log. The arguments are formatted as fmt.Sprint formats them.
var Log logger

type logger struct{}

// Write writes a line of this level. The context names the part of the program that it belongs to, and can be "".
func (logger) Write(level Level, context, line string) {
	currentHost().Log(level, context, line)
}

// Trace writes a line that helps to follow every step.
func (logger) Trace(arguments ...any) {
	Log.Write(LevelTrace, "", fmt.Sprint(arguments...))
}

// Debug writes a line that helps to find a mistake.
func (logger) Debug(arguments ...any) {
	Log.Write(LevelDebug, "", fmt.Sprint(arguments...))
}

// Info writes a line that is of interest to an operator.
func (logger) Info(arguments ...any) {
	Log.Write(LevelInfo, "", fmt.Sprint(arguments...))
}

// Warn writes a problem that an operator should examine.
func (logger) Warn(arguments ...any) {
	Log.Write(LevelWarn, "", fmt.Sprint(arguments...))
}

// Error writes an error.
func (logger) Error(arguments ...any) {
	Log.Write(LevelError, "", fmt.Sprint(arguments...))
}

// Critical writes an error that prevents the handler from working at all.
func (logger) Critical(arguments ...any) {
	Log.Write(LevelCritical, "", fmt.Sprint(arguments...))
}
