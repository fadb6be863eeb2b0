// The handler of the conformance cases (sdk/conformance): each event makes the calls that came with it, and keeps or
// returns their results.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <jackfield.h>
#include <jackfield_json.h>

// The bucket in which the handler keeps results, and calls for later events. No case uses it.
#define BUCKET JACKFIELD_TEXT("conformance")
// What every reply begins with, so that a runner can distinguish it from what was posted.
#define REPLY_PREFIX "reply "
// Longest text in a result; a longer one is replaced by its length.
#define TEXT_BYTES_MAX 256

typedef jackfield_json value;

// ---- values --------------------------------------------------------------------------------------------------------

// A list or an object that is being made.
typedef struct builder {
    value *parent;
    value *last;
} builder;

static value *new_value(jackfield_json_type type) {
    value *made = jackfield_alloc(sizeof(value));
    *made = (value){.type = type};
    return made;
}

static value *text_value(jackfield_text text) {
    value *made = new_value(JACKFIELD_JSON_STRING);
    made->text = text;
    return made;
}

static value *string_value(const char *string) {
    return text_value(jackfield_text_from(string));
}

static value *boolean_value(bool boolean) {
    value *made = new_value(JACKFIELD_JSON_BOOLEAN);
    made->boolean = boolean;
    return made;
}

static value *number_value(int64_t number) {
    value *made = new_value(JACKFIELD_JSON_NUMBER);
    made->text = jackfield_format("%lld", (long long)number);
    return made;
}

static value *null_value(void) {
    return new_value(JACKFIELD_JSON_NULL);
}

static builder build(jackfield_json_type type) {
    return (builder){new_value(type), NULL};
}

static void add(builder *to, jackfield_text name, const value *item) {
    value *copy = jackfield_alloc(sizeof(value));
    *copy = item ? *item : (value){.type = JACKFIELD_JSON_NULL};
    copy->name = name;
    copy->next = NULL;
    if (to->last) {
        to->last->next = copy;
    } else {
        to->parent->first = copy;
    }
    to->last = copy;
    to->parent->count++;
}

static void add_item(builder *to, const value *item) {
    add(to, (jackfield_text){NULL, 0}, item);
}

static void add_member(builder *to, const char *name, const value *item) {
    add(to, jackfield_text_from(name), item);
}

static value *ok_value(const value *content) {
    builder made = build(JACKFIELD_JSON_OBJECT);
    add_member(&made, "ok", content);
    return made.parent;
}

static void panic(const char *message, jackfield_text about) {
    fprintf(stderr, "%s: %.*s\n", message, (int)about.length, about.data);
    abort();
}

static jackfield_text text_of(const value *call, const char *name) {
    jackfield_text text;
    if (!jackfield_json_string(jackfield_json_get(call, name), &text)) panic("no text", jackfield_text_from(name));
    return text;
}

// The text of a member; NULL if there is none.
static const jackfield_text *optional(const value *call, const char *name) {
    const value *found = jackfield_json_get(call, name);
    return found && found->type == JACKFIELD_JSON_STRING ? &found->text : NULL;
}

static jackfield_text or_empty(const jackfield_text *text) {
    return text ? *text : JACKFIELD_TEXT("");
}

static int64_t number_of(const value *call, const char *name) {
    int64_t number;
    if (!jackfield_json_integer(jackfield_json_get(call, name), &number)) panic("no number", jackfield_text_from(name));
    return number;
}

static jackfield_texts texts_of(const value *list) {
    jackfield_text *texts = jackfield_alloc((list->count + 1) * sizeof(jackfield_text));
    size_t count = 0;
    for (const value *item = list->first; item; item = item->next) texts[count++] = item->text;
    return (jackfield_texts){texts, count};
}

static int digit_of(char c) {
    return c >= 'a' ? c - 'a' + 10 : c - '0';
}

// Bytes as a case has them: a text, or {"hex": DIGITS}.
static jackfield_bytes bytes_of(const value *from) {
    if (from && from->type == JACKFIELD_JSON_STRING) {
        return (jackfield_bytes){(const uint8_t *)from->text.data, from->text.length};
    }
    jackfield_text hex = text_of(from, "hex");
    uint8_t *bytes = jackfield_alloc(hex.length / 2 + 1);
    for (size_t i = 0; i < hex.length / 2; i++) {
        bytes[i] = (uint8_t)(digit_of(hex.data[2 * i]) << 4 | digit_of(hex.data[2 * i + 1]));
    }
    return (jackfield_bytes){bytes, hex.length / 2};
}

