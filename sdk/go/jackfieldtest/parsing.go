//go:build !wasm

package jackfieldtest

import (
	"bytes"
	"encoding/json"
	"strings"

	"jackfield.dev/jackfield"
)

// selectRoute returns the route that $request.body.action selects. Only a text message can select a route, and an action
// that begins with $ selects none.
func selectRoute(body jackfield.Payload, handler jackfield.Handler) string {
	const defaultRoute = "$default"
	var object map[string]json.RawMessage
	if body.IsBinary() || body.Unmarshal(&object) != nil || object["action"] == nil {
		return defaultRoute
	}
	action := actionText(object["action"])
	isRoute := true
	switch handler := handler.(type) {
	case jackfield.Routes:
		_, isRoute = handler[action]
	case interface{ RouteKeys() []string }:
		isRoute = false
		for _, key := range handler.RouteKeys() {
			isRoute = isRoute || key == action
		}
	}
	if action == "" || strings.HasPrefix(action, "$") || !isRoute {
		return defaultRoute
	}
	return action
}

// actionText returns the text of an action: a string as it is, an array as [item1, item2], and anything else as JSON.
func actionText(action json.RawMessage) string {
	var text string
	var items []json.RawMessage
	switch action[0] {
	case '"':
		if json.Unmarshal(action, &text) == nil {
			return text
		}
	case '[':
		if json.Unmarshal(action, &items) == nil {
			texts := make([]string, len(items))
			for index, item := range items {
				texts[index] = actionText(bytes.TrimSpace(item))
			}
			return "[" + strings.Join(texts, ", ") + "]"
		}
	}
	var compact bytes.Buffer
	if json.Compact(&compact, action) != nil {
		return ""
	}
	return compact.String()
}

// parseQuery parses a query string such as ?a=1&b=2 and decodes its percent-encoding.
func parseQuery(query string) []jackfield.Field {
	var fields []jackfield.Field
	for pair := range strings.SplitSeq(strings.TrimPrefix(query, "?"), "&") {
		if pair == "" {
			continue
		}
		name, value, _ := strings.Cut(pair, "=")
		fields = append(fields, jackfield.Field{Name: percentDecode(name), Value: percentDecode(value)})
	}
	return fields
}

func percentDecode(text string) string {
	var decoded strings.Builder
	for index := 0; index < len(text); index++ {
		char := text[index]
		if char == '%' && index+2 < len(text) {
			high, low := hexDigit(text[index+1]), hexDigit(text[index+2])
			if high >= 0 && low >= 0 {
				decoded.WriteByte(byte(high<<4 | low))
				index += 2
				continue
			}
		}
		if char == '+' {
			char = ' '
		}
		decoded.WriteByte(char)
	}
	return strings.ToValidUTF8(decoded.String(), "\uFFFD")
}

func hexDigit(char byte) int {
	switch {
	case char >= '0' && char <= '9':
		return int(char - '0')
	case char >= 'a' && char <= 'f':
		return int(char-'a') + 10
	case char >= 'A' && char <= 'F':
		return int(char-'A') + 10
	}
	return -1
}
