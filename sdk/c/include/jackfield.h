// Handlers of jackfield in C: callbacks for the events of a WebSocket API, and the functions of the host.
//
// A plugin is a file that defines one or more of the callbacks:
//
//     #include <jackfield.h>
//
//     jackfield_response jackfield_on_message(const jackfield_context *context, const jackfield_message *message) {
//         (void)context;
//         return jackfield_reply(message->body);
//     }
//
// Everything that the SDK returns or allocates belongs to the event and is freed at its end, so nothing of it may be in
// a static variable afterwards. Memory of `malloc` is as always.
//
// Times are milliseconds since the Unix epoch. Texts are UTF-8 and not terminated by a zero byte.
#ifndef JACKFIELD_H
#define JACKFIELD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

// ---- Values --------------------------------------------------------------------------------------------------------

// A text in UTF-8. `data` may be NULL only if `length` is 0.
typedef struct jackfield_text {
    const char *data;
    size_t length;
} jackfield_text;

// Any bytes.
typedef struct jackfield_bytes {
    const uint8_t *data;
    size_t length;
} jackfield_bytes;

// The text of a string literal.
#ifdef __cplusplus
#define JACKFIELD_TEXT(literal) (jackfield_text{"" literal, sizeof(literal) - 1})
#else
#define JACKFIELD_TEXT(literal) ((jackfield_text){"" literal, sizeof(literal) - 1})
#endif

typedef struct jackfield_texts {
    const jackfield_text *items;
    size_t count;
} jackfield_texts;

// A name and its value: a header, a parameter of the query string, an attribute of a row, a configuration value.
typedef struct jackfield_field {
    jackfield_text name;
    jackfield_text value;
} jackfield_field;

typedef struct jackfield_fields {
    const jackfield_field *items;
    size_t count;
} jackfield_fields;

// One WebSocket message.
typedef struct jackfield_payload {
    bool is_binary;
    // The text, or the bytes of a binary message.
    jackfield_text content;
} jackfield_payload;

jackfield_payload jackfield_text_payload(jackfield_text text);
jackfield_payload jackfield_binary_payload(jackfield_bytes bytes);

// The text of a string that ends with a zero byte. It is not copied.
jackfield_text jackfield_text_from(const char *string);
bool jackfield_text_equals(jackfield_text a, jackfield_text b);
// Whether bytes are a text. A text message always is; a binary one may be.
bool jackfield_is_utf8(jackfield_bytes bytes);

// ---- Memory of the event -------------------------------------------------------------------------------------------

// Allocates memory that is freed at the end of the event, aligned for any type. It is never NULL: an event for which
// there is not enough memory ends as a failure.
void *jackfield_alloc(size_t bytes);
// Changes the size of such memory, whose content stays. The last allocation grows without being copied.
void *jackfield_resize(void *memory, size_t old_bytes, size_t new_bytes);
// One text of several, which are copied.
jackfield_text jackfield_join(const jackfield_text *parts, size_t count);
// Formats a text as `printf` does. It makes the component about 30 KiB larger. `%.*s` with `(int)text.length, text.data` is a text.
jackfield_text jackfield_format(const char *format, ...) __attribute__((format(printf, 1, 2)));

// ---- Errors --------------------------------------------------------------------------------------------------------

// What a function of the host can return.
typedef enum jackfield_error {
    JACKFIELD_OK = 0,
    // connections: it does not exist, is closed, or its `$connect` has not ended (410).
    JACKFIELD_GONE,
    // connections: the payload is larger than the limit for a message, by default 128 KiB (413).
    JACKFIELD_PAYLOAD_TOO_LARGE,
    // connections: the peer reads too slowly, or the handler sends too much (429).
    JACKFIELD_LIMIT_EXCEEDED,
    // connections: the manifest does not grant this to the handler (403).
    JACKFIELD_FORBIDDEN,
    // store: the connection has no row in this stage.
    JACKFIELD_NO_SUCH_CONNECTION,
    // store: more than 64 attributes, a name of more than 64 bytes, or a value of more than 1,024 bytes.
    JACKFIELD_TOO_LARGE,
    // store, kv: the manifest does not grant this to the handler.
    JACKFIELD_ACCESS_DENIED,
    // store: it could not be reached or failed, or the cursor is none. jackfield_error_detail has the reason.
    JACKFIELD_UNAVAILABLE,
    // kv: no bucket of that name is granted to the handler.
    JACKFIELD_NO_SUCH_STORE,
    // kv: a limit is exceeded, or the backend failed. jackfield_error_detail has the reason.
    JACKFIELD_KV_FAILED,
    // kv: the value was changed since it was read.
    JACKFIELD_CAS_FAILED,
    // config: it could not be read. jackfield_error_detail has the reason.
    JACKFIELD_CONFIG_FAILED,
} jackfield_error;