static jackfield_text hex_of(jackfield_bytes bytes) {
    char *digits = jackfield_alloc(2 * bytes.length + 1);
    for (size_t i = 0; i < bytes.length; i++) {
        digits[2 * i] = "0123456789abcdef"[bytes.data[i] >> 4];
        digits[2 * i + 1] = "0123456789abcdef"[bytes.data[i] & 15];
    }
    return (jackfield_text){digits, 2 * bytes.length};
}

static value *length_value(size_t length) {
    builder made = build(JACKFIELD_JSON_OBJECT);
    add_member(&made, "length", number_value((int64_t)length));
    return made.parent;
}

// Bytes as they are in a result: a text if they are UTF-8, else {"hex": DIGITS}.
static value *bytes_value(jackfield_bytes bytes) {
    if (jackfield_is_utf8(bytes)) return text_value((jackfield_text){(const char *)bytes.data, bytes.length});
    if (bytes.length > TEXT_BYTES_MAX) return length_value(bytes.length);
    builder made = build(JACKFIELD_JSON_OBJECT);
    add_member(&made, "hex", text_value(hex_of(bytes)));
    return made.parent;
}

static jackfield_payload payload_of(const value *call) {
    const value *data = jackfield_json_get(call, "data");
    if (data && data->type == JACKFIELD_JSON_STRING) return jackfield_text_payload(data->text);
    return jackfield_binary_payload(bytes_of(data));
}

// How texts are replaced in a value.
typedef struct replacement {
    // `{n}` by a number of this many digits, if there are any.
    int digits;
    size_t number;
    // `@self` and `@cursor`, if `own_id` is a text.
    jackfield_text own_id;
    const jackfield_text *cursor;
} replacement;

static jackfield_text replaced(jackfield_text text, const replacement *by) {
    if (by->own_id.data) {
        if (jackfield_text_equals(text, JACKFIELD_TEXT("@self"))) return by->own_id;
        if (jackfield_text_equals(text, JACKFIELD_TEXT("@cursor"))) {
            if (!by->cursor) panic("the last page had no cursor", text);
            return *by->cursor;
        }
        return text;
    }
    for (size_t i = 0; i + 3 <= text.length; i++) {
        if (memcmp(text.data + i, "{n}", 3) != 0) continue;
        jackfield_text rest = replaced((jackfield_text){text.data + i + 3, text.length - i - 3}, by);
        return jackfield_format("%.*s%0*zu%.*s", (int)i, text.data, by->digits, by->number, (int)rest.length, rest.data);
    }
    return text;
}

static value *map_texts(const value *from, const replacement *by) {
    value *made = new_value(from->type);
    *made = *from;
    if (from->type == JACKFIELD_JSON_STRING) made->text = replaced(from->text, by);
    if (!from->first) return made;
    builder items = {made, NULL};
    made->first = NULL;
    made->count = 0;
    for (const value *item = from->first; item; item = item->next) add(&items, item->name, map_texts(item, by));
    return made;
}

// Writes out {"repeat": TEXT, "times": N} and {"list": ITEM, "times": N}, wherever they are in a value.
static const value *expand(const value *from) {
    if (from->type != JACKFIELD_JSON_ARRAY && from->type != JACKFIELD_JSON_OBJECT) return from;
    const value *times = jackfield_json_get(from, "times"), *list = jackfield_json_get(from, "list");
    const jackfield_text *repeated = optional(from, "repeat");
    if (times && repeated) {
        size_t count = (size_t)number_of(from, "times");
        char *text = jackfield_alloc(count * repeated->length + 1);
        for (size_t i = 0; i < count; i++) memcpy(text + i * repeated->length, repeated->data, repeated->length);
        return text_value((jackfield_text){text, count * repeated->length});
    }
    builder made = build(times && list ? JACKFIELD_JSON_ARRAY : from->type);
    if (times && list) {
        size_t count = (size_t)number_of(from, "times");
        int digits = (int)jackfield_format("%zu", count > 0 ? count - 1 : 0).length;
        for (size_t i = 0; i < count; i++) {
            add_item(&made, expand(map_texts(list, &(replacement){.digits = digits, .number = i})));
        }
        return made.parent;
    }
    for (const value *item = from->first; item; item = item->next) add(&made, item->name, expand(item));
    return made.parent;
}

