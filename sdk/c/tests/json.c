// Tests of the JSON reader and writer, which run on this machine.
#undef NDEBUG
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../src/internal.h"
#include "jackfield_json.h"

static jackfield_json_error parse(const char *text, const jackfield_json **value) {
    return jackfield_json_parse(jackfield_text_from(text), value, NULL);
}

static jackfield_text write(const jackfield_json *value) {
    jackfield_json_writer writer = {0};
    jackfield_json_add_value(&writer, value);
    return jackfield_json_written(&writer);
}

static void values_are_read_and_written_as_they_are(void) {
    static const char *const texts[] = {
        "null", "true", "false", "0", "-0", "12.5e-3", "1E+2", "12345678901234567890123", "\"\"", "\"a\"", "[]", "{}",
        "[1,[2,{\"a\":[]}],\"\"]", "{\"a\":1,\"b\":{\"c\":null},\"a\":2}", "\"\xc3\xa4\xf0\x9f\x98\x80\"",
    };
    for (size_t i = 0; i < sizeof(texts) / sizeof(*texts); i++) {
        const jackfield_json *value;
        assert(parse(texts[i], &value) == JACKFIELD_JSON_OK);
        assert(jackfield_text_equals(write(value), jackfield_text_from(texts[i])));
    }
    const jackfield_json *value;
    assert(parse(" \t\r\n[ 1 , { \"a\" : 2 } ] ", &value) == JACKFIELD_JSON_OK);
    assert(jackfield_text_equals(write(value), JACKFIELD_TEXT("[1,{\"a\":2}]")));
}

static void escapes_are_read_and_the_shortest_are_written(void) {
    const jackfield_json *value;
    jackfield_text text;
    assert(parse("\"\\\"\\\\\\/\\b\\f\\n\\r\\t\\u0001\\u00e4\\uD83D\\uDE00x\\u0000\"", &value) == JACKFIELD_JSON_OK);
    assert(jackfield_json_string(value, &text));
    assert(jackfield_text_equals(text, JACKFIELD_TEXT("\"\\/\b\f\n\r\t\x01\xc3\xa4\xf0\x9f\x98\x80x\0")));
    assert(jackfield_text_equals(
        write(value), JACKFIELD_TEXT("\"\\\"\\\\/\\b\\f\\n\\r\\t\\u0001\xc3\xa4\xf0\x9f\x98\x80x\\u0000\"")));
}

