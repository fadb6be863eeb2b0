// The test double of jackfield_testing.h: the functions of the host for tests that run on this machine.
#ifndef __wasm__

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

// ---- values that outlive an event ----------------------------------------------------------------------------------

// All memory of a test, which jackfield_test_reset frees.
typedef struct block {
    struct block *before;
    _Alignas(16) char data[];
} block;

static block *blocks;

static void *allocate(size_t bytes) {
    block *made = malloc(sizeof(block) + bytes);
    if (!made) abort();
    made->before = blocks;
    blocks = made;
    return made->data;
}

static jackfield_text copied(jackfield_text text) {
    char *data = allocate(text.length + 1);
    if (text.length > 0) memcpy(data, text.data, text.length);
    data[text.length] = 0;
    return (jackfield_text){data, text.length};
}

static void stop(const char *reason) {
    fprintf(stderr, "a host ends the event here: %s\n", reason);
    abort();
}

static int compared(jackfield_text a, jackfield_text b) {
    size_t shorter = a.length < b.length ? a.length : b.length;
    int order = shorter > 0 ? memcmp(a.data, b.data, shorter) : 0;
    return order ? order : (a.length > b.length) - (a.length < b.length);
}

// ---- state ---------------------------------------------------------------------------------------------------------

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

static struct {
    // Sorted by id, because ids are issued in their order.
    connection *connections;
    bucket *buckets;
    setting *settings;
    log_line *logs;
    uint64_t now;
    unsigned ids_issued;
    connection *current;
    jackfield_text detail;
    bucket *open_buckets[1024];
    size_t open_count;
    cas handles[1024];
    size_t handle_count;
} host;

static connection *connection_of(const char *peer) {
    jackfield_text name = jackfield_text_from(peer);
    connection *found = NULL;
    for (connection *c = host.connections; c; c = c->next) {
        if (jackfield_text_equals(c->peer, name)) found = c;
    }
    if (!found) {
        fprintf(stderr, "there is no peer %s\n", peer);
        abort();
    }
    return found;
}

static connection *connection_with(jackfield_text id) {
    for (connection *c = host.connections; c; c = c->next) {
        if (jackfield_text_equals(c->id, id)) return c;
    }
    return NULL;
}

static jackfield_error failed(jackfield_error error, const char *reason) {
    host.detail = jackfield_text_from(reason);
    return error;
}

jackfield_text jackfield_error_detail(void) {
    return host.detail;
}

static void check_parameters(size_t bytes) {
    if (bytes > CALL_BYTES_MAX) stop("the parameters of one call have at most 2 MiB");
}

static size_t texts_bytes(jackfield_texts texts) {
    size_t bytes = 0;
    for (size_t i = 0; i < texts.count; i++) bytes += texts.items[i].length + ELEMENT_BYTES;
    return bytes;
}

static size_t optional_bytes(const jackfield_text *text) {
    return text ? text->length : 0;
}

// ---- tests ---------------------------------------------------------------------------------------------------------

void jackfield_test_reset(void) {
    while (blocks) {
        block *before = blocks->before;
        free(blocks);
        blocks = before;
    }
    memset(&host, 0, sizeof(host));
    host.now = 1700000000000;
    jackfield_arena_reset();
}

static jackfield_text next_id(void) {
    char id[CONNECTION_ID_BYTES + 1];
    snprintf(id, sizeof(id), "%015u=", ++host.ids_issued);
    return copied(jackfield_text_from(id));
}

void jackfield_test_add_bucket_with(const char *name, uint64_t bytes, uint64_t keys) {
    bucket *made = allocate(sizeof(bucket));
    *made = (bucket){host.buckets, copied(jackfield_text_from(name)), bytes, keys, NULL};
    host.buckets = made;
}

void jackfield_test_add_bucket(const char *name) {
    jackfield_test_add_bucket_with(name, BUCKET_BYTES, BUCKET_KEYS);
}

void jackfield_test_set_config(const char *key, const char *value) {
    setting *made = allocate(sizeof(setting));
    jackfield_field field = {copied(jackfield_text_from(key)), copied(jackfield_text_from(value))};
    setting **link = &host.settings;
    while (*link && compared((*link)->field.name, field.name) < 0) link = &(*link)->next;
    if (*link && jackfield_text_equals((*link)->field.name, field.name)) {
        (*link)->field = field;
        return;
    }
    *made = (setting){*link, field};
    *link = made;
}

