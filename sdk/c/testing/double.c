// The test double of jackfield_testing.h: the functions of the host for tests that run on this machine. Connections and
// their rows are in connections.c, and buckets in buckets.c.
#ifndef __wasm__

#include "double.h"

struct jackfield_double jackfield_double;

// ---- values that outlive an event ----------------------------------------------------------------------------------

// All memory of a test, which jackfield_test_reset frees.
typedef struct block {
    struct block *before;
    _Alignas(16) char data[];
} block;

static block *blocks;

void *jackfield_double_allocate(size_t bytes) {
    block *made = malloc(sizeof(block) + bytes);
    if (!made) abort();
    made->before = blocks;
    blocks = made;
    return made->data;
}

connection *jackfield_double_connection(jackfield_text id) {
    for (connection *c = jackfield_double.connections; c; c = c->next) {
        if (jackfield_text_equals(c->id, id)) return c;
    }
    return NULL;
}

static connection *connection_of(const char *peer) {
    jackfield_text name = jackfield_text_from(peer);
    connection *found = NULL;
    for (connection *c = jackfield_double.connections; c; c = c->next) {
        if (jackfield_text_equals(c->peer, name)) found = c;
    }
    if (!found) {
        fprintf(stderr, "there is no peer %s\n", peer);
        abort();
    }
    return found;
}

jackfield_text jackfield_error_detail(void) {
    return jackfield_double.detail;
}

// ---- tests ---------------------------------------------------------------------------------------------------------

void jackfield_test_reset(void) {
    while (blocks) {
        block *before = blocks->before;
        free(blocks);
        blocks = before;
    }
    memset(&jackfield_double, 0, sizeof(jackfield_double));
    jackfield_double.now = 1700000000000;
    jackfield_arena_reset();
}

static jackfield_text next_id(void) {
    char id[CONNECTION_ID_BYTES + 1];
    snprintf(id, sizeof(id), "%015u=", ++jackfield_double.ids_issued);
    return copied(jackfield_text_from(id));
}

void jackfield_test_add_bucket_with(const char *name, uint64_t bytes, uint64_t keys) {
    bucket *made = jackfield_double_allocate(sizeof(bucket));
    *made = (bucket){jackfield_double.buckets, copied(jackfield_text_from(name)), bytes, keys, NULL};
    jackfield_double.buckets = made;
}

void jackfield_test_add_bucket(const char *name) {
    jackfield_test_add_bucket_with(name, BUCKET_BYTES, BUCKET_KEYS);
}

void jackfield_test_set_config(const char *key, const char *value) {
    setting *made = jackfield_double_allocate(sizeof(setting));
    jackfield_field field = {copied(jackfield_text_from(key)), copied(jackfield_text_from(value))};
    setting **link = &jackfield_double.settings;
    while (*link && compared((*link)->field.name, field.name) < 0) link = &(*link)->next;
    if (*link && jackfield_text_equals((*link)->field.name, field.name)) {
        (*link)->field = field;
        return;
    }
    *made = (setting){*link, field};
    *link = made;
}

void jackfield_test_advance(uint64_t milliseconds) {
    jackfield_double.now += milliseconds;
}

static jackfield_context context_of(connection *c, const char *route_key) {
    return (jackfield_context){c->id, jackfield_text_from(route_key), next_id(), jackfield_double.now, c->connected_at};
}

static jackfield_response checked(jackfield_response response) {
    jackfield_double.current = NULL;
    jackfield_double.open_count = 0;
    jackfield_double.handle_count = 0;
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
    jackfield_double.current = c;
    jackfield_response response = checked(jackfield_on_disconnect(&context, &event));
    c->has_row = false;
    return response;
}

// Runs `$disconnect` of the connections that a handler has deleted. As on a host, it runs after that handler.
static void disconnect_deleted(void) {
    for (connection *c = jackfield_double.connections; c;) {
        bool is_next = c->awaits_disconnect;
        if (is_next) disconnect(c);
        c = is_next ? jackfield_double.connections : c->next;
    }
}

static int hex_digit(char c) {
    return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

static jackfield_text decoded(const char *from, size_t length) {
    char *text = jackfield_double_allocate(length + 1), *out = text;
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
    jackfield_field *fields = jackfield_double_allocate(capacity * sizeof(jackfield_field));
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
    connection *made = jackfield_double_allocate(sizeof(connection)), **link = &jackfield_double.connections;
    *made = (connection){.peer = copied(jackfield_text_from(peer)), .id = next_id(), .state = CONNECTING,
                         .connected_at = jackfield_double.now, .last_active_at = jackfield_double.now, .has_row = true};
    while (*link) link = &(*link)->next;
    *link = made;
    jackfield_context context = context_of(made, "$connect");
    jackfield_connect request = {{NULL, 0}, query_fields(query)};
    jackfield_double.current = made;
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
    c->last_active_at = jackfield_double.now;
    jackfield_context context = context_of(c, route_key);
    jackfield_message message = {next_id(), payload};
    jackfield_double.current = c;
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
    for (log_line *line = jackfield_double.logs; line; line = line->next) {
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

// ---- configuration, log, current connection ------------------------------------------------------------------------

jackfield_error jackfield_config_get(jackfield_text key, bool *found, jackfield_text *value) {
    *found = false;
    *value = (jackfield_text){NULL, 0};
    for (setting *s = jackfield_double.settings; s; s = s->next) {
        if (!jackfield_text_equals(s->field.name, key)) continue;
        *found = true;
        *value = s->field.value;
    }
    return JACKFIELD_OK;
}

jackfield_error jackfield_config_get_all(jackfield_fields *fields) {
    size_t count = 0;
    for (setting *s = jackfield_double.settings; s; s = s->next) count++;
    jackfield_field *list = jackfield_alloc((count + 1) * sizeof(jackfield_field));
    count = 0;
    for (setting *s = jackfield_double.settings; s; s = s->next) list[count++] = s->field;
    *fields = (jackfield_fields){list, count};
    return JACKFIELD_OK;
}

void jackfield_log(jackfield_level level, jackfield_text line) {
    (void)level;
    log_line *made = jackfield_double_allocate(sizeof(log_line));
    *made = (log_line){jackfield_double.logs, copied(line)};
    jackfield_double.logs = made;
}

jackfield_connection_context jackfield_current_connection(void) {
    if (!jackfield_double.current) stop("no event is handled");
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
