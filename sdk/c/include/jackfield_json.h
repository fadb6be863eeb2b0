// JSON for handlers: a strict reader (RFC 8259) and a writer. All memory is that of the event.
//
// The reader accepts exactly one value with white space around it. It rejects what a message must not be: invalid UTF-8,
// control characters in strings, trailing commas, and more than JACKFIELD_JSON_DEPTH_MAX arrays and objects inside each
// other. It also rejects `\uD800` to `\uDFFF` where they are no pair, because no text can contain them. A number keeps
// its digits, so that none is changed by reading it. An object keeps the order of its members, and members that are
// there twice; jackfield_json_get returns the last one.
#ifndef JACKFIELD_JSON_H
#define JACKFIELD_JSON_H

#include "jackfield.h"

#ifdef __cplusplus
extern "C" {
#endif

// Deepest nesting of arrays and objects that is read.
#define JACKFIELD_JSON_DEPTH_MAX 128

typedef enum jackfield_json_type {
    JACKFIELD_JSON_NULL,
    JACKFIELD_JSON_BOOLEAN,
    JACKFIELD_JSON_NUMBER,
    JACKFIELD_JSON_STRING,
    JACKFIELD_JSON_ARRAY,
    JACKFIELD_JSON_OBJECT,
} jackfield_json_type;

// A value. Items of an array and members of an object are a list: `first`, and `next` of each.
typedef struct jackfield_json {
    jackfield_json_type type;
    bool boolean;
    // The characters of a string, or the digits of a number as they were written.
    jackfield_text text;
    // The name, if the value is the member of an object.
    jackfield_text name;
    const struct jackfield_json *first;
    const struct jackfield_json *next;
    size_t count;
} jackfield_json;

typedef enum jackfield_json_error {
    JACKFIELD_JSON_OK = 0,
    JACKFIELD_JSON_UNEXPECTED_END,
    JACKFIELD_JSON_UNEXPECTED_CHARACTER,
    JACKFIELD_JSON_INVALID_NUMBER,
    JACKFIELD_JSON_INVALID_ESCAPE,
    JACKFIELD_JSON_LONE_SURROGATE,
    JACKFIELD_JSON_CONTROL_CHARACTER,
    JACKFIELD_JSON_INVALID_UTF8,
    JACKFIELD_JSON_TOO_DEEP,
    JACKFIELD_JSON_TRAILING_CHARACTERS,
} jackfield_json_error;

// Describes an error, such as "unexpected end".
const char *jackfield_json_error_name(jackfield_json_error error);

// Reads a value. Strings without escapes refer to `text`. `position` is the byte at which an error was found, and may be
// NULL.
jackfield_json_error jackfield_json_parse(jackfield_text text, const jackfield_json **value, size_t *position);

// The value of a member; NULL if there is none, or if `object` is NULL or no object.
const jackfield_json *jackfield_json_get(const jackfield_json *object, const char *name);
// The item at a position of an array; NULL if there is none, or if `array` is NULL or no array.
const jackfield_json *jackfield_json_at(const jackfield_json *array, size_t position);
// Each of these returns whether `value` is of that type, and stores it if so. `value` may be NULL.
bool jackfield_json_string(const jackfield_json *value, jackfield_text *text);
bool jackfield_json_boolean(const jackfield_json *value, bool *boolean);
// False also for a number with a fraction or an exponent, and for one that does not fit.
bool jackfield_json_integer(const jackfield_json *value, int64_t *integer);
// The nearest number; false also for one that is too large.
bool jackfield_json_double(const jackfield_json *value, double *number);

// Writes a value. Commas and colons are added where they belong:
//
//     jackfield_json_writer writer = {0};
//     jackfield_json_begin_object(&writer);
//     jackfield_json_add_name(&writer, "type");
//     jackfield_json_add_string(&writer, JACKFIELD_TEXT("joined"));
//     jackfield_json_end_object(&writer);
//     return jackfield_reply_text(jackfield_json_written(&writer));
typedef struct jackfield_json_writer {
    // Private.
    char *data;
    size_t length;
    size_t capacity;
    bool needs_comma;
} jackfield_json_writer;

void jackfield_json_begin_object(jackfield_json_writer *writer);
void jackfield_json_end_object(jackfield_json_writer *writer);
void jackfield_json_begin_array(jackfield_json_writer *writer);
void jackfield_json_end_array(jackfield_json_writer *writer);
void jackfield_json_add_name(jackfield_json_writer *writer, const char *name);
void jackfield_json_add_name_text(jackfield_json_writer *writer, jackfield_text name);
// Bytes that are no UTF-8 are replaced by U+FFFD.
void jackfield_json_add_string(jackfield_json_writer *writer, jackfield_text text);
void jackfield_json_add_integer(jackfield_json_writer *writer, int64_t integer);
// A number that JSON does not have (infinity, not a number) is written as null.
void jackfield_json_add_double(jackfield_json_writer *writer, double number);
void jackfield_json_add_boolean(jackfield_json_writer *writer, bool boolean);
void jackfield_json_add_null(jackfield_json_writer *writer);
// A value that was read, with everything in it.
void jackfield_json_add_value(jackfield_json_writer *writer, const jackfield_json *value);
// What was written so far.
jackfield_text jackfield_json_written(const jackfield_json_writer *writer);

#ifdef __cplusplus
}
#endif
#endif