// The name of an error as the contract spells it, such as "payload-too-large".
const char *jackfield_error_name(jackfield_error error);
// The reason that the host gave with the last error of this event; empty if it gave none.
jackfield_text jackfield_error_detail(void);

// ---- Events --------------------------------------------------------------------------------------------------------

// The context of an event. jackfield_current_connection has the rest.
typedef struct jackfield_context {
    jackfield_text connection_id;
    // The route that was selected, so that one plugin can serve several routes.
    jackfield_text route_key;
    // Identifies this event, also in the log of the host.
    jackfield_text request_id;
    uint64_t request_time;
    uint64_t connected_at;
} jackfield_context;

// `$connect`: the upgrade request. Names are in the order and the case in which the peer sent them.
typedef struct jackfield_connect {
    jackfield_fields headers;
    jackfield_fields query;
} jackfield_connect;

// A message of the peer.
typedef struct jackfield_message {
    jackfield_text message_id;
    jackfield_payload body;
} jackfield_message;

// `$disconnect`: the connection is closed already.
typedef struct jackfield_disconnect {
    // The close code: 1005 if the peer sent none, 1006 if the connection was lost.
    uint16_t status_code;
    jackfield_text reason;
} jackfield_disconnect;

// The first value of a parameter of the query string, percent-decoded; NULL if there is none.
const jackfield_text *jackfield_query(const jackfield_connect *request, const char *name);
// The first value of a header, without regard to case; NULL if there is none.
const jackfield_text *jackfield_header(const jackfield_connect *request, const char *name);
// The first value of a name, by its exact case; NULL if there is none.
const jackfield_text *jackfield_value(jackfield_fields fields, const char *name);

// What a callback returns; use the functions below. On `$connect`, a status from 200 to 299 admits the peer, and any
// other status rejects it. On a message, the body is sent to the peer if the route has a route response.
typedef struct jackfield_response {
    uint16_t status;
    bool has_body;
    bool failed;
    jackfield_payload body;
    jackfield_fields headers;
    // The reason for the log of the host, if the callback has failed.
    jackfield_text failure;
} jackfield_response;

// Status 200 without a body.
jackfield_response jackfield_ok(void);
// A status without a body.
jackfield_response jackfield_status(uint16_t status);
// Status 200 with a body.
jackfield_response jackfield_reply(jackfield_payload body);
jackfield_response jackfield_reply_text(jackfield_text text);
// The failure of the handler: the host logs this reason, and the peer receives a general message of an internal error.
jackfield_response jackfield_fail(jackfield_text reason);
// The failure that a function of the host returned, with its name and detail.
jackfield_response jackfield_fail_with(jackfield_error error);

// The callbacks of a plugin. One that is not defined returns status 200.
jackfield_response jackfield_on_connect(const jackfield_context *context, const jackfield_connect *request);
jackfield_response jackfield_on_message(const jackfield_context *context, const jackfield_message *message);
jackfield_response jackfield_on_disconnect(const jackfield_context *context, const jackfield_disconnect *event);

// The function of a route.
typedef struct jackfield_route {
    const char *route_key;
    jackfield_response (*function)(const jackfield_context *context, const jackfield_message *message);
} jackfield_route;

// Calls the function of the event's route. A route that is not in the table is a failure of the handler.
jackfield_response jackfield_dispatch(const jackfield_route *routes, size_t count, const jackfield_context *context,
                                      const jackfield_message *message);

// Defines jackfield_on_message with an array of jackfield_route.
#define JACKFIELD_ROUTES(routes)                                                                                      \
    jackfield_response jackfield_on_message(const jackfield_context *context, const jackfield_message *message) {     \
        return jackfield_dispatch(routes, sizeof(routes) / sizeof((routes)[0]), context, message);                    \
    }

// ---- Authorizers ---------------------------------------------------------------------------------------------------

// What an authorizer returns; use the functions below.
typedef struct jackfield_decision {
    enum { JACKFIELD_ALLOW, JACKFIELD_DENY, JACKFIELD_UNAUTHORIZED, JACKFIELD_AUTHORIZER_FAILED } kind;
    jackfield_text principal_id;
    jackfield_fields context;
    jackfield_text failure;
} jackfield_decision;