// Replaces each long text by {"length": BYTES}.
static const value *shortened(const value *from) {
    if (from->type == JACKFIELD_JSON_STRING && from->text.length > TEXT_BYTES_MAX) return length_value(from->text.length);
    if (from->type != JACKFIELD_JSON_ARRAY && from->type != JACKFIELD_JSON_OBJECT) return from;
    builder made = build(from->type);
    for (const value *item = from->first; item; item = item->next) add(&made, item->name, shortened(item));
    return made.parent;
}

static jackfield_text written(const value *from) {
    jackfield_json_writer writer = {0};
    jackfield_json_add_value(&writer, from);
    return jackfield_json_written(&writer);
}

// ---- calls ---------------------------------------------------------------------------------------------------------

// What calls of one event share.
typedef struct state {
    jackfield_text own_id;
    bool has_cursor;
    jackfield_text cursor;
    jackfield_cas cas;
    // The failure of the call `language.throw`.
    const jackfield_text *failure;
} state;

static value *result(jackfield_error error) {
    return string_value(jackfield_error_name(error));
}

static value *result_with(jackfield_error error, const value *content) {
    return error == JACKFIELD_OK ? ok_value(content) : result(error);
}

static value *field_list(jackfield_fields fields) {
    builder made = build(JACKFIELD_JSON_ARRAY);
    for (size_t i = 0; i < fields.count; i++) {
        builder pair = build(JACKFIELD_JSON_ARRAY);
        add_item(&pair, text_value(fields.items[i].name));
        add_item(&pair, text_value(fields.items[i].value));
        add_item(&made, pair.parent);
    }
    return made.parent;
}

static value *agent_value(const jackfield_identity *identity) {
    return identity->has_user_agent ? text_value(identity->user_agent) : null_value();
}

static value *connections_call(const char *name, const value *call) {
    if (strcmp(name, "post-to-connection") == 0) {
        return result(jackfield_post_to_connection(text_of(call, "id"), payload_of(call)));
    }
    if (strcmp(name, "post-to-connections") == 0) {
        jackfield_texts ids = texts_of(jackfield_json_get(call, "ids"));
        jackfield_error *results = jackfield_alloc((ids.count + 1) * sizeof(jackfield_error));
        jackfield_post_to_connections(ids, payload_of(call), results);
        builder made = build(JACKFIELD_JSON_ARRAY);
        for (size_t i = 0; i < ids.count; i++) add_item(&made, result(results[i]));
        return made.parent;
    }
    if (strcmp(name, "post-to-matching") == 0) {
        uint32_t posted;
        jackfield_error error = jackfield_post_to_matching(text_of(call, "name"), text_of(call, "value"),
                                                           payload_of(call), optional(call, "except"), &posted);
        return result_with(error, number_value(posted));
    }
    if (strcmp(name, "get-connection") == 0) {
        jackfield_connection_info info = {0};
        jackfield_error error = jackfield_get_connection(text_of(call, "id"), &info);
        if (error != JACKFIELD_OK) return result(error);
        builder made = build(JACKFIELD_JSON_OBJECT);
        add_member(&made, "source-ip", text_value(info.identity.source_ip));
        add_member(&made, "user-agent", agent_value(&info.identity));
        add_member(&made, "was-active-later", boolean_value(info.last_active_at > info.connected_at));
        return ok_value(made.parent);
    }
    if (strcmp(name, "delete-connection") == 0) {
        if (!jackfield_json_get(call, "code")) return result(jackfield_delete_connection(text_of(call, "id"), NULL));
        jackfield_close_frame frame = {(uint16_t)number_of(call, "code"), or_empty(optional(call, "reason"))};
        return result(jackfield_delete_connection(text_of(call, "id"), &frame));
    }
    return NULL;
}

static value *row_value(const jackfield_row *row) {
    builder made = build(JACKFIELD_JSON_OBJECT);
    add_member(&made, "connection-id", text_value(row->connection_id));
    add_member(&made, "attributes", field_list(row->attributes));
    return made.parent;
}

static void keep_cursor(state *state, bool has_cursor, jackfield_text cursor) {
    state->has_cursor = has_cursor;
    state->cursor = cursor;
}

static value *page_value(jackfield_error error, const jackfield_page *page, state *state) {
    if (error != JACKFIELD_OK) return result(error);
    builder rows = build(JACKFIELD_JSON_ARRAY), made = build(JACKFIELD_JSON_OBJECT);
    for (size_t i = 0; i < page->count; i++) add_item(&rows, row_value(&page->rows[i]));
    keep_cursor(state, page->has_cursor, page->cursor);
    add_member(&made, "rows", rows.parent);
    add_member(&made, "cursor", boolean_value(page->has_cursor));
    return ok_value(made.parent);
}

