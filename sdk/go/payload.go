package jackfield

import (
	"bytes"
	"encoding/json"
	"unsafe"
)

// Payload is the content of a message: a text or bytes. The zero value is none, as in a Response that sends no reply.
//
// Payloads can be compared with ==.
type Payload struct {
	kind payloadKind
	data string
}

type payloadKind uint8

const (
	noPayload payloadKind = iota
	textPayload
	binaryPayload
)

// Text returns the payload of a text message.
func Text(text string) Payload {
	return Payload{textPayload, text}
}

// Binary returns the payload of a binary message. The bytes are copied.
func Binary(data []byte) Payload {
	return Payload{binaryPayload, string(data)}
}

// JSON returns a text payload with the value as JSON. Only the characters that JSON does not allow are escaped.
func JSON(value any) (Payload, error) {
	var text bytes.Buffer
	encoder := json.NewEncoder(&text)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(value); err != nil {
		return Payload{}, err
	}
	return Payload{textPayload, stringOf(unescaped(bytes.TrimSuffix(text.Bytes(), []byte("\n"))))}, nil
}

// unescaped replaces the escapes of the two line separators that the encoder writes for the sake of JavaScript before
// 2019. The characters are shorter.
func unescaped(text []byte) []byte {
	if !bytes.Contains(text, []byte(`\u202`)) {
		return text
	}
	result := text[:0]
	for index := 0; index < len(text); index++ {
		rest := text[index:]
		switch {
		case bytes.HasPrefix(rest, []byte(`\u2028`)):
			result = append(result, "\u2028"...)
			index += 5
		case bytes.HasPrefix(rest, []byte(`\u2029`)):
			result = append(result, "\u2029"...)
			index += 5
		case rest[0] == '\\' && len(rest) > 1:
			result = append(result, rest[:2]...)
			index++
		default:
			result = append(result, rest[0])
		}
	}
	return result
}

// IsNone returns whether there is no payload.
func (payload Payload) IsNone() bool {
	return payload.kind == noPayload
}

// IsBinary returns whether it is the payload of a binary message.
func (payload Payload) IsBinary() bool {
	return payload.kind == binaryPayload
}

// Len returns the number of bytes.
func (payload Payload) Len() int {
	return len(payload.data)
}

// String returns the text, or the bytes of a binary payload as they are.
func (payload Payload) String() string {
	return payload.data
}

// Bytes returns a copy of the bytes of the text or of the binary payload.
func (payload Payload) Bytes() []byte {
	return []byte(payload.data)
}

// Unmarshal parses the payload as JSON, as json.Unmarshal does.
func (payload Payload) Unmarshal(value any) error {
	// json.Unmarshal only reads the bytes, and copies what it keeps.
	return json.Unmarshal(unsafe.Slice(unsafe.StringData(payload.data), len(payload.data)), value)
}

// stringOf returns bytes that are not changed any more as a string, without a copy.
func stringOf(data []byte) string {
	return unsafe.String(unsafe.SliceData(data), len(data))
}