// Admits the peer. Every later event of the connection has these values; with the principal they have at most 8 KiB.
jackfield_decision jackfield_allow(jackfield_text principal_id, jackfield_fields context);
// The peer is known but not allowed to connect: 403.
jackfield_decision jackfield_deny(void);
// The peer is not known: 401.
jackfield_decision jackfield_unauthorized(void);
// The failure of the authorizer, which rejects the peer with 500.
jackfield_decision jackfield_authorizer_fail(jackfield_text reason);

// The callback of an authorizer. A component is a plugin or an authorizer.
jackfield_decision jackfield_authorize(const jackfield_context *context, const jackfield_connect *request);

// ---- connections ---------------------------------------------------------------------------------------------------

typedef struct jackfield_identity {
    jackfield_text source_ip;
    bool has_user_agent;
    jackfield_text user_agent;
} jackfield_identity;

typedef struct jackfield_connection_info {
    uint64_t connected_at;
    // When the last message was received from the peer or sent to it.
    uint64_t last_active_at;
    jackfield_identity identity;
} jackfield_connection_info;

typedef struct jackfield_close_frame {
    // 1000 to 1003, 1007 to 1014 or 3000 to 4999; any other code ends the event with a trap.
    uint16_t code;
    // At most 123 bytes.
    jackfield_text reason;
} jackfield_close_frame;

// Queues a message for the peer, on any node that holds its connection.
jackfield_error jackfield_post_to_connection(jackfield_text id, jackfield_payload payload);
// Queues the same message for many peers. `results` has space for one result for each id.
void jackfield_post_to_connections(jackfield_texts ids, jackfield_payload payload, jackfield_error *results);
// Queues the same message for every connection whose row has this attribute, except for `except`, which may be NULL.
// `posted` is for how many it was queued, and may be NULL.
jackfield_error jackfield_post_to_matching(jackfield_text name, jackfield_text value, jackfield_payload payload,
                                           const jackfield_text *except, uint32_t *posted);
jackfield_error jackfield_get_connection(jackfield_text id, jackfield_connection_info *info);
// Closes the connection, with code 1000 and no reason if `frame` is NULL. What was posted before is still sent.
jackfield_error jackfield_delete_connection(jackfield_text id, const jackfield_close_frame *frame);

// ---- connection store ----------------------------------------------------------------------------------------------

// The row of a live connection. The host adds it before `$connect` and removes it after `$disconnect`.
typedef struct jackfield_row {
    jackfield_text connection_id;
    uint64_t connected_at;
    // Sorted by name, then by value. A name can have several values.
    jackfield_fields attributes;
} jackfield_row;

// Up to 256 rows. All pages together are sorted by connection id.
typedef struct jackfield_page {
    const jackfield_row *rows;
    size_t count;
    // Whether there is a next page.
    bool has_cursor;
    jackfield_text cursor;
} jackfield_page;

jackfield_error jackfield_store_get(jackfield_text id, jackfield_row *row);
// Replaces all attributes of the row.
jackfield_error jackfield_store_put(jackfield_text id, jackfield_fields attributes);
// Adds one attribute. Nothing changes if the row has it already.
jackfield_error jackfield_store_add(jackfield_text id, jackfield_text name, jackfield_text value);
// Removes one attribute, or every attribute of that name if `value` is NULL.
jackfield_error jackfield_store_remove(jackfield_text id, jackfield_text name, const jackfield_text *value);
// One page of the rows with this attribute. `cursor` is that of the page before, or NULL.
jackfield_error jackfield_store_query(jackfield_text name, jackfield_text value, const jackfield_text *cursor,
                                      jackfield_page *page);
// One page of all rows.
jackfield_error jackfield_store_scan(const jackfield_text *cursor, jackfield_page *page);

// All rows of a query or a scan, page by page:
//
//     jackfield_rows rows = jackfield_rows_with(JACKFIELD_TEXT("room"), JACKFIELD_TEXT("lobby"));
//     while (jackfield_rows_next(&rows)) use(rows.row);
//     if (rows.error != JACKFIELD_OK) return jackfield_fail_with(rows.error);
typedef struct jackfield_rows {
    const jackfield_row *row;
    jackfield_error error;
    // Private.
    bool is_query, has_started;
    jackfield_text name, value;
    jackfield_page page;
    size_t next;
} jackfield_rows;

jackfield_rows jackfield_rows_with(jackfield_text name, jackfield_text value);
jackfield_rows jackfield_all_rows(void);
bool jackfield_rows_next(jackfield_rows *rows);

// ---- key-value buckets ---------------------------------------------------------------------------------------------

