// The JSON reader and writer of jackfield_json.h.
#include "jackfield_json.h"

#include <string.h>

#include "internal.h"

// ---- UTF-8 ---------------------------------------------------------------------------------------------------------

// Returns the length of the character at `at`, or 0 if it is no UTF-8: too short, too long, a surrogate, or too large.
static size_t character_length(const uint8_t *at, const uint8_t *end) {
    uint8_t first = at[0];
    if (first < 0x80) return 1;
    size_t length = first >= 0xc2 && first <= 0xdf ? 2 : first >= 0xe0 && first <= 0xef ? 3 : first >= 0xf0 && first <= 0xf4 ? 4 : 0;
    if (length == 0 || (size_t)(end - at) < length) return 0;
    uint8_t low = first == 0xe0 ? 0xa0 : first == 0xf0 ? 0x90 : 0x80;
    uint8_t high = first == 0xed ? 0x9f : first == 0xf4 ? 0x8f : 0xbf;
    if (at[1] < low || at[1] > high) return 0;
    for (size_t i = 2; i < length; i++) {
        if ((at[i] & 0xc0) != 0x80) return 0;
    }
    return length;
}

bool jackfield_is_utf8(jackfield_bytes bytes) {
    const uint8_t *at = bytes.data, *end = at + bytes.length;
    while (at < end) {
        size_t length = character_length(at, end);
        if (length == 0) return false;
        at += length;
    }
    return true;
}

static char *put_character(char *out, uint32_t code) {
    if (code < 0x80) {
        *out++ = (char)code;
    } else if (code < 0x800) {
        *out++ = (char)(0xc0 | code >> 6);
        *out++ = (char)(0x80 | (code & 0x3f));
    } else if (code < 0x10000) {
        *out++ = (char)(0xe0 | code >> 12);
        *out++ = (char)(0x80 | (code >> 6 & 0x3f));
        *out++ = (char)(0x80 | (code & 0x3f));
    } else {
        *out++ = (char)(0xf0 | code >> 18);
        *out++ = (char)(0x80 | (code >> 12 & 0x3f));
        *out++ = (char)(0x80 | (code >> 6 & 0x3f));
        *out++ = (char)(0x80 | (code & 0x3f));
    }
    return out;
}

// ---- reader --------------------------------------------------------------------------------------------------------

typedef struct reader {
    const uint8_t *at;
    const uint8_t *end;
    unsigned depth;
} reader;

const char *jackfield_json_error_name(jackfield_json_error error) {
    switch (error) {
    case JACKFIELD_JSON_OK: return "ok";
    case JACKFIELD_JSON_UNEXPECTED_END: return "unexpected end";
    case JACKFIELD_JSON_UNEXPECTED_CHARACTER: return "unexpected character";
    case JACKFIELD_JSON_INVALID_NUMBER: return "invalid number";
    case JACKFIELD_JSON_INVALID_ESCAPE: return "invalid escape";
    case JACKFIELD_JSON_LONE_SURROGATE: return "lone surrogate";
    case JACKFIELD_JSON_CONTROL_CHARACTER: return "control character in a string";
    case JACKFIELD_JSON_INVALID_UTF8: return "invalid UTF-8";
    case JACKFIELD_JSON_TOO_DEEP: return "too deep";
    case JACKFIELD_JSON_TRAILING_CHARACTERS: return "trailing characters";
    }
    return "unknown";
}

static void skip_space(reader *r) {
    while (r->at < r->end && (*r->at == ' ' || *r->at == '\t' || *r->at == '\n' || *r->at == '\r')) r->at++;
}

static bool take(reader *r, uint8_t character) {
    if (r->at == r->end || *r->at != character) return false;
    r->at++;
    return true;
}

static jackfield_json_error unexpected(const reader *r) {
    return r->at == r->end ? JACKFIELD_JSON_UNEXPECTED_END : JACKFIELD_JSON_UNEXPECTED_CHARACTER;
}