static void what_is_no_json_is_rejected(void) {
    static const struct {
        const char *text;
        jackfield_json_error error;
        size_t position;
    } cases[] = {
        {"", JACKFIELD_JSON_UNEXPECTED_END, 0},
        {" ", JACKFIELD_JSON_UNEXPECTED_END, 1},
        {"nul", JACKFIELD_JSON_UNEXPECTED_END, 3},
        {"nulL", JACKFIELD_JSON_UNEXPECTED_CHARACTER, 3},
        {"True", JACKFIELD_JSON_UNEXPECTED_CHARACTER, 0},
        {"'a'", JACKFIELD_JSON_UNEXPECTED_CHARACTER, 0},
        {"[1,]", JACKFIELD_JSON_UNEXPECTED_CHARACTER, 3},
        {"[1 2]", JACKFIELD_JSON_UNEXPECTED_CHARACTER, 3},
        {"[", JACKFIELD_JSON_UNEXPECTED_END, 1},
        {"{\"a\":1,}", JACKFIELD_JSON_UNEXPECTED_CHARACTER, 7},
        {"{a:1}", JACKFIELD_JSON_UNEXPECTED_CHARACTER, 1},
        {"{\"a\" 1}", JACKFIELD_JSON_UNEXPECTED_CHARACTER, 5},
        {"{\"a\":}", JACKFIELD_JSON_UNEXPECTED_CHARACTER, 5},
        {"1 2", JACKFIELD_JSON_TRAILING_CHARACTERS, 2},
        {"01", JACKFIELD_JSON_TRAILING_CHARACTERS, 1},
        {"+1", JACKFIELD_JSON_UNEXPECTED_CHARACTER, 0},
        {"-", JACKFIELD_JSON_INVALID_NUMBER, 1},
        {"1.", JACKFIELD_JSON_INVALID_NUMBER, 2},
        {".5", JACKFIELD_JSON_UNEXPECTED_CHARACTER, 0},
        {"1e", JACKFIELD_JSON_INVALID_NUMBER, 2},
        {"NaN", JACKFIELD_JSON_UNEXPECTED_CHARACTER, 0},
        {"\"a", JACKFIELD_JSON_UNEXPECTED_END, 2},
        {"\"\\", JACKFIELD_JSON_UNEXPECTED_END, 2},
        {"\"\\x\"", JACKFIELD_JSON_INVALID_ESCAPE, 2},
        {"\"\\u12g4\"", JACKFIELD_JSON_INVALID_ESCAPE, 5},
        {"\"\\u12\"", JACKFIELD_JSON_INVALID_ESCAPE, 5},
        {"\"\n\"", JACKFIELD_JSON_CONTROL_CHARACTER, 1},
        {"\"\\ud83d\"", JACKFIELD_JSON_LONE_SURROGATE, 7},
        {"\"\\ud83d\\n\"", JACKFIELD_JSON_LONE_SURROGATE, 7},
        {"\"\\ud83d\\ud83d\"", JACKFIELD_JSON_LONE_SURROGATE, 13},
        {"\"\\ude00\"", JACKFIELD_JSON_LONE_SURROGATE, 7},
        {"\"\xff\"", JACKFIELD_JSON_INVALID_UTF8, 1},
        {"\"\xc0\x80\"", JACKFIELD_JSON_INVALID_UTF8, 1},
        {"\"\xed\xa0\x80\"", JACKFIELD_JSON_INVALID_UTF8, 1},
        {"\"\xf4\x90\x80\x80\"", JACKFIELD_JSON_INVALID_UTF8, 1},
        {"\"\xe2\x82", JACKFIELD_JSON_INVALID_UTF8, 1},
        {"\xef\xbb\xbf" "1", JACKFIELD_JSON_UNEXPECTED_CHARACTER, 0},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        const jackfield_json *value;
        size_t position;
        jackfield_json_error error = jackfield_json_parse(jackfield_text_from(cases[i].text), &value, &position);
        if (error != cases[i].error || position != cases[i].position || value != NULL) {
            printf("%s: found %s at %zu\n", cases[i].text, jackfield_json_error_name(error), position);
            abort();
        }
    }
}

static void the_depth_is_limited(void) {
    for (int extra = 0; extra <= 1; extra++) {
        size_t depth = JACKFIELD_JSON_DEPTH_MAX + (size_t)extra;
        char text[2 * JACKFIELD_JSON_DEPTH_MAX + 2];
        memset(text, '[', depth);
        memset(text + depth, ']', depth);
        const jackfield_json *value;
        jackfield_json_error error = jackfield_json_parse((jackfield_text){text, 2 * depth}, &value, NULL);
        assert(error == (extra ? JACKFIELD_JSON_TOO_DEEP : JACKFIELD_JSON_OK));
    }
}

static void numbers_are_read_within_their_limits(void) {
    static const struct {
        const char *text;
        bool is_integer;
        int64_t integer;
    } cases[] = {
        {"9223372036854775807", true, INT64_MAX}, {"9223372036854775808", false, 0}, {"-9223372036854775808", true, INT64_MIN},
        {"-9223372036854775809", false, 0},       {"1.0", false, 0},                 {"1e2", false, 0},
        {"-0", true, 0},                          {"\"1\"", false, 0},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        const jackfield_json *value;
        int64_t integer = 0;
        assert(parse(cases[i].text, &value) == JACKFIELD_JSON_OK);
        assert(jackfield_json_integer(value, &integer) == cases[i].is_integer && integer == cases[i].integer);
    }
    const jackfield_json *value;
    double number;
    assert(!parse("-12.5e1", &value) && jackfield_json_double(value, &number) && number == -125.0);
    assert(!parse("1e999", &value) && !jackfield_json_double(value, &number));
    jackfield_json_writer writer = {0};
    jackfield_json_begin_array(&writer);
    jackfield_json_add_double(&writer, 0.1);
    jackfield_json_add_double(&writer, 1.0 / 3);
    jackfield_json_add_double(&writer, 1e300 * 1e300);
    jackfield_json_add_integer(&writer, INT64_MIN);
    jackfield_json_add_integer(&writer, INT64_MAX);
    jackfield_json_end_array(&writer);
    assert(jackfield_text_equals(jackfield_json_written(&writer),
                                 JACKFIELD_TEXT("[0.1,0.3333333333333333,null,-9223372036854775808,9223372036854775807]")));
}

