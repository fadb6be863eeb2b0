// What the files of the test double share: the state of the host that it stands for, and its limits.
#ifndef JACKFIELD_DOUBLE_H
#define JACKFIELD_DOUBLE_H

#include "jackfield_testing.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../src/internal.h"

// The limits of the host.
#define MESSAGE_BYTES_MAX ((size_t)128 * 1024)
#define CLOSE_REASON_BYTES_MAX 123
#define ROW_ATTRIBUTES_MAX 64
#define ATTRIBUTE_NAME_BYTES_MAX 64
#define ATTRIBUTE_VALUE_BYTES_MAX 1024
#define KEY_BYTES_MAX 1024
#define VALUE_BYTES_MAX ((size_t)400 * 1024)
#define PAGE_ITEMS 256
#define BATCH_KEYS_MAX 256
#define CALL_BYTES_MAX ((size_t)2 * 1024 * 1024)
// What a text in a list counts in addition to its bytes.
#define ELEMENT_BYTES 24
#define BUCKET_BYTES ((uint64_t)64 * 1024 * 1024)
#define BUCKET_KEYS 100000
#define CONNECTION_ID_BYTES 16
// The double itself has space for so many open buckets, and as many handles for swaps, in one event.
#define HANDLES_MAX 1024

typedef struct post {
    struct post *next;
    jackfield_payload payload;
} post;

typedef struct connection {
    struct connection *next;
    jackfield_text peer;
    jackfield_text id;
    enum { CONNECTING, OPEN, CLOSED, GONE } state;
    uint64_t connected_at;
    uint64_t last_active_at;
    bool has_row;
    bool awaits_disconnect;
    jackfield_field attributes[ROW_ATTRIBUTES_MAX];
    size_t attribute_count;
    post *posts;
    jackfield_close_frame frame;
} connection;

typedef struct pair {
    struct pair *next;
    jackfield_text key;
    jackfield_text value;
} pair;

typedef struct bucket {
    struct bucket *next;
    jackfield_text name;
    uint64_t bytes_max;
    uint64_t keys_max;
    // Sorted by key.
    pair *pairs;
} bucket;

typedef struct cas {
    bucket *bucket;
    jackfield_text key;
    bool found;
    jackfield_text seen;
} cas;

typedef struct setting {
    struct setting *next;
    jackfield_field field;
} setting;

typedef struct log_line {
    struct log_line *next;
    jackfield_text text;
} log_line;

extern struct jackfield_double {
    // Sorted by id, because ids are issued in their order.
    connection *connections;
    bucket *buckets;
    setting *settings;
    log_line *logs;
    uint64_t now;
    unsigned ids_issued;
    connection *current;
    jackfield_text detail;
    bucket *open_buckets[HANDLES_MAX];
    size_t open_count;
    cas handles[HANDLES_MAX];
    size_t handle_count;
} jackfield_double;

// Allocates memory that outlives the event, until jackfield_test_reset.
void *jackfield_double_allocate(size_t bytes);
// Returns NULL if no connection has this id.
connection *jackfield_double_connection(jackfield_text id);

static inline jackfield_text copied(jackfield_text text) {
    char *data = jackfield_double_allocate(text.length + 1);
    if (text.length > 0) memcpy(data, text.data, text.length);
    data[text.length] = 0;
    return (jackfield_text){data, text.length};
}

static inline void stop(const char *reason) {
    fprintf(stderr, "a host ends the event here: %s\n", reason);
    abort();
}

static inline int compared(jackfield_text a, jackfield_text b) {
    size_t shorter = a.length < b.length ? a.length : b.length;
    int order = shorter > 0 ? memcmp(a.data, b.data, shorter) : 0;
    return order ? order : (a.length > b.length) - (a.length < b.length);
}

static inline jackfield_error failed(jackfield_error error, const char *reason) {
    jackfield_double.detail = jackfield_text_from(reason);
    return error;
}

static inline void check_parameters(size_t bytes) {
    if (bytes > CALL_BYTES_MAX) stop("the parameters of one call have at most 2 MiB");
}

static inline size_t texts_bytes(jackfield_texts texts) {
    size_t bytes = 0;
    for (size_t i = 0; i < texts.count; i++) bytes += texts.items[i].length + ELEMENT_BYTES;
    return bytes;
}

static inline size_t optional_bytes(const jackfield_text *text) {
    return text ? text->length : 0;
}

static inline jackfield_identity identity(void) {
    return (jackfield_identity){JACKFIELD_TEXT("127.0.0.1"), false, {NULL, 0}};
}

#endif