void jackfield_test_advance(uint64_t milliseconds) {
    host.now += milliseconds;
}

static jackfield_context context_of(connection *c, const char *route_key) {
    return (jackfield_context){c->id, jackfield_text_from(route_key), next_id(), host.now, c->connected_at};
}

static jackfield_response checked(jackfield_response response) {
    host.current = NULL;
    host.open_count = 0;
    host.handle_count = 0;
    if (response.failed) return response;
    if (response.status < 200 || response.status > 599) {
        return jackfield_fail(JACKFIELD_TEXT("the handler returned a status that is not from 200 to 599"));
    }
    if (response.has_body && response.body.content.length > MESSAGE_BYTES_MAX) {
        return jackfield_fail(JACKFIELD_TEXT("the handler returned a body of more than 128 KiB"));
    }
    return response;
}

static jackfield_response disconnect(connection *c) {
    jackfield_context context = context_of(c, "$disconnect");
    jackfield_disconnect event = {c->frame.code, c->frame.reason};
    c->awaits_disconnect = false;
    host.current = c;
    jackfield_response response = checked(jackfield_on_disconnect(&context, &event));
    c->has_row = false;
    return response;
}

// Runs `$disconnect` of the connections that a handler has deleted. As on a host, it runs after that handler.
static void disconnect_deleted(void) {
    for (connection *c = host.connections; c;) {
        bool is_next = c->awaits_disconnect;
        if (is_next) disconnect(c);
        c = is_next ? host.connections : c->next;
    }
}

