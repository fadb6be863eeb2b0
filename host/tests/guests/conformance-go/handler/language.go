package handler

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"jackfield.dev/jackfield"
)

// allocated keeps the memory of language.allocate alive.
var allocated []byte

// languageCall makes the calls that show how Go itself behaves in a sandbox.
func languageCall(name string, call arguments) (any, error) {
	switch name {
	case "language.clock":
		return ok(time.Now().UnixMilli(), nil), nil
	case "language.random":
		bytes := make([]byte, 16)
		_, err := rand.Read(bytes)
		return ok(hex.EncodeToString(bytes), nil), err
	case "language.print":
		fmt.Println(call.text("text"))
		return "ok", nil
	case "language.log":
		return log(call.text("level"), call.text("text")), nil
	case "language.json":
		var value any
		if json.Unmarshal([]byte(call.text("text")), &value) != nil {
			return "invalid", nil
		}
		text, err := json.Marshal(value)
		return ok(string(text), nil), err
	case "language.throw":
		return nil, errors.New(call.text("message"))
	case "language.panic":
		panic(call.text("message"))
	case "language.loop":
		for {
		}
	case "language.allocate":
		allocated = make([]byte, call.number("bytes"))
		for index := 0; index < len(allocated); index += 4096 {
			allocated[index] = 1
		}
		return "ok", nil
	case "language.binary":
		return ok(hex.EncodeToString(toBytes(map[string]any(call))), nil), nil
	}
	panic("no function " + name)
}

func log(level, text string) any {
	switch level {
	case "trace":
		jackfield.Log.Trace(text)
	case "debug":
		jackfield.Log.Debug(text)
	case "info":
		jackfield.Log.Info(text)
	case "warn":
		jackfield.Log.Warn(text)
	case "error":
		jackfield.Log.Error(text)
	case "critical":
		jackfield.Log.Critical(text)
	default:
		panic("no level " + level)
	}
	return "ok"
}
