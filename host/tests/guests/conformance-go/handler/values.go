package handler

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"jackfield.dev/jackfield"
)

const (
	// replyPrefix is what every reply begins with, so that a runner can distinguish it from what was posted.
	replyPrefix = "reply "
	// textBytesMax is the length of the longest text in a result; a longer one is replaced by its length.
	textBytesMax = 256
)

// parse parses JSON, with numbers as they are written.
func parse(text string) (any, error) {
	decoder := json.NewDecoder(strings.NewReader(text))
	decoder.UseNumber()
	var value any
	if err := decoder.Decode(&value); err != nil {
		return nil, err
	}
	if _, err := decoder.Token(); err != io.EOF {
		return nil, fmt.Errorf("there is more behind the value")
	}
	return value, nil
}

// expand writes out {"repeat": TEXT, "times": N} and {"list": ITEM, "times": N}, wherever they are in a value.
func expand(value any) any {
	switch value := value.(type) {
	case []any:
		items := make([]any, len(value))
		for index, item := range value {
			items[index] = expand(item)
		}
		return items
	case map[string]any:
		times, hasTimes := value["times"].(json.Number)
		if text, isText := value["repeat"].(string); isText && hasTimes {
			return strings.Repeat(text, count(times))
		}
		if item, exists := value["list"]; exists && hasTimes {
			items := make([]any, count(times))
			digits := len(fmt.Sprint(max(0, len(items)-1)))
			for index := range items {
				number := fmt.Sprintf("%0*d", digits, index)
				items[index] = expand(mapTexts(item, func(text string) string {
					return strings.ReplaceAll(text, "{n}", number)
				}))
			}
			return items
		}
		fields := map[string]any{}
		for name, field := range value {
			fields[name] = expand(field)
		}
		return fields
	}
	return value
}

func count(times json.Number) int {
	number, err := times.Int64()
	if err != nil {
		panic(err)
	}
	return int(number)
}

func mapTexts(value any, change func(string) string) any {
	switch value := value.(type) {
	case string:
		return change(value)
	case []any:
		items := make([]any, len(value))
		for index, item := range value {
			items[index] = mapTexts(item, change)
		}
		return items
	case map[string]any:
		fields := map[string]any{}
		for name, field := range value {
			fields[name] = mapTexts(field, change)
		}
		return fields
	}
	return value
}

// shortened replaces each long text by {"length": BYTES}.
func shortened(value any) any {
	switch value := value.(type) {
	case string:
		if len(value) > textBytesMax {
			return map[string]any{"length": len(value)}
		}
	case []any:
		items := make([]any, len(value))
		for index, item := range value {
			items[index] = shortened(item)
		}
		return items
	case map[string]any:
		fields := map[string]any{}
		for name, field := range value {
			fields[name] = shortened(field)
		}
		return fields
	}
	return value
}

// fromBytes returns bytes as they are in a result: a text if they are UTF-8, else {"hex": DIGITS}.
func fromBytes(bytes []byte) any {
	switch {
	case utf8.Valid(bytes):
		return string(bytes)
	case len(bytes) > textBytesMax:
		return map[string]any{"length": len(bytes)}
	default:
		return map[string]any{"hex": hex.EncodeToString(bytes)}
	}
}

// toBytes returns bytes that a case has as a text, or as {"hex": DIGITS}.
func toBytes(value any) []byte {
	if text, isText := value.(string); isText {
		return []byte(text)
	}
	bytes, err := hex.DecodeString(value.(map[string]any)["hex"].(string))
	if err != nil {
		panic(err)
	}
	return bytes
}

func pair(field jackfield.Field) any {
	return []any{field.Name, field.Value}
}

func pairs(fields []jackfield.Field) any {
	list := []any{}
	for _, field := range fields {
		list = append(list, pair(field))
	}
	return list
}