static int hex_digit(char c) {
    return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

static jackfield_text decoded(const char *from, size_t length) {
    char *text = allocate(length + 1), *out = text;
    for (size_t i = 0; i < length; i++) {
        bool is_escape = from[i] == '%' && i + 2 < length && hex_digit(from[i + 1]) >= 0 && hex_digit(from[i + 2]) >= 0;
        if (is_escape) {
            *out++ = (char)(hex_digit(from[i + 1]) << 4 | hex_digit(from[i + 2]));
            i += 2;
        } else {
            *out++ = from[i] == '+' ? ' ' : from[i];
        }
    }
    *out = 0;
    return (jackfield_text){text, (size_t)(out - text)};
}

static jackfield_fields query_fields(const char *query) {
    if (*query == '?') query++;
    size_t count = 0, capacity = strlen(query) + 1;
    jackfield_field *fields = allocate(capacity * sizeof(jackfield_field));
    while (*query) {
        size_t length = strcspn(query, "&"), name = strcspn(query, "=");
        if (name > length) name = length;
        size_t value = name < length ? name + 1 : length;
        if (length > 0) fields[count++] = (jackfield_field){decoded(query, name), decoded(query + value, length - value)};
        query += length;
        if (*query == '&') query++;
    }
    return (jackfield_fields){fields, count};
}

jackfield_response jackfield_test_connect(const char *peer, const char *query) {
    connection *made = allocate(sizeof(connection)), **link = &host.connections;
    *made = (connection){.peer = copied(jackfield_text_from(peer)), .id = next_id(), .state = CONNECTING,
                         .connected_at = host.now, .last_active_at = host.now, .has_row = true};
    while (*link) link = &(*link)->next;
    *link = made;
    jackfield_context context = context_of(made, "$connect");
    jackfield_connect request = {{NULL, 0}, query_fields(query)};
    host.current = made;
    jackfield_response response = checked(jackfield_on_connect(&context, &request));
    bool is_admitted = !response.failed && response.status <= 299;
    made->state = is_admitted ? OPEN : GONE;
    made->has_row = is_admitted;
    disconnect_deleted();
    return response;
}

jackfield_response jackfield_test_send_to(const char *peer, const char *route_key, jackfield_payload payload) {
    connection *c = connection_of(peer);
    if (c->state != OPEN) return jackfield_fail(JACKFIELD_TEXT("the connection is closed"));
    if (payload.content.length > MESSAGE_BYTES_MAX) {
        jackfield_test_close(peer, 1009, "a message has at most 131072 bytes, a frame 32768");
        return jackfield_fail(JACKFIELD_TEXT("the message has more than 128 KiB, so the connection is closed"));
    }
    c->last_active_at = host.now;
    jackfield_context context = context_of(c, route_key);
    jackfield_message message = {next_id(), payload};
    host.current = c;
    jackfield_response response = checked(jackfield_on_message(&context, &message));
    disconnect_deleted();
    return response;
}

jackfield_response jackfield_test_send(const char *peer, const char *text) {
    return jackfield_test_send_to(peer, "$default", jackfield_text_payload(jackfield_text_from(text)));
}

jackfield_response jackfield_test_close(const char *peer, uint16_t code, const char *reason) {
    connection *c = connection_of(peer);
    if (c->state != OPEN) return jackfield_ok();
    c->state = CLOSED;
    c->frame = (jackfield_close_frame){code, copied(jackfield_text_from(reason))};
    jackfield_response response = disconnect(c);
    disconnect_deleted();
    return response;
}

jackfield_text jackfield_test_id(const char *peer) {
    return connection_of(peer)->id;
}

bool jackfield_test_take_post(const char *peer, jackfield_payload *taken) {
    connection *c = connection_of(peer);
    if (!c->posts) return false;
    *taken = c->posts->payload;
    c->posts = c->posts->next;
    return true;
}

bool jackfield_test_received(const char *peer, const char *text) {
    jackfield_payload taken;
    return jackfield_test_take_post(peer, &taken) && !taken.is_binary &&
           jackfield_text_equals(taken.content, jackfield_text_from(text));
}

bool jackfield_test_is_closed(const char *peer, jackfield_close_frame *frame) {
    connection *c = connection_of(peer);
    if (c->state == CLOSED && frame) *frame = c->frame;
    return c->state == CLOSED;
}

size_t jackfield_test_count_logs(const char *text) {
    size_t count = 0;
    for (log_line *line = host.logs; line; line = line->next) {
        count += jackfield_text_equals(line->text, jackfield_text_from(text));
    }
    return count;
}

bool jackfield_test_is(jackfield_response response, const char *text) {
    return !response.failed && response.has_body && !response.body.is_binary &&
           jackfield_text_equals(response.body.content, jackfield_text_from(text));
}

bool jackfield_test_failed(jackfield_response response, const char *reason) {
    return response.failed && jackfield_text_equals(response.failure, jackfield_text_from(reason));
}

// ---- connections ---------------------------------------------------------------------------------------------------

static jackfield_error queue(connection *c, jackfield_payload payload) {
    if (!c || c->state != OPEN) return failed(JACKFIELD_GONE, "");
    post *made = allocate(sizeof(post)), **link = &c->posts;
    *made = (post){NULL, {payload.is_binary, copied(payload.content)}};
    while (*link) link = &(*link)->next;
    *link = made;
    c->last_active_at = host.now;
    return JACKFIELD_OK;
}

jackfield_error jackfield_post_to_connection(jackfield_text id, jackfield_payload payload) {
    check_parameters(id.length + payload.content.length);
    if (payload.content.length > MESSAGE_BYTES_MAX) return failed(JACKFIELD_PAYLOAD_TOO_LARGE, "");
    return queue(connection_with(id), payload);
}

void jackfield_post_to_connections(jackfield_texts ids, jackfield_payload payload, jackfield_error *results) {
    check_parameters(texts_bytes(ids) + payload.content.length);
    for (size_t i = 0; i < ids.count; i++) {
        bool fits = payload.content.length <= MESSAGE_BYTES_MAX;
        results[i] = fits ? queue(connection_with(ids.items[i]), payload) : failed(JACKFIELD_PAYLOAD_TOO_LARGE, "");
    }
}

static bool has_attribute(const connection *c, jackfield_text name, jackfield_text value) {
    for (size_t i = 0; i < c->attribute_count; i++) {
        jackfield_field field = c->attributes[i];
        if (jackfield_text_equals(field.name, name) && jackfield_text_equals(field.value, value)) return true;
    }
    return false;
}

jackfield_error jackfield_post_to_matching(jackfield_text name, jackfield_text value, jackfield_payload payload,
                                           const jackfield_text *except, uint32_t *posted) {
    check_parameters(name.length + value.length + payload.content.length + optional_bytes(except));
    uint32_t count = 0;
    if (posted) *posted = 0;
    if (payload.content.length > MESSAGE_BYTES_MAX) return failed(JACKFIELD_PAYLOAD_TOO_LARGE, "");
    for (connection *c = host.connections; c; c = c->next) {
        bool is_other = !except || !jackfield_text_equals(c->id, *except);
        if (c->has_row && is_other && has_attribute(c, name, value)) count += queue(c, payload) == JACKFIELD_OK;
    }
    if (posted) *posted = count;
    return JACKFIELD_OK;
}

static jackfield_identity identity(void) {
    return (jackfield_identity){JACKFIELD_TEXT("127.0.0.1"), false, {NULL, 0}};
}

jackfield_error jackfield_get_connection(jackfield_text id, jackfield_connection_info *info) {
    check_parameters(id.length);
    connection *c = connection_with(id);
    if (!c || c->state != OPEN) return failed(JACKFIELD_GONE, "");
    *info = (jackfield_connection_info){c->connected_at, c->last_active_at, identity()};
    return JACKFIELD_OK;
}

jackfield_error jackfield_delete_connection(jackfield_text id, const jackfield_close_frame *frame) {
    jackfield_close_frame given = frame ? *frame : (jackfield_close_frame){1000, {NULL, 0}};
    check_parameters(id.length + given.reason.length);
    bool can_be_sent = (given.code >= 1000 && given.code <= 1003) || (given.code >= 1007 && given.code <= 1013) ||
                       (given.code >= 3000 && given.code <= 4999);
    if (!can_be_sent) stop("this close code cannot be sent");
    if (given.reason.length > CLOSE_REASON_BYTES_MAX) stop("a close reason has at most 123 bytes");
    connection *c = connection_with(id);
    if (!c || c->state != OPEN) return failed(JACKFIELD_GONE, "");
    c->state = CLOSED;
    c->awaits_disconnect = true;
    c->frame = (jackfield_close_frame){given.code, copied(given.reason)};
    return JACKFIELD_OK;
}

// ---- connection store ----------------------------------------------------------------------------------------------

static connection *row_with(jackfield_text id) {
    connection *c = connection_with(id);
    return c && c->has_row ? c : NULL;
}

// A copy that belongs to the event, as what a host returns.
static jackfield_row row_of(const connection *c) {
    jackfield_field *fields = jackfield_alloc((c->attribute_count + 1) * sizeof(jackfield_field));
    memcpy(fields, c->attributes, c->attribute_count * sizeof(jackfield_field));
    return (jackfield_row){c->id, c->connected_at, {fields, c->attribute_count}};
}

jackfield_error jackfield_store_get(jackfield_text id, jackfield_row *row) {
    check_parameters(id.length);
    connection *c = row_with(id);
    if (!c) return failed(JACKFIELD_NO_SUCH_CONNECTION, "");
    *row = row_of(c);
    return JACKFIELD_OK;
}

static int compare_fields(jackfield_field a, jackfield_field b) {
    int order = compared(a.name, b.name);
    return order ? order : compared(a.value, b.value);
}

// Adds an attribute to a sorted list of `*count` attributes. Returns false if it does not fit.
static bool insert(jackfield_field *list, size_t *count, jackfield_field field) {
    if (field.name.length > ATTRIBUTE_NAME_BYTES_MAX || field.value.length > ATTRIBUTE_VALUE_BYTES_MAX) return false;
    size_t at = 0;
    while (at < *count && compare_fields(list[at], field) < 0) at++;
    if (at < *count && compare_fields(list[at], field) == 0) return true;
    if (*count == ROW_ATTRIBUTES_MAX) return false;
    memmove(list + at + 1, list + at, (*count - at) * sizeof(jackfield_field));
    list[at] = (jackfield_field){copied(field.name), copied(field.value)};
    ++*count;
    return true;
}

jackfield_error jackfield_store_put(jackfield_text id, jackfield_fields attributes) {
    size_t bytes = id.length, count = 0;
    for (size_t i = 0; i < attributes.count; i++) {
        bytes += attributes.items[i].name.length + attributes.items[i].value.length + 2 * ELEMENT_BYTES;
    }
    check_parameters(bytes);
    connection *c = row_with(id);
    if (!c) return failed(JACKFIELD_NO_SUCH_CONNECTION, "");
    jackfield_field list[ROW_ATTRIBUTES_MAX];
    for (size_t i = 0; i < attributes.count; i++) {
        if (!insert(list, &count, attributes.items[i])) return failed(JACKFIELD_TOO_LARGE, "");
    }
    if (count > 0) memcpy(c->attributes, list, count * sizeof(jackfield_field));
    c->attribute_count = count;
    return JACKFIELD_OK;
}

jackfield_error jackfield_store_add(jackfield_text id, jackfield_text name, jackfield_text value) {
    check_parameters(id.length + name.length + value.length);
    connection *c = row_with(id);
    if (!c) return failed(JACKFIELD_NO_SUCH_CONNECTION, "");
    bool fits = insert(c->attributes, &c->attribute_count, (jackfield_field){name, value});
    return fits ? JACKFIELD_OK : failed(JACKFIELD_TOO_LARGE, "");
}

jackfield_error jackfield_store_remove(jackfield_text id, jackfield_text name, const jackfield_text *value) {
    check_parameters(id.length + name.length + optional_bytes(value));
    connection *c = row_with(id);
    if (!c) return failed(JACKFIELD_NO_SUCH_CONNECTION, "");
    size_t kept = 0;
    for (size_t i = 0; i < c->attribute_count; i++) {
        jackfield_field field = c->attributes[i];
        bool is_removed = jackfield_text_equals(field.name, name) && (!value || jackfield_text_equals(field.value, *value));
        if (!is_removed) c->attributes[kept++] = field;
    }
    c->attribute_count = kept;
    return JACKFIELD_OK;
}

// Whether a text has the form of a connection id.
static bool is_connection_id(jackfield_text text) {
    if (text.length != CONNECTION_ID_BYTES || text.data[CONNECTION_ID_BYTES - 1] != '=') return false;
    static const char characters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    for (size_t i = 0; i + 1 < text.length; i++) {
        if (!text.data[i] || !strchr(characters, text.data[i])) return false;
    }
    return true;
}

static jackfield_error page_of(const jackfield_field *attribute, const jackfield_text *cursor, jackfield_page *page) {
    if (cursor && !is_connection_id(*cursor)) {
        return failed(JACKFIELD_UNAVAILABLE, "the cursor is none that a page has given");
    }
    jackfield_row *rows = jackfield_alloc(PAGE_ITEMS * sizeof(jackfield_row));
    size_t count = 0, bytes = 0;
    bool is_last = true;
    for (connection *c = host.connections; c; c = c->next) {
        if (!c->has_row || (cursor && compared(c->id, *cursor) <= 0)) continue;
        if (attribute && !has_attribute(c, attribute->name, attribute->value)) continue;
        // A page of rows ends when its attributes have as many bytes as a value may have.
        if (count == PAGE_ITEMS || bytes >= VALUE_BYTES_MAX) {
            is_last = false;
            break;
        }
        for (size_t i = 0; i < c->attribute_count; i++) bytes += c->attributes[i].name.length + c->attributes[i].value.length;
        rows[count++] = row_of(c);
    }
    *page = (jackfield_page){rows, count, !is_last, is_last ? (jackfield_text){NULL, 0} : rows[count - 1].connection_id};
    return JACKFIELD_OK;
}

jackfield_error jackfield_store_query(jackfield_text name, jackfield_text value, const jackfield_text *cursor,
                                      jackfield_page *page) {
    check_parameters(name.length + value.length + optional_bytes(cursor));
    jackfield_field attribute = {name, value};
    return page_of(&attribute, cursor, page);
}

jackfield_error jackfield_store_scan(const jackfield_text *cursor, jackfield_page *page) {
    check_parameters(optional_bytes(cursor));
    return page_of(NULL, cursor, page);
}

// ---- key-value buckets ---------------------------------------------------------------------------------------------

jackfield_error jackfield_kv_open(jackfield_text name, jackfield_bucket *opened) {
    check_parameters(name.length);
    if (!host.buckets) return failed(JACKFIELD_ACCESS_DENIED, "");
    for (bucket *b = host.buckets; b; b = b->next) {
        if (!jackfield_text_equals(b->name, name)) continue;
        if (host.open_count == sizeof(host.open_buckets) / sizeof(*host.open_buckets)) stop("too many open buckets");
        host.open_buckets[host.open_count] = b;
        opened->handle = (int32_t)host.open_count++;
        return JACKFIELD_OK;
    }
    return failed(JACKFIELD_NO_SUCH_STORE, "");
}

void jackfield_kv_close(jackfield_bucket bucket) {
    (void)bucket;
}

static bucket *opened(jackfield_bucket handle) {
    if (handle.handle < 0 || (size_t)handle.handle >= host.open_count) stop("the bucket is not open in this event");
    return host.open_buckets[handle.handle];
}

static pair **find(bucket *b, jackfield_text key) {
    pair **link = &b->pairs;
    while (*link && compared((*link)->key, key) < 0) link = &(*link)->next;
    return link;
}

static pair *found_at(pair **link, jackfield_text key) {
    return *link && jackfield_text_equals((*link)->key, key) ? *link : NULL;
}

static jackfield_bytes event_bytes(jackfield_text value) {
    uint8_t *copy = jackfield_alloc(value.length + 1);
    if (value.length > 0) memcpy(copy, value.data, value.length);
    return (jackfield_bytes){copy, value.length};
}

static jackfield_error check_key(jackfield_text key) {
    return key.length <= KEY_BYTES_MAX ? JACKFIELD_OK : failed(JACKFIELD_KV_FAILED, "a key has at most 1024 bytes");
}

static jackfield_error check_value(size_t length) {
    return length <= VALUE_BYTES_MAX ? JACKFIELD_OK : failed(JACKFIELD_KV_FAILED, "a value has at most 409600 bytes");
}

// Writes a value, if the bucket has space for it. A write that adds neither keys nor bytes always fits.
static jackfield_error store_pair(bucket *b, jackfield_text key, jackfield_text value) {
    uint64_t bytes = 0, keys = 0;
    for (pair *p = b->pairs; p; p = p->next, keys++) bytes += p->key.length + p->value.length;
    pair **link = find(b, key), *before = found_at(link, key);
    uint64_t bytes_after = bytes - (before ? before->key.length + before->value.length : 0) + key.length + value.length;
    if ((!before && keys + 1 > b->keys_max) || (bytes_after > b->bytes_max && bytes_after > bytes)) {
        return failed(JACKFIELD_KV_FAILED, "the bucket is full");
    }
    if (before) {
        before->value = copied(value);
        return JACKFIELD_OK;
    }
    pair *made = allocate(sizeof(pair));
    *made = (pair){*link, copied(key), copied(value)};
    *link = made;
    return JACKFIELD_OK;
}

static void read_pair(bucket *b, jackfield_text key, bool *found, jackfield_bytes *value) {
    pair *p = found_at(find(b, key), key);
    *found = p != NULL;
    *value = p ? event_bytes(p->value) : (jackfield_bytes){NULL, 0};
}

static void remove_pair(bucket *b, jackfield_text key) {
    pair **link = find(b, key);
    if (found_at(link, key)) *link = (*link)->next;
}

jackfield_error jackfield_kv_get(jackfield_bucket handle, jackfield_text key, bool *found, jackfield_bytes *value) {
    check_parameters(key.length);
    *found = false;
    *value = (jackfield_bytes){NULL, 0};
    jackfield_error error = check_key(key);
    if (error == JACKFIELD_OK) read_pair(opened(handle), key, found, value);
    return error;
}

jackfield_error jackfield_kv_set(jackfield_bucket handle, jackfield_text key, jackfield_bytes value) {
    check_parameters(key.length + value.length);
    jackfield_error error = check_key(key);
    if (error == JACKFIELD_OK) error = check_value(value.length);
    if (error != JACKFIELD_OK) return error;
    return store_pair(opened(handle), key, (jackfield_text){(const char *)value.data, value.length});
}

jackfield_error jackfield_kv_delete(jackfield_bucket handle, jackfield_text key) {
    check_parameters(key.length);
    jackfield_error error = check_key(key);
    if (error == JACKFIELD_OK) remove_pair(opened(handle), key);
    return error;
}

jackfield_error jackfield_kv_exists(jackfield_bucket handle, jackfield_text key, bool *exists) {
    jackfield_bytes value;
    return jackfield_kv_get(handle, key, exists, &value);
}

// Reads an optional sign and decimal digits.
static bool read_number(jackfield_text text, int64_t *number) {
    size_t at = text.length > 0 && (text.data[0] == '-' || text.data[0] == '+');
    bool is_negative = at > 0 && text.data[0] == '-';
    uint64_t sum = 0, limit = is_negative ? (uint64_t)INT64_MAX + 1 : (uint64_t)INT64_MAX;
    if (at == text.length) return false;
    for (; at < text.length; at++) {
        if (text.data[at] < '0' || text.data[at] > '9') return false;
        uint64_t digit = (uint64_t)(text.data[at] - '0');
        if (sum > (limit - digit) / 10) return false;
        sum = sum * 10 + digit;
    }
    *number = is_negative ? (int64_t)(0 - sum) : (int64_t)sum;
    return true;
}

jackfield_error jackfield_kv_increment(jackfield_bucket handle, jackfield_text key, int64_t delta, int64_t *value) {
    check_parameters(key.length);
    jackfield_error error = check_key(key);
    if (error != JACKFIELD_OK) return error;
    bucket *b = opened(handle);
    pair *p = found_at(find(b, key), key);
    int64_t now = 0, sum;
    if (p && !read_number(p->value, &now)) return failed(JACKFIELD_KV_FAILED, "the value is not a decimal number");
    if (__builtin_add_overflow(now, delta, &sum)) return failed(JACKFIELD_KV_FAILED, "the sum is more than a number can be");
    char digits[24];
    snprintf(digits, sizeof(digits), "%lld", (long long)sum);
    error = store_pair(b, key, jackfield_text_from(digits));
    if (error == JACKFIELD_OK) *value = sum;
    return error;
}

jackfield_error jackfield_kv_list_keys(jackfield_bucket handle, const jackfield_text *cursor, jackfield_key_page *page) {
    check_parameters(optional_bytes(cursor));
    jackfield_text *keys = jackfield_alloc(PAGE_ITEMS * sizeof(jackfield_text));
    size_t count = 0;
    bool is_last = true;
    for (pair *p = opened(handle)->pairs; p; p = p->next) {
        if (cursor && compared(p->key, *cursor) <= 0) continue;
        if (count == PAGE_ITEMS) {
            is_last = false;
            break;
        }
        jackfield_bytes copy = event_bytes(p->key);
        keys[count++] = (jackfield_text){(const char *)copy.data, copy.length};
    }
    *page = (jackfield_key_page){{keys, count}, !is_last, is_last ? (jackfield_text){NULL, 0} : keys[count - 1]};
    return JACKFIELD_OK;
}

// Checks all keys before the first one is used, so that a batch with a bad key changes nothing.
static jackfield_error check_keys(jackfield_texts keys) {
    if (keys.count > BATCH_KEYS_MAX) return failed(JACKFIELD_KV_FAILED, "one call has at most 256 keys");
    for (size_t i = 0; i < keys.count; i++) {
        jackfield_error error = check_key(keys.items[i]);
        if (error != JACKFIELD_OK) return error;
    }
    return JACKFIELD_OK;
}

jackfield_error jackfield_kv_get_many(jackfield_bucket handle, jackfield_texts keys, const jackfield_entry **entries) {
    check_parameters(texts_bytes(keys));
    jackfield_error error = check_keys(keys);
    if (error != JACKFIELD_OK) return error;
    jackfield_entry *found = jackfield_alloc((keys.count + 1) * sizeof(jackfield_entry));
    size_t bytes = 0;
    for (size_t i = 0; i < keys.count; i++) {
        found[i].key = keys.items[i];
        read_pair(opened(handle), keys.items[i], &found[i].found, &found[i].value);
        bytes += found[i].value.length;
    }
    if (bytes > CALL_BYTES_MAX) return failed(JACKFIELD_KV_FAILED, "one call has at most 2 MiB of values");
    *entries = found;
    return JACKFIELD_OK;
}

jackfield_error jackfield_kv_set_many(jackfield_bucket handle, const jackfield_pair *pairs, size_t count) {
    size_t bytes = 0;
    for (size_t i = 0; i < count; i++) bytes += pairs[i].key.length + pairs[i].value.length + 2 * ELEMENT_BYTES;
    check_parameters(bytes);
    if (count > BATCH_KEYS_MAX) return failed(JACKFIELD_KV_FAILED, "one call has at most 256 keys");
    jackfield_error error = JACKFIELD_OK;
    for (size_t i = 0; i < count && error == JACKFIELD_OK; i++) error = check_key(pairs[i].key);
    for (size_t i = 0; i < count && error == JACKFIELD_OK; i++) error = check_value(pairs[i].value.length);
    for (size_t i = 0; i < count && error == JACKFIELD_OK; i++) {
        jackfield_text value = {(const char *)pairs[i].value.data, pairs[i].value.length};
        error = store_pair(opened(handle), pairs[i].key, value);
    }
    return error;
}

jackfield_error jackfield_kv_delete_many(jackfield_bucket handle, jackfield_texts keys) {
    check_parameters(texts_bytes(keys));
    jackfield_error error = check_keys(keys);
    for (size_t i = 0; i < keys.count && error == JACKFIELD_OK; i++) remove_pair(opened(handle), keys.items[i]);
    return error;
}

static cas *handle_of(jackfield_cas handle) {
    if (handle.handle < 0 || (size_t)handle.handle >= host.handle_count) stop("the handle is not open in this event");
    return &host.handles[handle.handle];
}

static void read_again(cas *c) {
    pair *p = found_at(find(c->bucket, c->key), c->key);
    c->found = p != NULL;
    c->seen = p ? p->value : (jackfield_text){NULL, 0};
}

jackfield_error jackfield_cas_new(jackfield_bucket handle, jackfield_text key, jackfield_cas *made) {
    check_parameters(key.length);
    jackfield_error error = check_key(key);
    if (error != JACKFIELD_OK) return error;
    if (host.handle_count == sizeof(host.handles) / sizeof(*host.handles)) stop("too many open handles");
    cas *c = &host.handles[host.handle_count];
    *c = (cas){.bucket = opened(handle), .key = copied(key)};
    read_again(c);
    made->handle = (int32_t)host.handle_count++;
    return JACKFIELD_OK;
}

jackfield_error jackfield_cas_current(jackfield_cas handle, bool *found, jackfield_bytes *value) {
    cas *c = handle_of(handle);
    read_again(c);
    *found = c->found;
    *value = c->found ? event_bytes(c->seen) : (jackfield_bytes){NULL, 0};
    return JACKFIELD_OK;
}

jackfield_error jackfield_cas_swap(jackfield_cas *handle, jackfield_bytes value) {
    check_parameters(value.length);
    cas *c = handle_of(*handle), seen = *c;
    jackfield_error error = check_value(value.length);
    if (error != JACKFIELD_OK) return error;
    read_again(c);
    if (c->found != seen.found || !jackfield_text_equals(c->seen, seen.seen)) return failed(JACKFIELD_CAS_FAILED, "");
    return store_pair(c->bucket, c->key, (jackfield_text){(const char *)value.data, value.length});
}

// ---- configuration, log, current connection ------------------------------------------------------------------------

jackfield_error jackfield_config_get(jackfield_text key, bool *found, jackfield_text *value) {
    *found = false;
    *value = (jackfield_text){NULL, 0};
    for (setting *s = host.settings; s; s = s->next) {
        if (!jackfield_text_equals(s->field.name, key)) continue;
        *found = true;
        *value = s->field.value;
    }
    return JACKFIELD_OK;
}

jackfield_error jackfield_config_get_all(jackfield_fields *fields) {
    size_t count = 0;
    for (setting *s = host.settings; s; s = s->next) count++;
    jackfield_field *list = jackfield_alloc((count + 1) * sizeof(jackfield_field));
    count = 0;
    for (setting *s = host.settings; s; s = s->next) list[count++] = s->field;
    *fields = (jackfield_fields){list, count};
    return JACKFIELD_OK;
}

void jackfield_log(jackfield_level level, jackfield_text line) {
    (void)level;
    log_line *made = allocate(sizeof(log_line));
    *made = (log_line){host.logs, copied(line)};
    host.logs = made;
}

jackfield_connection_context jackfield_current_connection(void) {
    if (!host.current) stop("no event is handled");
    return (jackfield_connection_context){.api_id = JACKFIELD_TEXT("test"),
                                          .stage = JACKFIELD_TEXT("test"),
                                          .domain_name = JACKFIELD_TEXT("localhost"),
                                          .identity = identity()};
}

jackfield_text jackfield_event_json(void) {
    stop("the test double has no event as JSON");
    return (jackfield_text){NULL, 0};
}

#endif