static int compared(jackfield_text a, jackfield_text b) {
    int order = memcmp(a.data, b.data, a.length < b.length ? a.length : b.length);
    return order ? order : (a.length > b.length) - (a.length < b.length);
}

// The lengths of all pages, and whether their items are sorted and none is there twice.
typedef struct pages {
    builder lengths;
    bool has_last;
    jackfield_text last;
    bool is_sorted;
} pages;

static void add_to_pages(pages *pages, jackfield_text item) {
    if (pages->has_last && compared(pages->last, item) >= 0) pages->is_sorted = false;
    pages->has_last = true;
    pages->last = item;
}

static value *pages_value(const pages *pages) {
    builder made = build(JACKFIELD_JSON_OBJECT);
    add_member(&made, "pages", pages->lengths.parent);
    add_member(&made, "sorted", boolean_value(pages->is_sorted));
    return made.parent;
}

static value *row_pages(const value *call, bool is_query) {
    pages pages = {.lengths = build(JACKFIELD_JSON_ARRAY), .is_sorted = true};
    jackfield_page page = {0};
    do {
        jackfield_text last = page.cursor;
        const jackfield_text *cursor = page.has_cursor ? &last : NULL;
        jackfield_error error = is_query ? jackfield_store_query(text_of(call, "name"), text_of(call, "value"), cursor, &page)
                                         : jackfield_store_scan(cursor, &page);
        if (error != JACKFIELD_OK) panic("a page", jackfield_text_from(jackfield_error_name(error)));
        add_item(&pages.lengths, number_value((int64_t)page.count));
        for (size_t i = 0; i < page.count; i++) add_to_pages(&pages, page.rows[i].connection_id);
    } while (page.has_cursor);
    return pages_value(&pages);
}

static value *store_call(const char *name, const value *call, state *state) {
    if (strcmp(name, "get") == 0) {
        jackfield_row row = {0};
        jackfield_error error = jackfield_store_get(text_of(call, "id"), &row);
        return error == JACKFIELD_OK ? ok_value(row_value(&row)) : result(error);
    }
    if (strcmp(name, "put") == 0) {
        const value *list = jackfield_json_get(call, "attributes");
        jackfield_field *fields = jackfield_alloc((list->count + 1) * sizeof(jackfield_field));
        size_t count = 0;
        for (const value *pair = list->first; pair; pair = pair->next) {
            fields[count++] = (jackfield_field){pair->first->text, pair->first->next->text};
        }
        return result(jackfield_store_put(text_of(call, "id"), (jackfield_fields){fields, count}));
    }
    if (strcmp(name, "add") == 0) {
        return result(jackfield_store_add(text_of(call, "id"), text_of(call, "name"), text_of(call, "value")));
    }
    if (strcmp(name, "remove") == 0) {
        return result(jackfield_store_remove(text_of(call, "id"), text_of(call, "name"), optional(call, "value")));
    }
    jackfield_page page = {0};
    if (strcmp(name, "query") == 0) {
        jackfield_error error =
            jackfield_store_query(text_of(call, "name"), text_of(call, "value"), optional(call, "cursor"), &page);
        return page_value(error, &page, state);
    }
    if (strcmp(name, "scan") == 0) return page_value(jackfield_store_scan(optional(call, "cursor"), &page), &page, state);
    if (strcmp(name, "query-pages") == 0) return row_pages(call, true);
    if (strcmp(name, "scan-pages") == 0) return row_pages(call, false);
    return NULL;
}

static value *optional_bytes(jackfield_error error, bool found, jackfield_bytes bytes) {
    return error != JACKFIELD_OK ? result(error) : ok_value(found ? bytes_value(bytes) : null_value());
}

static value *key_list(const jackfield_key_page *page) {
    builder made = build(JACKFIELD_JSON_ARRAY);
    for (size_t i = 0; i < page->keys.count; i++) add_item(&made, text_value(page->keys.items[i]));
    return made.parent;
}

static value *key_pages(jackfield_bucket bucket) {
    pages pages = {.lengths = build(JACKFIELD_JSON_ARRAY), .is_sorted = true};
    jackfield_key_page page = {0};
    do {
        jackfield_text last = page.cursor;
        jackfield_error error = jackfield_kv_list_keys(bucket, page.has_cursor ? &last : NULL, &page);
        if (error != JACKFIELD_OK) panic("a page", jackfield_text_from(jackfield_error_name(error)));
        add_item(&pages.lengths, number_value((int64_t)page.keys.count));
        for (size_t i = 0; i < page.keys.count; i++) add_to_pages(&pages, page.keys.items[i]);
    } while (page.has_cursor);
    return pages_value(&pages);
}