// Reads four hexadecimal digits.
static jackfield_json_error read_unit(reader *r, uint32_t *unit) {
    *unit = 0;
    for (int i = 0; i < 4; i++, r->at++) {
        if (r->at == r->end) return JACKFIELD_JSON_UNEXPECTED_END;
        uint8_t c = *r->at;
        uint32_t digit = c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : c >= 'A' && c <= 'F' ? c - 'A' + 10 : 16;
        if (digit == 16) return JACKFIELD_JSON_INVALID_ESCAPE;
        *unit = *unit << 4 | digit;
    }
    return JACKFIELD_JSON_OK;
}

// Reads what follows a backslash.
static jackfield_json_error read_escape(reader *r, char **out) {
    if (r->at == r->end) return JACKFIELD_JSON_UNEXPECTED_END;
    uint32_t code = *r->at;
    switch (*r->at) {
    case '"': case '\\': case '/': break;
    case 'b': code = '\b'; break;
    case 'f': code = '\f'; break;
    case 'n': code = '\n'; break;
    case 'r': code = '\r'; break;
    case 't': code = '\t'; break;
    case 'u': {
        r->at++;
        jackfield_json_error error = read_unit(r, &code);
        if (error) return error;
        if (code >= 0xdc00 && code <= 0xdfff) return JACKFIELD_JSON_LONE_SURROGATE;
        if (code >= 0xd800 && code <= 0xdbff) {
            if (r->end - r->at < 2 || r->at[0] != '\\' || r->at[1] != 'u') return JACKFIELD_JSON_LONE_SURROGATE;
            uint32_t low;
            r->at += 2;
            error = read_unit(r, &low);
            if (error) return error;
            if (low < 0xdc00 || low > 0xdfff) return JACKFIELD_JSON_LONE_SURROGATE;
            code = 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00);
        }
        *out = put_character(*out, code);
        return JACKFIELD_JSON_OK;
    }
    default: return JACKFIELD_JSON_INVALID_ESCAPE;
    }
    r->at++;
    *out = put_character(*out, code);
    return JACKFIELD_JSON_OK;
}

// Moves over characters that need no change. Returns at a quote, a backslash, or the end.
static jackfield_json_error skip_plain(reader *r) {
    while (r->at < r->end) {
        uint8_t c = *r->at;
        if (c == '"' || c == '\\') return JACKFIELD_JSON_OK;
        if (c < 0x20) return JACKFIELD_JSON_CONTROL_CHARACTER;
        size_t length = c < 0x80 ? 1 : character_length(r->at, r->end);
        if (length == 0) return JACKFIELD_JSON_INVALID_UTF8;
        r->at += length;
    }
    return JACKFIELD_JSON_UNEXPECTED_END;
}

// Reads a string whose opening quote was read. Without escapes it refers to the text that is read.
static jackfield_json_error read_string(reader *r, jackfield_text *text) {
    const uint8_t *start = r->at;
    jackfield_json_error error = skip_plain(r);
    if (error) return error;
    if (*r->at == '"') {
        *text = (jackfield_text){(const char *)start, (size_t)(r->at - start)};
        r->at++;
        return JACKFIELD_JSON_OK;
    }
    // An escape is never shorter than what it stands for, so the rest of the string has enough space.
    const uint8_t *close = r->at;
    while (close < r->end && *close != '"') close += *close == '\\' ? 2 : 1;
    if (close >= r->end) close = r->end;
    char *copy = jackfield_arena_allocate((size_t)(close - start), 1), *out = copy;
    size_t plain = (size_t)(r->at - start);
    memcpy(out, start, plain);
    out += plain;
    while (*r->at == '\\') {
        r->at++;
        error = read_escape(r, &out);
        if (error) return error;
        start = r->at;
        error = skip_plain(r);
        if (error) return error;
        plain = (size_t)(r->at - start);
        memcpy(out, start, plain);
        out += plain;
    }
    r->at++;
    *text = (jackfield_text){copy, (size_t)(out - copy)};
    return JACKFIELD_JSON_OK;
}

