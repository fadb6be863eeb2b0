// Connections and their rows, for the test double.
#ifndef __wasm__

#include "double.h"

static jackfield_error queue(connection *c, jackfield_payload payload) {
    if (!c || c->state != OPEN) return failed(JACKFIELD_GONE, "");
    post *made = jackfield_double_allocate(sizeof(post)), **link = &c->posts;
    *made = (post){NULL, {payload.is_binary, copied(payload.content)}};
    while (*link) link = &(*link)->next;
    *link = made;
    c->last_active_at = jackfield_double.now;
    return JACKFIELD_OK;
}

jackfield_error jackfield_post_to_connection(jackfield_text id, jackfield_payload payload) {
    check_parameters(id.length + payload.content.length);
    if (payload.content.length > MESSAGE_BYTES_MAX) return failed(JACKFIELD_PAYLOAD_TOO_LARGE, "");
    return queue(jackfield_double_connection(id), payload);
}

void jackfield_post_to_connections(jackfield_texts ids, jackfield_payload payload, jackfield_error *results) {
    check_parameters(texts_bytes(ids) + payload.content.length);
    for (size_t i = 0; i < ids.count; i++) {
        bool fits = payload.content.length <= MESSAGE_BYTES_MAX;
        results[i] = fits ? queue(jackfield_double_connection(ids.items[i]), payload)
                          : failed(JACKFIELD_PAYLOAD_TOO_LARGE, "");
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
    for (connection *c = jackfield_double.connections; c; c = c->next) {
        bool is_other = !except || !jackfield_text_equals(c->id, *except);
        if (c->has_row && is_other && has_attribute(c, name, value)) count += queue(c, payload) == JACKFIELD_OK;
    }
    if (posted) *posted = count;
    return JACKFIELD_OK;
}

jackfield_error jackfield_get_connection(jackfield_text id, jackfield_connection_info *info) {
    check_parameters(id.length);
    connection *c = jackfield_double_connection(id);
    if (!c || c->state != OPEN) return failed(JACKFIELD_GONE, "");
    *info = (jackfield_connection_info){c->connected_at, c->last_active_at, identity()};
    return JACKFIELD_OK;
}

jackfield_error jackfield_delete_connection(jackfield_text id, const jackfield_close_frame *frame) {
    jackfield_close_frame given = frame ? *frame : (jackfield_close_frame){1000, {NULL, 0}};
    check_parameters(id.length + given.reason.length);
    bool can_be_sent = (given.code >= 1000 && given.code <= 1003) || (given.code >= 1007 && given.code <= 1014) ||
                       (given.code >= 3000 && given.code <= 4999);
    if (!can_be_sent) stop("this close code cannot be sent");
    if (given.reason.length > CLOSE_REASON_BYTES_MAX) stop("a close reason has at most 123 bytes");
    connection *c = jackfield_double_connection(id);
    if (!c || c->state != OPEN) return failed(JACKFIELD_GONE, "");
    c->state = CLOSED;
    c->awaits_disconnect = true;
    c->frame = (jackfield_close_frame){given.code, copied(given.reason)};
    return JACKFIELD_OK;
}

// ---- connection store ----------------------------------------------------------------------------------------------

static connection *row_with(jackfield_text id) {
    connection *c = jackfield_double_connection(id);
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
        bool is_removed =
            jackfield_text_equals(field.name, name) && (!value || jackfield_text_equals(field.value, *value));
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
    for (connection *c = jackfield_double.connections; c; c = c->next) {
        if (!c->has_row || (cursor && compared(c->id, *cursor) <= 0)) continue;
        if (attribute && !has_attribute(c, attribute->name, attribute->value)) continue;
        // A page of rows ends when its attributes have as many bytes as a value may have.
        if (count == PAGE_ITEMS || bytes >= VALUE_BYTES_MAX) {
            is_last = false;
            break;
        }
        for (size_t i = 0; i < c->attribute_count; i++) {
            bytes += c->attributes[i].name.length + c->attributes[i].value.length;
        }
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

#endif