static value *cas_call(const char *name, const value *call, jackfield_bucket bucket, state *state) {
    if (strcmp(name, "cas.new") == 0) return result(jackfield_cas_new(bucket, text_of(call, "key"), &state->cas));
    if (strcmp(name, "cas.current") == 0) {
        bool found;
        jackfield_bytes bytes;
        jackfield_error error = jackfield_cas_current(state->cas, &found, &bytes);
        return optional_bytes(error, found, bytes);
    }
    return result(jackfield_cas_swap(&state->cas, bytes_of(jackfield_json_get(call, "value"))));
}

static value *keyvalue_call(const char *name, const value *call, state *state) {
    jackfield_bucket bucket;
    jackfield_error error = jackfield_kv_open(text_of(call, "bucket"), &bucket);
    if (error != JACKFIELD_OK) return result(error);
    if (strncmp(name, "cas.", 4) == 0) return cas_call(name, call, bucket, state);
    jackfield_text key = or_empty(optional(call, "key"));
    if (strcmp(name, "open") == 0) return result(JACKFIELD_OK);
    if (strcmp(name, "get") == 0) {
        bool found;
        jackfield_bytes bytes;
        error = jackfield_kv_get(bucket, key, &found, &bytes);
        return optional_bytes(error, found, bytes);
    }
    if (strcmp(name, "set") == 0) return result(jackfield_kv_set(bucket, key, bytes_of(jackfield_json_get(call, "value"))));
    if (strcmp(name, "delete") == 0) return result(jackfield_kv_delete(bucket, key));
    if (strcmp(name, "exists") == 0) {
        bool exists = false;
        error = jackfield_kv_exists(bucket, key, &exists);
        return result_with(error, boolean_value(exists));
    }
    if (strcmp(name, "increment") == 0) {
        int64_t sum = 0;
        error = jackfield_kv_increment(bucket, key, number_of(call, "delta"), &sum);
        return result_with(error, number_value(sum));
    }
    if (strcmp(name, "list-keys") == 0) {
        jackfield_key_page page = {0};
        error = jackfield_kv_list_keys(bucket, optional(call, "cursor"), &page);
        if (error != JACKFIELD_OK) return result(error);
        keep_cursor(state, page.has_cursor, page.cursor);
        builder made = build(JACKFIELD_JSON_OBJECT);
        add_member(&made, "keys", key_list(&page));
        add_member(&made, "cursor", boolean_value(page.has_cursor));
        return ok_value(made.parent);
    }
    if (strcmp(name, "key-pages") == 0) return key_pages(bucket);
    if (strcmp(name, "get-many") == 0) {
        jackfield_texts keys = texts_of(jackfield_json_get(call, "keys"));
        const jackfield_entry *entries;
        error = jackfield_kv_get_many(bucket, keys, &entries);
        if (error != JACKFIELD_OK) return result(error);
        builder made = build(JACKFIELD_JSON_ARRAY);
        for (size_t i = 0; i < keys.count; i++) {
            builder pair = build(JACKFIELD_JSON_ARRAY);
            if (entries[i].found) {
                add_item(&pair, text_value(entries[i].key));
                add_item(&pair, bytes_value(entries[i].value));
            }
            add_item(&made, entries[i].found ? pair.parent : null_value());
        }
        return ok_value(made.parent);
    }
    if (strcmp(name, "set-many") == 0) {
        const value *list = jackfield_json_get(call, "pairs");
        jackfield_pair *pairs = jackfield_alloc((list->count + 1) * sizeof(jackfield_pair));
        size_t count = 0;
        for (const value *pair = list->first; pair; pair = pair->next) {
            pairs[count++] = (jackfield_pair){pair->first->text, bytes_of(pair->first->next)};
        }
        return result(jackfield_kv_set_many(bucket, pairs, count));
    }
    if (strcmp(name, "delete-many") == 0) {
        return result(jackfield_kv_delete_many(bucket, texts_of(jackfield_json_get(call, "keys"))));
    }
    return NULL;
}

static value *config_call(const char *name, const value *call) {
    if (strcmp(name, "get") == 0) {
        bool found;
        jackfield_text text;
        jackfield_error error = jackfield_config_get(text_of(call, "key"), &found, &text);
        return result_with(error, found ? text_value(text) : null_value());
    }
    jackfield_fields fields = {NULL, 0};
    jackfield_error error = jackfield_config_get_all(&fields);
    return result_with(error, field_list(fields));
}