static size_t skip_digits(reader *r) {
    const uint8_t *start = r->at;
    while (r->at < r->end && *r->at >= '0' && *r->at <= '9') r->at++;
    return (size_t)(r->at - start);
}

static jackfield_json_error read_number(reader *r, jackfield_text *text) {
    const uint8_t *start = r->at;
    take(r, '-');
    if (!take(r, '0') && skip_digits(r) == 0) return JACKFIELD_JSON_INVALID_NUMBER;
    if (take(r, '.') && skip_digits(r) == 0) return JACKFIELD_JSON_INVALID_NUMBER;
    if (r->at < r->end && (*r->at == 'e' || *r->at == 'E')) {
        r->at++;
        if (!take(r, '+')) take(r, '-');
        if (skip_digits(r) == 0) return JACKFIELD_JSON_INVALID_NUMBER;
    }
    *text = (jackfield_text){(const char *)start, (size_t)(r->at - start)};
    return JACKFIELD_JSON_OK;
}

static jackfield_json_error read_word(reader *r, const char *word) {
    for (; *word; word++) {
        if (!take(r, (uint8_t)*word)) return unexpected(r);
    }
    return JACKFIELD_JSON_OK;
}

static jackfield_json_error read_value(reader *r, jackfield_json *value);

// Reads the items of an array or the members of an object, whose opening bracket was read.
static jackfield_json_error read_items(reader *r, jackfield_json *parent, uint8_t close) {
    if (++r->depth > JACKFIELD_JSON_DEPTH_MAX) return JACKFIELD_JSON_TOO_DEEP;
    const jackfield_json **link = &parent->first;
    skip_space(r);
    if (take(r, close)) {
        r->depth--;
        return JACKFIELD_JSON_OK;
    }
    while (true) {
        jackfield_json *item = jackfield_arena_allocate(sizeof(jackfield_json), _Alignof(jackfield_json));
        jackfield_text name = {NULL, 0};
        jackfield_json_error error;
        skip_space(r);
        if (close == '}') {
            if (!take(r, '"')) return unexpected(r);
            error = read_string(r, &name);
            if (error) return error;
            skip_space(r);
            if (!take(r, ':')) return unexpected(r);
            skip_space(r);
        }
        error = read_value(r, item);
        if (error) return error;
        item->name = name;
        *link = item;
        link = &item->next;
        parent->count++;
        skip_space(r);
        if (take(r, close)) break;
        if (!take(r, ',')) return unexpected(r);
    }
    r->depth--;
    return JACKFIELD_JSON_OK;
}

static jackfield_json_error read_value(reader *r, jackfield_json *value) {
    *value = (jackfield_json){.type = JACKFIELD_JSON_NULL};
    if (r->at == r->end) return JACKFIELD_JSON_UNEXPECTED_END;
    switch (*r->at) {
    case '{':
        r->at++;
        value->type = JACKFIELD_JSON_OBJECT;
        return read_items(r, value, '}');
    case '[':
        r->at++;
        value->type = JACKFIELD_JSON_ARRAY;
        return read_items(r, value, ']');
    case '"':
        r->at++;
        value->type = JACKFIELD_JSON_STRING;
        return read_string(r, &value->text);
    case 't':
        value->type = JACKFIELD_JSON_BOOLEAN;
        value->boolean = true;
        return read_word(r, "true");
    case 'f': value->type = JACKFIELD_JSON_BOOLEAN; return read_word(r, "false");
    case 'n': return read_word(r, "null");
    default:
        if (*r->at != '-' && (*r->at < '0' || *r->at > '9')) return JACKFIELD_JSON_UNEXPECTED_CHARACTER;
        value->type = JACKFIELD_JSON_NUMBER;
        return read_number(r, &value->text);
    }
}