// An open bucket. It is closed at the end of the event.
typedef struct jackfield_bucket {
    int32_t handle;
} jackfield_bucket;

typedef struct jackfield_pair {
    jackfield_text key;
    jackfield_bytes value;
} jackfield_pair;

// The value of one key of jackfield_kv_get_many.
typedef struct jackfield_entry {
    bool found;
    jackfield_text key;
    jackfield_bytes value;
} jackfield_entry;

// Up to 256 keys. All pages together are sorted by the bytes of the keys.
typedef struct jackfield_key_page {
    jackfield_texts keys;
    bool has_cursor;
    jackfield_text cursor;
} jackfield_key_page;

jackfield_error jackfield_kv_open(jackfield_text name, jackfield_bucket *bucket);
// `found` is false if the bucket does not have the key.
jackfield_error jackfield_kv_get(jackfield_bucket bucket, jackfield_text key, bool *found, jackfield_bytes *value);
// A key has at most 1,024 bytes, a value at most 400 KiB.
jackfield_error jackfield_kv_set(jackfield_bucket bucket, jackfield_text key, jackfield_bytes value);
jackfield_error jackfield_kv_delete(jackfield_bucket bucket, jackfield_text key);
jackfield_error jackfield_kv_exists(jackfield_bucket bucket, jackfield_text key, bool *exists);
// Adds to a decimal number, which is 0 if the key does not exist.
jackfield_error jackfield_kv_increment(jackfield_bucket bucket, jackfield_text key, int64_t delta, int64_t *value);
jackfield_error jackfield_kv_list_keys(jackfield_bucket bucket, const jackfield_text *cursor, jackfield_key_page *page);
// Up to 256 keys with 2 MiB of values. `entries` are in the order of the keys.
jackfield_error jackfield_kv_get_many(jackfield_bucket bucket, jackfield_texts keys, const jackfield_entry **entries);
jackfield_error jackfield_kv_set_many(jackfield_bucket bucket, const jackfield_pair *pairs, size_t count);
jackfield_error jackfield_kv_delete_many(jackfield_bucket bucket, jackfield_texts keys);
// Closes a bucket before the event ends, for events that open many.
void jackfield_kv_close(jackfield_bucket bucket);

// All keys of a bucket, page by page, as with jackfield_rows.
typedef struct jackfield_keys {
    jackfield_text key;
    jackfield_error error;
    // Private.
    bool has_started;
    jackfield_bucket bucket;
    jackfield_key_page page;
    size_t next;
} jackfield_keys;

jackfield_keys jackfield_all_keys(jackfield_bucket bucket);
bool jackfield_keys_next(jackfield_keys *keys);

// A value that is replaced only if nothing else has changed it meanwhile.
typedef struct jackfield_cas {
    int32_t handle;
} jackfield_cas;

jackfield_error jackfield_cas_new(jackfield_bucket bucket, jackfield_text key, jackfield_cas *cas);
// The value that the key had when the handle was made.
jackfield_error jackfield_cas_current(jackfield_cas cas, bool *found, jackfield_bytes *value);
// Replaces the value. With JACKFIELD_CAS_FAILED, `cas` becomes a handle with the new value for another attempt; with
// JACKFIELD_OK and every other error it is used up.
jackfield_error jackfield_cas_swap(jackfield_cas *cas, jackfield_bytes value);

// ---- configuration, log, current connection ------------------------------------------------------------------------

// A value of `config` in the manifest. `found` is false if there is none.
jackfield_error jackfield_config_get(jackfield_text key, bool *found, jackfield_text *value);
jackfield_error jackfield_config_get_all(jackfield_fields *fields);

typedef enum jackfield_level {
    JACKFIELD_TRACE,
    JACKFIELD_DEBUG,
    JACKFIELD_INFO,
    JACKFIELD_WARN,
    JACKFIELD_ERROR,
    JACKFIELD_CRITICAL,
} jackfield_level;

// Writes a line to the log of the host.
void jackfield_log(jackfield_level level, jackfield_text line);

// The properties of a connection that do not change while it is open.
typedef struct jackfield_connection_context {
    jackfield_text api_id;
    jackfield_text stage;
    jackfield_text domain_name;
    jackfield_identity identity;
    // What the authorizer granted.
    jackfield_fields authorizer;
    jackfield_fields stage_variables;
} jackfield_connection_context;

// The connection whose event is being handled.
jackfield_connection_context jackfield_current_connection(void);
// The event that is being handled as JSON, as API Gateway sends it to a Lambda function.
jackfield_text jackfield_event_json(void);

#ifdef __cplusplus
}
#endif
#endif