static int compare_texts(const void *a, const void *b) {
    return compared(*(const jackfield_text *)a, *(const jackfield_text *)b);
}

// The names of an object, sorted.
static value *sorted_names(const value *object) {
    jackfield_text *names = jackfield_alloc((object->count + 1) * sizeof(jackfield_text));
    size_t count = 0;
    for (const value *member = object->first; member; member = member->next) names[count++] = member->name;
    qsort(names, count, sizeof(jackfield_text), compare_texts);
    builder made = build(JACKFIELD_JSON_ARRAY);
    for (size_t i = 0; i < count; i++) add_item(&made, text_value(names[i]));
    return made.parent;
}

static value *current_call(const char *name) {
    builder made = build(JACKFIELD_JSON_OBJECT);
    if (strcmp(name, "context") == 0) {
        jackfield_connection_context context = jackfield_current_connection();
        add_member(&made, "source-ip", text_value(context.identity.source_ip));
        add_member(&made, "user-agent", agent_value(&context.identity));
        add_member(&made, "authorizer", field_list(context.authorizer));
        add_member(&made, "stage-variables", field_list(context.stage_variables));
        return made.parent;
    }
    // The rest of the event differs from one event to the next.
    static const char *const members[] = {"body", "isBase64Encoded", "queryStringParameters",
                                          "multiValueQueryStringParameters", "stageVariables"};
    static const char *const in_context[] = {"routeKey", "eventType", "connectionId", "disconnectStatusCode",
                                             "disconnectReason"};
    const value *event;
    if (jackfield_json_parse(jackfield_event_json(), &event, NULL)) panic("the event is no JSON", JACKFIELD_TEXT(""));
    add_member(&made, "keys", sorted_names(event));
    for (size_t i = 0; i < sizeof(members) / sizeof(*members); i++) {
        add_member(&made, members[i], jackfield_json_get(event, members[i]));
    }
    const value *context = jackfield_json_get(event, "requestContext");
    for (size_t i = 0; i < sizeof(in_context) / sizeof(*in_context); i++) {
        add_member(&made, in_context[i], jackfield_json_get(context, in_context[i]));
    }
    return made.parent;
}