jackfield_json_error jackfield_json_parse(jackfield_text text, const jackfield_json **value, size_t *position) {
    const uint8_t *start = (const uint8_t *)text.data;
    reader r = {start, start + text.length, 0};
    jackfield_json *read = jackfield_arena_allocate(sizeof(jackfield_json), _Alignof(jackfield_json));
    skip_space(&r);
    jackfield_json_error error = read_value(&r, read);
    if (!error) {
        skip_space(&r);
        if (r.at != r.end) error = JACKFIELD_JSON_TRAILING_CHARACTERS;
    }
    *value = error ? NULL : read;
    if (position) *position = (size_t)(r.at - start);
    return error;
}

const jackfield_json *jackfield_json_get(const jackfield_json *object, const char *name) {
    const jackfield_json *found = NULL;
    if (!object || object->type != JACKFIELD_JSON_OBJECT) return NULL;
    jackfield_text wanted = jackfield_text_from(name);
    for (const jackfield_json *member = object->first; member; member = member->next) {
        if (jackfield_text_equals(member->name, wanted)) found = member;
    }
    return found;
}

const jackfield_json *jackfield_json_at(const jackfield_json *array, size_t position) {
    if (!array || array->type != JACKFIELD_JSON_ARRAY) return NULL;
    const jackfield_json *item = array->first;
    while (item && position-- > 0) item = item->next;
    return item;
}

bool jackfield_json_string(const jackfield_json *value, jackfield_text *text) {
    if (!value || value->type != JACKFIELD_JSON_STRING) return false;
    *text = value->text;
    return true;
}

bool jackfield_json_boolean(const jackfield_json *value, bool *boolean) {
    if (!value || value->type != JACKFIELD_JSON_BOOLEAN) return false;
    *boolean = value->boolean;
    return true;
}

bool jackfield_json_integer(const jackfield_json *value, int64_t *integer) {
    if (!value || value->type != JACKFIELD_JSON_NUMBER) return false;
    bool is_negative = value->text.data[0] == '-';
    uint64_t sum = 0, limit = is_negative ? (uint64_t)INT64_MAX + 1 : (uint64_t)INT64_MAX;
    for (size_t i = is_negative; i < value->text.length; i++) {
        char c = value->text.data[i];
        if (c < '0' || c > '9') return false;
        uint64_t digit = (uint64_t)(c - '0');
        if (sum > (limit - digit) / 10) return false;
        sum = sum * 10 + digit;
    }
    *integer = is_negative ? (int64_t)(0 - sum) : (int64_t)sum;
    return true;
}

// ---- writer --------------------------------------------------------------------------------------------------------

static char *reserve(jackfield_json_writer *writer, size_t bytes) {
    if (bytes > writer->capacity - writer->length) {
        size_t capacity = writer->capacity * 2;
        if (capacity < 256) capacity = 256;
        if (capacity < writer->length + bytes) capacity = writer->length + bytes;
        writer->data = jackfield_arena_resize(writer->data, writer->capacity, capacity, 1);
        writer->capacity = capacity;
    }
    return writer->data + writer->length;
}

static void put(jackfield_json_writer *writer, const char *bytes, size_t count) {
    memcpy(reserve(writer, count), bytes, count);
    writer->length += count;
}

static void begin_value(jackfield_json_writer *writer) {
    if (writer->needs_comma) put(writer, ",", 1);
    writer->needs_comma = true;
}

static void begin(jackfield_json_writer *writer, const char *bracket) {
    begin_value(writer);
    put(writer, bracket, 1);
    writer->needs_comma = false;
}

static void end(jackfield_json_writer *writer, const char *bracket) {
    put(writer, bracket, 1);
    writer->needs_comma = true;
}

void jackfield_json_begin_object(jackfield_json_writer *writer) {
    begin(writer, "{");
}

void jackfield_json_end_object(jackfield_json_writer *writer) {
    end(writer, "}");
}

void jackfield_json_begin_array(jackfield_json_writer *writer) {
    begin(writer, "[");
}

void jackfield_json_end_array(jackfield_json_writer *writer) {
    end(writer, "]");
}

