// Values, responses, decisions and iterators: everything that is the same on a host and on the test double.
#include <string.h>

#include "internal.h"

jackfield_payload jackfield_text_payload(jackfield_text text) {
    return (jackfield_payload){false, text};
}

jackfield_payload jackfield_binary_payload(jackfield_bytes bytes) {
    return (jackfield_payload){true, {(const char *)bytes.data, bytes.length}};
}

jackfield_text jackfield_text_from(const char *string) {
    return (jackfield_text){string, strlen(string)};
}

bool jackfield_text_equals(jackfield_text a, jackfield_text b) {
    return a.length == b.length && (a.length == 0 || memcmp(a.data, b.data, a.length) == 0);
}

jackfield_text jackfield_join(const jackfield_text *parts, size_t count) {
    size_t length = 0;
    for (size_t i = 0; i < count; i++) length += parts[i].length;
    char *text = jackfield_arena_allocate(length, 1), *end = text;
    for (size_t i = 0; i < count; i++) {
        if (parts[i].length > 0) memcpy(end, parts[i].data, parts[i].length);
        end += parts[i].length;
    }
    return (jackfield_text){text, length};
}

const char *jackfield_error_name(jackfield_error error) {
    switch (error) {
    case JACKFIELD_OK: return "ok";
    case JACKFIELD_GONE: return "gone";
    case JACKFIELD_PAYLOAD_TOO_LARGE: return "payload-too-large";
    case JACKFIELD_LIMIT_EXCEEDED: return "limit-exceeded";
    case JACKFIELD_FORBIDDEN: return "forbidden";
    case JACKFIELD_NO_SUCH_CONNECTION: return "no-such-connection";
    case JACKFIELD_TOO_LARGE: return "too-large";
    case JACKFIELD_ACCESS_DENIED: return "access-denied";
    case JACKFIELD_UNAVAILABLE: return "unavailable";
    case JACKFIELD_NO_SUCH_STORE: return "no-such-store";
    case JACKFIELD_KV_FAILED: return "other";
    case JACKFIELD_CAS_FAILED: return "cas-failed";
    case JACKFIELD_CONFIG_FAILED: return "error";
    }
    return "unknown";
}

// ---- events --------------------------------------------------------------------------------------------------------

const jackfield_text *jackfield_value(jackfield_fields fields, const char *name) {
    jackfield_text wanted = jackfield_text_from(name);
    for (size_t i = 0; i < fields.count; i++) {
        if (jackfield_text_equals(fields.items[i].name, wanted)) return &fields.items[i].value;
    }
    return NULL;
}

const jackfield_text *jackfield_query(const jackfield_connect *request, const char *name) {
    return jackfield_value(request->query, name);
}

static char lower(char c) {
    return c >= 'A' && c <= 'Z' ? (char)(c + ('a' - 'A')) : c;
}

const jackfield_text *jackfield_header(const jackfield_connect *request, const char *name) {
    size_t length = strlen(name);
    for (size_t i = 0; i < request->headers.count; i++) {
        jackfield_text found = request->headers.items[i].name;
        size_t equal = 0;
        while (found.length == length && equal < length && lower(found.data[equal]) == lower(name[equal])) equal++;
        if (found.length == length && equal == length) return &request->headers.items[i].value;
    }
    return NULL;
}

jackfield_response jackfield_status(uint16_t status) {
    return (jackfield_response){.status = status};
}

jackfield_response jackfield_ok(void) {
    return jackfield_status(200);
}

jackfield_response jackfield_reply(jackfield_payload body) {
    return (jackfield_response){.status = 200, .has_body = true, .body = body};
}

jackfield_response jackfield_reply_text(jackfield_text text) {
    return jackfield_reply(jackfield_text_payload(text));
}

jackfield_response jackfield_fail(jackfield_text reason) {
    return (jackfield_response){.failed = true, .failure = reason};
}

jackfield_response jackfield_fail_with(jackfield_error error) {
    jackfield_text name = jackfield_text_from(jackfield_error_name(error)), detail = jackfield_error_detail();
    if (detail.length == 0) return jackfield_fail(name);
    jackfield_text parts[] = {name, JACKFIELD_TEXT(": "), detail};
    return jackfield_fail(jackfield_join(parts, 3));
}

jackfield_response jackfield_dispatch(const jackfield_route *routes, size_t count, const jackfield_context *context,
                                      const jackfield_message *message) {
    for (size_t i = 0; i < count; i++) {
        if (jackfield_text_equals(context->route_key, jackfield_text_from(routes[i].route_key))) {
            return routes[i].function(context, message);
        }
    }
    jackfield_text parts[] = {JACKFIELD_TEXT("the manifest sends the route "), context->route_key,
                              JACKFIELD_TEXT(" to this plugin, which has no function for it")};
    return jackfield_fail(jackfield_join(parts, 3));
}

// ---- authorizers ---------------------------------------------------------------------------------------------------

jackfield_decision jackfield_allow(jackfield_text principal_id, jackfield_fields context) {
    return (jackfield_decision){.kind = JACKFIELD_ALLOW, .principal_id = principal_id, .context = context};
}

jackfield_decision jackfield_deny(void) {
    return (jackfield_decision){.kind = JACKFIELD_DENY};
}

jackfield_decision jackfield_unauthorized(void) {
    return (jackfield_decision){.kind = JACKFIELD_UNAUTHORIZED};
}

jackfield_decision jackfield_authorizer_fail(jackfield_text reason) {
    return (jackfield_decision){.kind = JACKFIELD_AUTHORIZER_FAILED, .failure = reason};
}

// ---- pages ---------------------------------------------------------------------------------------------------------

jackfield_rows jackfield_rows_with(jackfield_text name, jackfield_text value) {
    return (jackfield_rows){.is_query = true, .name = name, .value = value};
}

jackfield_rows jackfield_all_rows(void) {
    return (jackfield_rows){.is_query = false};
}

bool jackfield_rows_next(jackfield_rows *rows) {
    while (rows->error == JACKFIELD_OK) {
        if (rows->next < rows->page.count) {
            rows->row = &rows->page.rows[rows->next++];
            return true;
        }
        if (rows->has_started && !rows->page.has_cursor) break;
        jackfield_text last = rows->page.cursor;
        const jackfield_text *cursor = rows->has_started ? &last : NULL;
        rows->has_started = true;
        rows->next = 0;
        rows->error = rows->is_query ? jackfield_store_query(rows->name, rows->value, cursor, &rows->page)
                                     : jackfield_store_scan(cursor, &rows->page);
    }
    rows->row = NULL;
    return false;
}

jackfield_keys jackfield_all_keys(jackfield_bucket bucket) {
    return (jackfield_keys){.bucket = bucket};
}

bool jackfield_keys_next(jackfield_keys *keys) {
    while (keys->error == JACKFIELD_OK) {
        if (keys->next < keys->page.keys.count) {
            keys->key = keys->page.keys.items[keys->next++];
            return true;
        }
        if (keys->has_started && !keys->page.has_cursor) break;
        jackfield_text last = keys->page.cursor;
        const jackfield_text *cursor = keys->has_started ? &last : NULL;
        keys->has_started = true;
        keys->next = 0;
        keys->error = jackfield_kv_list_keys(keys->bucket, cursor, &keys->page);
    }
    keys->key = (jackfield_text){NULL, 0};
    return false;
}