static value *language_call(const char *name, const value *call, state *state) {
    if (strcmp(name, "clock") == 0) {
        struct timespec now;
        clock_gettime(CLOCK_REALTIME, &now);
        return ok_value(number_value((int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000));
    }
    if (strcmp(name, "random") == 0) {
        uint8_t bytes[16];
        if (getentropy(bytes, sizeof(bytes)) != 0) panic("no randomness", JACKFIELD_TEXT(""));
        return ok_value(text_value(hex_of((jackfield_bytes){bytes, sizeof(bytes)})));
    }
    if (strcmp(name, "print") == 0) {
        jackfield_text text = text_of(call, "text");
        printf("%.*s\n", (int)text.length, text.data);
        return result(JACKFIELD_OK);
    }
    if (strcmp(name, "log") == 0) {
        static const char *const levels[] = {"trace", "debug", "info", "warn", "error", "critical"};
        for (size_t i = 0; i < sizeof(levels) / sizeof(*levels); i++) {
            if (jackfield_text_equals(text_of(call, "level"), jackfield_text_from(levels[i]))) {
                jackfield_log((jackfield_level)i, text_of(call, "text"));
            }
        }
        return result(JACKFIELD_OK);
    }
    if (strcmp(name, "json") == 0) {
        const value *read;
        if (jackfield_json_parse(text_of(call, "text"), &read, NULL)) return string_value("invalid");
        return ok_value(text_value(written(read)));
    }
    if (strcmp(name, "throw") == 0) {
        state->failure = optional(call, "message");
        return null_value();
    }
    if (strcmp(name, "panic") == 0) {
        jackfield_text message = text_of(call, "message");
        fprintf(stderr, "%.*s\n", (int)message.length, message.data);
        abort();
    }
    if (strcmp(name, "loop") == 0) {
        volatile bool is_running = true;
        while (is_running) {}
    }
    if (strcmp(name, "allocate") == 0) {
        size_t bytes = (size_t)number_of(call, "bytes");
        volatile char *memory = malloc(bytes);
        if (!memory) panic("no memory", JACKFIELD_TEXT(""));
        for (size_t i = 0; i < bytes; i += 4096) memory[i] = 1;
        free((void *)memory);
        return result(JACKFIELD_OK);
    }
    if (strcmp(name, "binary") == 0) return ok_value(text_value(hex_of(bytes_of(call))));
    return NULL;
}

static value *make_call(const value *call, const value *event, state *state) {
    jackfield_text text = text_of(call, "call");
    const char *name = jackfield_format("%.*s", (int)text.length, text.data).data;
    const char *dot = strchr(name, '.');
    value *made = NULL;
    if (strcmp(name, "event") == 0) {
        made = (value *)event;
    } else if (strncmp(name, "connections.", 12) == 0) {
        made = connections_call(dot + 1, call);
    } else if (strncmp(name, "connection-store.", 17) == 0) {
        made = store_call(dot + 1, call, state);
    } else if (strncmp(name, "keyvalue.", 9) == 0) {
        made = keyvalue_call(dot + 1, call, state);
    } else if (strncmp(name, "config.", 7) == 0) {
        made = config_call(dot + 1, call);
    } else if (strncmp(name, "current-connection.", 19) == 0) {
        made = current_call(dot + 1);
    } else if (strncmp(name, "language.", 9) == 0) {
        made = language_call(dot + 1, call, state);
    }
    if (!made) panic("no function", text);
    return made;
}

// Makes the calls and returns their results.
static const value *run(const value *calls, const value *event, state *state) {
    builder results = build(JACKFIELD_JSON_ARRAY);
    for (const value *call = expand(calls)->first; call; call = call->next) {
        replacement by = {.own_id = state->own_id, .cursor = state->has_cursor ? &state->cursor : NULL};
        add_item(&results, make_call(map_texts(call, &by), event, state));
        if (state->failure) break;
    }
    return shortened(results.parent);
}

// ---- events --------------------------------------------------------------------------------------------------------

static builder event_of(const jackfield_context *context) {
    builder made = build(JACKFIELD_JSON_OBJECT);
    add_member(&made, "connection-id", text_value(context->connection_id));
    add_member(&made, "route-key", text_value(context->route_key));
    return made;
}

static jackfield_text key_of(const char *kind, const jackfield_context *context) {
    return jackfield_format("%s %.*s", kind, (int)context->connection_id.length, context->connection_id.data);
}

static jackfield_error keep(jackfield_text key, const value *kept) {
    jackfield_bucket bucket;
    jackfield_error error = jackfield_kv_open(BUCKET, &bucket);
    jackfield_text text = written(kept);
    if (error != JACKFIELD_OK) return error;
    return jackfield_kv_set(bucket, key, (jackfield_bytes){(const uint8_t *)text.data, text.length});
}

// The text that was kept for a key, or `fallback`.
static jackfield_error kept(jackfield_text key, const char *fallback, jackfield_text *text) {
    jackfield_bucket bucket;
    bool found;
    jackfield_bytes bytes;
    jackfield_error error = jackfield_kv_open(BUCKET, &bucket);
    if (error == JACKFIELD_OK) error = jackfield_kv_get(bucket, key, &found, &bytes);
    if (error != JACKFIELD_OK) return error;
    *text = found ? (jackfield_text){(const char *)bytes.data, bytes.length} : jackfield_text_from(fallback);
    return JACKFIELD_OK;
}

static jackfield_response reply(jackfield_text content) {
    return jackfield_reply_text(jackfield_format(REPLY_PREFIX "%.*s", (int)content.length, content.data));
}

static bool has_prefix_x_test(jackfield_text name) {
    static const char prefix[] = "x-test";
    size_t length = sizeof(prefix) - 1;
    for (size_t i = 0; i < length; i++) {
        if (i >= name.length || (name.data[i] | 0x20) != (prefix[i] | 0x20)) return false;
    }
    return true;
}

// Makes the calls of the parameter `calls`, and keeps their results as `connect ID`. The parameter `status` is the status
// of the response.
jackfield_response jackfield_on_connect(const jackfield_context *context, const jackfield_connect *request) {
    jackfield_field *own = jackfield_alloc((request->query.count + 1) * sizeof(jackfield_field));
    jackfield_field *headers = jackfield_alloc((request->headers.count + 1) * sizeof(jackfield_field));
    size_t own_count = 0, header_count = 0;
    for (size_t i = 0; i < request->query.count; i++) {
        jackfield_field field = request->query.items[i];
        bool is_ours = jackfield_text_equals(field.name, JACKFIELD_TEXT("calls")) ||
                       jackfield_text_equals(field.name, JACKFIELD_TEXT("status"));
        if (!is_ours) own[own_count++] = field;
    }
    for (size_t i = 0; i < request->headers.count; i++) {
        if (has_prefix_x_test(request->headers.items[i].name)) headers[header_count++] = request->headers.items[i];
    }
    builder event = event_of(context);
    add_member(&event, "query-string", field_list((jackfield_fields){own, own_count}));
    add_member(&event, "headers", field_list((jackfield_fields){headers, header_count}));
    const jackfield_text *calls = jackfield_query(request, "calls"), *status = jackfield_query(request, "status");
    if (calls) {
        const value *list;
        state state = {.own_id = context->connection_id};
        if (jackfield_json_parse(*calls, &list, NULL)) return jackfield_fail(JACKFIELD_TEXT("the calls are no JSON"));
        const value *results = run(list, event.parent, &state);
        if (state.failure) return jackfield_fail(*state.failure);
        jackfield_error error = keep(key_of("connect", context), results);
        if (error != JACKFIELD_OK) return jackfield_fail_with(error);
    }
    const value *code;
    int64_t number = 200;
    if (status && (jackfield_json_parse(*status, &code, NULL) || !jackfield_json_integer(code, &number))) {
        return jackfield_fail(JACKFIELD_TEXT("the status is no number"));
    }
    return jackfield_status((uint16_t)number);
}

// Makes the calls of a message, or keeps them for `$disconnect`, or returns results that were kept, or a response of a
// given status and length. Any other message is returned with its route.
jackfield_response jackfield_on_message(const jackfield_context *context, const jackfield_message *message) {
    const value *document = NULL;
    if (!message->body.is_binary) jackfield_json_parse(message->body.content, &document, NULL);
    const value *calls = jackfield_json_get(document, "calls"), *later = jackfield_json_get(document, "at-disconnect");
    int64_t status, bytes = 0;
    if (calls && calls->type == JACKFIELD_JSON_ARRAY) {
        state state = {.own_id = context->connection_id};
        const value *results = run(calls, event_of(context).parent, &state);
        return state.failure ? jackfield_fail(*state.failure) : reply(written(results));
    }
    if (later && later->type == JACKFIELD_JSON_ARRAY) {
        jackfield_error error = keep(key_of("calls", context), later);
        return error == JACKFIELD_OK ? reply(JACKFIELD_TEXT("null")) : jackfield_fail_with(error);
    }
    if (jackfield_json_integer(jackfield_json_get(document, "status"), &status)) {
        jackfield_json_integer(jackfield_json_get(document, "bytes"), &bytes);
        size_t prefix = sizeof(REPLY_PREFIX) - 1, length = (size_t)bytes < prefix ? prefix : (size_t)bytes;
        char *text = jackfield_alloc(length);
        memset(text, 'x', length);
        memcpy(text, REPLY_PREFIX, prefix);
        jackfield_response response = jackfield_reply_text((jackfield_text){text, length});
        response.status = (uint16_t)status;
        return response;
    }
    const jackfield_text *key = optional(document, "kept");
    if (key) {
        jackfield_text text;
        jackfield_error error = kept(*key, "null", &text);
        return error == JACKFIELD_OK ? reply(text) : jackfield_fail_with(error);
    }
    builder body = build(JACKFIELD_JSON_OBJECT), made = build(JACKFIELD_JSON_OBJECT);
    if (message->body.is_binary) {
        jackfield_text content = message->body.content;
        add_member(&body, "binary", bytes_value((jackfield_bytes){(const uint8_t *)content.data, content.length}));
    } else {
        add_member(&body, "text", text_value(message->body.content));
    }
    add_member(&made, "route-key", text_value(context->route_key));
    add_member(&made, "body", body.parent);
    return reply(written(shortened(made.parent)));
}

// Makes the calls that were kept for this connection, and keeps their results as `disconnect ID`.
jackfield_response jackfield_on_disconnect(const jackfield_context *context, const jackfield_disconnect *event) {
    jackfield_text text;
    const value *calls;
    jackfield_error error = kept(key_of("calls", context), "[]", &text);
    if (error != JACKFIELD_OK) return jackfield_fail_with(error);
    if (jackfield_json_parse(text, &calls, NULL)) return jackfield_fail(JACKFIELD_TEXT("the calls are no JSON"));
    builder made = event_of(context);
    add_member(&made, "code", number_value(event->status_code));
    add_member(&made, "reason", text_value(event->reason));
    state state = {.own_id = context->connection_id};
    const value *results = run(calls, made.parent, &state);
    if (state.failure) return jackfield_fail(*state.failure);
    error = keep(key_of("disconnect", context), results);
    return error == JACKFIELD_OK ? jackfield_ok() : jackfield_fail_with(error);
}