static void put_string(jackfield_json_writer *writer, jackfield_text text) {
    static const char digits[] = "0123456789abcdef";
    const uint8_t *at = (const uint8_t *)text.data, *stop = at + text.length, *plain = at;
    put(writer, "\"", 1);
    while (at < stop) {
        uint8_t c = *at;
        if (c >= 0x20 && c != '"' && c != '\\') {
            size_t length = c < 0x80 ? 1 : character_length(at, stop);
            if (length > 0) {
                at += length;
                continue;
            }
        }
        put(writer, (const char *)plain, (size_t)(at - plain));
        switch (c) {
        case '"': put(writer, "\\\"", 2); break;
        case '\\': put(writer, "\\\\", 2); break;
        case '\b': put(writer, "\\b", 2); break;
        case '\f': put(writer, "\\f", 2); break;
        case '\n': put(writer, "\\n", 2); break;
        case '\r': put(writer, "\\r", 2); break;
        case '\t': put(writer, "\\t", 2); break;
        default:
            if (c < 0x20) {
                char escape[6] = {'\\', 'u', '0', '0', digits[c >> 4], digits[c & 15]};
                put(writer, escape, 6);
            } else {
                put(writer, "\xef\xbf\xbd", 3);
            }
        }
        plain = ++at;
    }
    if (at > plain) put(writer, (const char *)plain, (size_t)(at - plain));
    put(writer, "\"", 1);
}

void jackfield_json_add_name_text(jackfield_json_writer *writer, jackfield_text name) {
    begin_value(writer);
    put_string(writer, name);
    put(writer, ":", 1);
    writer->needs_comma = false;
}

void jackfield_json_add_name(jackfield_json_writer *writer, const char *name) {
    jackfield_json_add_name_text(writer, jackfield_text_from(name));
}

void jackfield_json_add_string(jackfield_json_writer *writer, jackfield_text text) {
    begin_value(writer);
    put_string(writer, text);
}

void jackfield_json_add_integer(jackfield_json_writer *writer, int64_t integer) {
    char digits[20];
    size_t at = sizeof(digits);
    uint64_t rest = integer < 0 ? 0 - (uint64_t)integer : (uint64_t)integer;
    do {
        digits[--at] = (char)('0' + rest % 10);
        rest /= 10;
    } while (rest > 0);
    if (integer < 0) digits[--at] = '-';
    begin_value(writer);
    put(writer, digits + at, sizeof(digits) - at);
}

void jackfield_json_add_boolean(jackfield_json_writer *writer, bool boolean) {
    begin_value(writer);
    put(writer, boolean ? "true" : "false", boolean ? 4 : 5);
}

void jackfield_json_add_null(jackfield_json_writer *writer) {
    begin_value(writer);
    put(writer, "null", 4);
}

void jackfield_json_add_value(jackfield_json_writer *writer, const jackfield_json *value) {
    switch (value->type) {
    case JACKFIELD_JSON_NULL: jackfield_json_add_null(writer); return;
    case JACKFIELD_JSON_BOOLEAN: jackfield_json_add_boolean(writer, value->boolean); return;
    case JACKFIELD_JSON_STRING: jackfield_json_add_string(writer, value->text); return;
    case JACKFIELD_JSON_NUMBER:
        begin_value(writer);
        put(writer, value->text.data, value->text.length);
        return;
    case JACKFIELD_JSON_ARRAY: jackfield_json_begin_array(writer); break;
    case JACKFIELD_JSON_OBJECT: jackfield_json_begin_object(writer); break;
    }
    for (const jackfield_json *item = value->first; item; item = item->next) {
        if (value->type == JACKFIELD_JSON_OBJECT) jackfield_json_add_name_text(writer, item->name);
        jackfield_json_add_value(writer, item);
    }
    end(writer, value->type == JACKFIELD_JSON_ARRAY ? "]" : "}");
}

jackfield_text jackfield_json_written(const jackfield_json_writer *writer) {
    return (jackfield_text){writer->data, writer->length};
}