static void members_are_found_and_the_last_one_counts(void) {
    const jackfield_json *value;
    bool boolean;
    int64_t integer;
    assert(parse("{\"a\":1,\"b\":[true,7],\"a\":2}", &value) == JACKFIELD_JSON_OK && value->count == 3);
    assert(jackfield_json_integer(jackfield_json_get(value, "a"), &integer) && integer == 2);
    assert(jackfield_json_boolean(jackfield_json_at(jackfield_json_get(value, "b"), 0), &boolean) && boolean);
    assert(!jackfield_json_at(jackfield_json_get(value, "b"), 2) && !jackfield_json_get(value, "c"));
    assert(!jackfield_json_get(jackfield_json_get(value, "c"), "d") && !jackfield_json_at(value, 0));
}

static void invalid_utf8_is_written_as_the_replacement_character(void) {
    jackfield_json_writer writer = {0};
    jackfield_json_add_string(&writer, JACKFIELD_TEXT("a\xff\xed\xa0\x80z\xe2\x82"));
    const char *expected = "\"a\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbdz\xef\xbf\xbd\xef\xbf\xbd\"";
    assert(jackfield_text_equals(jackfield_json_written(&writer), jackfield_text_from(expected)));
}

// Numbers that look random and are the same in each run.
static uint32_t random_state = 1;

static uint32_t random_below(uint32_t limit) {
    random_state ^= random_state << 13;
    random_state ^= random_state >> 17;
    random_state ^= random_state << 5;
    return random_state % limit;
}

// Damaged texts are read to an error or a value: within their bytes (which a sanitizer checks), and a value is written
// as a text that is read again as the same.
static void damaged_texts_are_read_to_an_error_or_a_value(void) {
    static const char *const seeds[] = {
        "{\"a\":[1,-2.5e+3,\"x\\u00e4\\ud83d\\ude00\\n\"],\"b\":{\"c\":[true,false,null]},\"d\":\"\xc3\xa4\xf0\x9f\x98\x80\"}",
        "[[[[\"\\\"\\\\\",0.1],{}],[]],12345678901234567890]",
        "\"\\ud800\\udc00\\u0000\"",
    };
    size_t values = 0;
    for (int round = 0; round < 200000; round++) {
        const char *seed = seeds[random_below(3)];
        size_t length = strlen(seed);
        // A copy of exactly these bytes, so that a read behind them is found.
        char *text = malloc(length);
        memcpy(text, seed, length);
        for (uint32_t changes = random_below(4); changes > 0; changes--) {
            static const char bytes[] = "\"\\{}[]:,u0d8e+-.\x80\xc3\xf0\x01 ";
            text[random_below((uint32_t)length)] = bytes[random_below(sizeof(bytes) - 1)];
        }
        size_t kept = random_below(4) ? length : random_below((uint32_t)length + 1);
        char *exact = malloc(kept ? kept : 1);
        memcpy(exact, text, kept);
        const jackfield_json *value, *again;
        if (jackfield_json_parse((jackfield_text){exact, kept}, &value, NULL) == JACKFIELD_JSON_OK) {
            values++;
            jackfield_text written = write(value);
            assert(jackfield_json_parse(written, &again, NULL) == JACKFIELD_JSON_OK);
            assert(jackfield_text_equals(write(again), written));
        }
        free(text);
        free(exact);
        jackfield_arena_reset();
    }
    // Both kinds occur often.
    assert(values > 20000 && values < 180000);
}

static void memory_of_an_event_is_freed_at_its_end(void) {
    for (int event = 0; event < 10000; event++) {
        for (size_t bytes = 1; bytes < 300000; bytes *= 3) memset(jackfield_alloc(bytes), 1, bytes);
        char *text = jackfield_alloc(10);
        text = jackfield_resize(text, 10, 200000);
        memset(text, 1, 200000);
        assert(((uintptr_t)text & 15) == 0);
        assert(jackfield_arena_grown_bytes() < 1500000);
        jackfield_arena_reset();
        assert(jackfield_arena_grown_bytes() == 0);
    }
}

int main(void) {
    values_are_read_and_written_as_they_are();
    escapes_are_read_and_the_shortest_are_written();
    what_is_no_json_is_rejected();
    the_depth_is_limited();
    numbers_are_read_within_their_limits();
    members_are_found_and_the_last_one_counts();
    invalid_utf8_is_written_as_the_replacement_character();
    damaged_texts_are_read_to_an_error_or_a_value();
    memory_of_an_event_is_freed_at_its_end();
    puts("ok");
}
