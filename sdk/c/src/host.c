// The SDK on a host: its functions call the imports of the contract, and the exports call the callbacks.
//
// The records of the generated bindings have the layout of the types in jackfield.h, so pointers to them are converted
// and nothing is copied. The assertions below check what that relies on; the files are compiled without the assumption
// that pointers of different types point to different memory. On this machine the file is empty, because tests have the
// test double instead.
#ifdef __wasm__

// The exports and the functions of the C library below are called by their names only.
#pragma clang diagnostic ignored "-Wmissing-prototypes"

#include <stdlib.h>
#include <string.h>

#include "internal.h"

#if defined(JACKFIELD_PLUGIN)
#include "plugin.h"
#define WORLD(name) plugin_##name
#elif defined(JACKFIELD_AUTHORIZER)
#include "authorizer.h"
#define WORLD(name) authorizer_##name
#else
#error "host.c is compiled by `jackfield build`, which defines the world"
#endif

typedef WORLD(string_t) wit_string;
typedef WORLD(list_u8_t) wit_bytes;
typedef WORLD(list_string_t) wit_strings;

#define SAME_LAYOUT(ours, theirs)                                                                                     \
    _Static_assert(sizeof(ours) == sizeof(theirs) && _Alignof(ours) == _Alignof(theirs), "the layout of " #ours)
#define SAME_OFFSET(ours, field, theirs, other)                                                                       \
    _Static_assert(offsetof(ours, field) == offsetof(theirs, other), "the offset of " #field)

SAME_LAYOUT(jackfield_text, wit_string);
SAME_LAYOUT(jackfield_bytes, wit_bytes);
SAME_LAYOUT(jackfield_field, jackfield_gateway_types_field_t);
SAME_LAYOUT(jackfield_payload, jackfield_gateway_types_payload_t);
SAME_OFFSET(jackfield_payload, content, jackfield_gateway_types_payload_t, val);
SAME_LAYOUT(jackfield_context, jackfield_gateway_types_request_context_t);
SAME_OFFSET(jackfield_context, request_time, jackfield_gateway_types_request_context_t, request_time);
SAME_LAYOUT(jackfield_connect, jackfield_gateway_types_connect_event_t);
SAME_OFFSET(jackfield_connect, query, jackfield_gateway_types_connect_event_t, query_string);
SAME_LAYOUT(jackfield_message, jackfield_gateway_types_message_event_t);
SAME_OFFSET(jackfield_message, body, jackfield_gateway_types_message_event_t, body);
SAME_LAYOUT(jackfield_disconnect, jackfield_gateway_types_disconnect_event_t);
SAME_OFFSET(jackfield_disconnect, reason, jackfield_gateway_types_disconnect_event_t, reason);
SAME_LAYOUT(jackfield_connection_info, jackfield_gateway_connections_connection_info_t);
SAME_OFFSET(jackfield_connection_info, identity, jackfield_gateway_connections_connection_info_t, identity);
SAME_LAYOUT(jackfield_connection_context, jackfield_gateway_types_connection_context_t);
SAME_OFFSET(jackfield_connection_context, authorizer, jackfield_gateway_types_connection_context_t, authorizer);
SAME_LAYOUT(jackfield_close_frame, jackfield_gateway_connections_close_frame_t);
SAME_LAYOUT(jackfield_row, jackfield_gateway_connection_store_row_t);
SAME_OFFSET(jackfield_row, attributes, jackfield_gateway_connection_store_row_t, attributes);
SAME_LAYOUT(jackfield_page, jackfield_gateway_connection_store_page_t);
SAME_OFFSET(jackfield_page, has_cursor, jackfield_gateway_connection_store_page_t, cursor);
SAME_LAYOUT(jackfield_key_page, wasi_keyvalue_0_2_0_draft2_store_key_response_t);
SAME_OFFSET(jackfield_key_page, has_cursor, wasi_keyvalue_0_2_0_draft2_store_key_response_t, cursor);
SAME_LAYOUT(jackfield_pair, WORLD(tuple2_string_list_u8_t));
SAME_LAYOUT(jackfield_entry, WORLD(option_tuple2_string_list_u8_t));

static wit_string *string(const jackfield_text *text) {
    return (wit_string *)text;
}

static wit_bytes *bytes(const jackfield_bytes *value) {
    return (wit_bytes *)value;
}

static jackfield_gateway_types_payload_t *payload_of(const jackfield_payload *payload) {
    return (jackfield_gateway_types_payload_t *)payload;
}

// ---- memory --------------------------------------------------------------------------------------------------------

// Allocates the memory for what the host passes to the component. It replaces the weak function of the bindings.
__attribute__((__export_name__("cabi_realloc"))) void *cabi_realloc(void *old, size_t old_bytes, size_t align,
                                                                     size_t new_bytes) {
    // Nothing is stored in memory of no bytes, so any aligned address is valid.
    if (new_bytes == 0) return (void *)align;
    return jackfield_arena_resize(old, old_bytes, new_bytes, align);
}

// Allocates the memory of the adapter for WASI preview1, which lives as long as the component: it must not be in the
// memory of an event.
__attribute__((__export_name__("cabi_realloc_adapter"))) void *jackfield_adapter_realloc(void *old, size_t old_bytes,
                                                                                          size_t align,
                                                                                          size_t new_bytes) {
    // The state of the adapter has one page.
    static _Alignas(16) char state[65536];
    static bool is_used;
    if (new_bytes == 0) return (void *)align;
    if (!is_used && old_bytes == 0 && align <= 16 && new_bytes <= sizeof(state)) {
        is_used = true;
        return state;
    }
    void *memory = aligned_alloc(16, (new_bytes + 15) & ~(size_t)15);
    if (!memory) abort();
    if (old_bytes > 0) memcpy(memory, old, old_bytes < new_bytes ? old_bytes : new_bytes);
    return memory;
}

// ---- errors and handles --------------------------------------------------------------------------------------------

static jackfield_text detail;

static jackfield_error failed(jackfield_error error, const wit_string *reason) {
    detail = reason ? (jackfield_text){(const char *)reason->ptr, reason->len} : (jackfield_text){NULL, 0};
    return error;
}

jackfield_text jackfield_error_detail(void) {
    return detail;
}

static jackfield_error connection_error(bool is_ok, jackfield_gateway_connections_connection_error_t error) {
    return is_ok ? JACKFIELD_OK : failed((jackfield_error)(JACKFIELD_GONE + error), NULL);
}

static jackfield_error store_error(bool is_ok, const jackfield_gateway_connection_store_store_error_t *error) {
    if (is_ok) return JACKFIELD_OK;
    bool has_reason = error->tag == JACKFIELD_GATEWAY_CONNECTION_STORE_STORE_ERROR_UNAVAILABLE;
    return failed((jackfield_error)(JACKFIELD_NO_SUCH_CONNECTION + error->tag),
                  has_reason ? &error->val.unavailable : NULL);
}

static jackfield_error kv_error(bool is_ok, const wasi_keyvalue_0_2_0_draft2_store_error_t *error) {
    if (is_ok) return JACKFIELD_OK;
    switch (error->tag) {
    case WASI_KEYVALUE_0_2_0_DRAFT2_STORE_ERROR_NO_SUCH_STORE: return failed(JACKFIELD_NO_SUCH_STORE, NULL);
    case WASI_KEYVALUE_0_2_0_DRAFT2_STORE_ERROR_ACCESS_DENIED: return failed(JACKFIELD_ACCESS_DENIED, NULL);
    default: return failed(JACKFIELD_KV_FAILED, &error->val.other);
    }
}

static jackfield_error config_error(bool is_ok, const wasi_config_store_error_t *error) {
    return is_ok ? JACKFIELD_OK : failed(JACKFIELD_CONFIG_FAILED, &error->val.upstream);
}

// A handle that is open until the event ends.
typedef struct open_handle {
    struct open_handle *before;
    int32_t handle;
    void (*drop)(int32_t handle);
} open_handle;

static open_handle *open_handles;

static void remember(int32_t handle, void (*drop)(int32_t handle)) {
    open_handle *added = jackfield_arena_allocate(sizeof(open_handle), _Alignof(open_handle));
    *added = (open_handle){open_handles, handle, drop};
    open_handles = added;
}

static bool forget(int32_t handle, void (*drop)(int32_t handle)) {
    for (open_handle **link = &open_handles; *link; link = &(*link)->before) {
        if ((*link)->handle == handle && (*link)->drop == drop) {
            *link = (*link)->before;
            return true;
        }
    }
    return false;
}

static void drop_handles(void) {
    for (open_handle *handle = open_handles; handle; handle = handle->before) handle->drop(handle->handle);
    open_handles = NULL;
}

static void drop_bucket(int32_t handle) {
    wasi_keyvalue_0_2_0_draft2_store_bucket_drop_own((wasi_keyvalue_0_2_0_draft2_store_own_bucket_t){handle});
}

static void drop_cas(int32_t handle) {
    wasi_keyvalue_0_2_0_draft2_atomics_cas_drop_own((wasi_keyvalue_0_2_0_draft2_atomics_own_cas_t){handle});
}

// Writes what `printf` has buffered. The C library has another definition, which replaces this one in handlers that
// print, as it replaces the one of the C library's own `exit`.
__attribute__((weak)) void __stdio_exit(void) {}

// What happens after a callback has returned.
static void end_callback(void) {
    drop_handles();
    __stdio_exit();
}

static void end_event(void) {
    detail = (jackfield_text){NULL, 0};
    jackfield_arena_reset();
}

// ---- exports -------------------------------------------------------------------------------------------------------

#ifdef JACKFIELD_PLUGIN

bool exports_jackfield_gateway_handler_handle(exports_jackfield_gateway_handler_request_context_t *context,
                                              exports_jackfield_gateway_handler_event_t *event,
                                              exports_jackfield_gateway_handler_response_t *result,
                                              exports_jackfield_gateway_handler_failure_t *failure) {
    const jackfield_context *ours = (const jackfield_context *)context;
    jackfield_response response;
    switch (event->tag) {
    case JACKFIELD_GATEWAY_TYPES_EVENT_CONNECT:
        response = jackfield_on_connect(ours, (const jackfield_connect *)&event->val.connect);
        break;
    case JACKFIELD_GATEWAY_TYPES_EVENT_MESSAGE:
        response = jackfield_on_message(ours, (const jackfield_message *)&event->val.message);
        break;
    default:
        response = jackfield_on_disconnect(ours, (const jackfield_disconnect *)&event->val.disconnect);
        break;
    }
    end_callback();
    if (response.failed) {
        failure->message = *string(&response.failure);
        failure->stack.is_some = false;
        return false;
    }
    result->status_code = response.status;
    result->headers.ptr = (jackfield_gateway_types_field_t *)response.headers.items;
    result->headers.len = response.headers.count;
    result->body.is_some = response.has_body;
    result->body.val = *payload_of(&response.body);
    return true;
}

// The host has read the result. It replaces the weak function of the bindings.
__attribute__((__export_name__("cabi_post_jackfield:gateway/handler@0.1.0#handle"))) void
__wasm_export_exports_jackfield_gateway_handler_handle_post_return(uint8_t *result) {
    (void)result;
    end_event();
}

#else

bool exports_jackfield_gateway_authorizer_authorize(exports_jackfield_gateway_authorizer_request_context_t *context,
                                                    exports_jackfield_gateway_authorizer_connect_event_t *request,
                                                    exports_jackfield_gateway_authorizer_decision_t *result,
                                                    exports_jackfield_gateway_authorizer_failure_t *failure) {
    jackfield_decision decision =
        jackfield_authorize((const jackfield_context *)context, (const jackfield_connect *)request);
    end_callback();
    if (decision.kind == JACKFIELD_AUTHORIZER_FAILED) {
        failure->message = *string(&decision.failure);
        failure->stack.is_some = false;
        return false;
    }
    switch (decision.kind) {
    case JACKFIELD_ALLOW:
        result->tag = EXPORTS_JACKFIELD_GATEWAY_AUTHORIZER_DECISION_ALLOW;
        result->val.allow.principal_id = *string(&decision.principal_id);
        result->val.allow.context.ptr = (void *)decision.context.items;
        result->val.allow.context.len = decision.context.count;
        break;
    case JACKFIELD_DENY: result->tag = EXPORTS_JACKFIELD_GATEWAY_AUTHORIZER_DECISION_DENY; break;
    default: result->tag = EXPORTS_JACKFIELD_GATEWAY_AUTHORIZER_DECISION_UNAUTHORIZED; break;
    }
    return true;
}

// The host has read the result. It replaces the weak function of the bindings.
__attribute__((__export_name__("cabi_post_jackfield:gateway/authorizer@0.1.0#authorize"))) void
__wasm_export_exports_jackfield_gateway_authorizer_authorize_post_return(uint8_t *result) {
    (void)result;
    end_event();
}

#endif

// ---- connections ---------------------------------------------------------------------------------------------------

jackfield_error jackfield_post_to_connection(jackfield_text id, jackfield_payload payload) {
    jackfield_gateway_connections_connection_error_t error = 0;
    bool is_ok = jackfield_gateway_connections_post_to_connection(string(&id), payload_of(&payload), &error);
    return connection_error(is_ok, error);
}

void jackfield_post_to_connections(jackfield_texts ids, jackfield_payload payload, jackfield_error *results) {
    jackfield_gateway_connections_list_connection_id_t list = {(wit_string *)ids.items, ids.count};
    jackfield_gateway_connections_list_result_void_connection_error_t found = {NULL, 0};
    jackfield_gateway_connections_post_to_connections(&list, payload_of(&payload), &found);
    for (size_t i = 0; i < ids.count; i++) results[i] = connection_error(!found.ptr[i].is_err, found.ptr[i].val.err);
}

jackfield_error jackfield_post_to_matching(jackfield_text name, jackfield_text value, jackfield_payload payload,
                                           const jackfield_text *except, uint32_t *posted) {
    jackfield_gateway_connections_connection_error_t error = 0;
    uint32_t count = 0;
    bool is_ok = jackfield_gateway_connections_post_to_matching(string(&name), string(&value), payload_of(&payload),
                                                                string(except), &count, &error);
    if (posted) *posted = count;
    return connection_error(is_ok, error);
}

jackfield_error jackfield_get_connection(jackfield_text id, jackfield_connection_info *info) {
    jackfield_gateway_connections_connection_error_t error = 0;
    bool is_ok = jackfield_gateway_connections_get_connection(string(&id), (void *)info, &error);
    return connection_error(is_ok, error);
}

jackfield_error jackfield_delete_connection(jackfield_text id, const jackfield_close_frame *frame) {
    jackfield_gateway_connections_connection_error_t error = 0;
    bool is_ok = jackfield_gateway_connections_delete_connection(string(&id), (void *)frame, &error);
    return connection_error(is_ok, error);
}

// ---- connection store ----------------------------------------------------------------------------------------------

jackfield_error jackfield_store_get(jackfield_text id, jackfield_row *row) {
    jackfield_gateway_connection_store_store_error_t error;
    return store_error(jackfield_gateway_connection_store_get(string(&id), (void *)row, &error), &error);
}

jackfield_error jackfield_store_put(jackfield_text id, jackfield_fields attributes) {
    jackfield_gateway_connection_store_store_error_t error;
    jackfield_gateway_connection_store_list_field_t list = {(void *)attributes.items, attributes.count};
    return store_error(jackfield_gateway_connection_store_put(string(&id), &list, &error), &error);
}

jackfield_error jackfield_store_add(jackfield_text id, jackfield_text name, jackfield_text value) {
    jackfield_gateway_connection_store_store_error_t error;
    bool is_ok = jackfield_gateway_connection_store_add(string(&id), string(&name), string(&value), &error);
    return store_error(is_ok, &error);
}

jackfield_error jackfield_store_remove(jackfield_text id, jackfield_text name, const jackfield_text *value) {
    jackfield_gateway_connection_store_store_error_t error;
    bool is_ok = jackfield_gateway_connection_store_remove(string(&id), string(&name), string(value), &error);
    return store_error(is_ok, &error);
}

jackfield_error jackfield_store_query(jackfield_text name, jackfield_text value, const jackfield_text *cursor,
                                      jackfield_page *page) {
    jackfield_gateway_connection_store_store_error_t error;
    bool is_ok = jackfield_gateway_connection_store_query(string(&name), string(&value), string(cursor), (void *)page,
                                                          &error);
    return store_error(is_ok, &error);
}

jackfield_error jackfield_store_scan(const jackfield_text *cursor, jackfield_page *page) {
    jackfield_gateway_connection_store_store_error_t error;
    return store_error(jackfield_gateway_connection_store_scan(string(cursor), (void *)page, &error), &error);
}

// ---- key-value buckets ---------------------------------------------------------------------------------------------

typedef wasi_keyvalue_0_2_0_draft2_store_error_t wit_kv_error;

static wasi_keyvalue_0_2_0_draft2_store_borrow_bucket_t borrowed(jackfield_bucket bucket) {
    return (wasi_keyvalue_0_2_0_draft2_store_borrow_bucket_t){bucket.handle};
}

jackfield_error jackfield_kv_open(jackfield_text name, jackfield_bucket *bucket) {
    wit_kv_error error;
    wasi_keyvalue_0_2_0_draft2_store_own_bucket_t opened;
    bool is_ok = wasi_keyvalue_0_2_0_draft2_store_open(string(&name), &opened, &error);
    if (is_ok) {
        bucket->handle = opened.__handle;
        remember(opened.__handle, drop_bucket);
    }
    return kv_error(is_ok, &error);
}

void jackfield_kv_close(jackfield_bucket bucket) {
    if (forget(bucket.handle, drop_bucket)) drop_bucket(bucket.handle);
}

static void optional_bytes(const WORLD(option_list_u8_t) * found, bool *is_found, jackfield_bytes *value) {
    *is_found = found->is_some;
    *value = found->is_some ? (jackfield_bytes){found->val.ptr, found->val.len} : (jackfield_bytes){NULL, 0};
}

jackfield_error jackfield_kv_get(jackfield_bucket bucket, jackfield_text key, bool *found, jackfield_bytes *value) {
    wit_kv_error error;
    WORLD(option_list_u8_t) result = {0};
    bool is_ok = wasi_keyvalue_0_2_0_draft2_store_method_bucket_get(borrowed(bucket), string(&key), &result, &error);
    optional_bytes(&result, found, value);
    return kv_error(is_ok, &error);
}

jackfield_error jackfield_kv_set(jackfield_bucket bucket, jackfield_text key, jackfield_bytes value) {
    wit_kv_error error;
    bool is_ok =
        wasi_keyvalue_0_2_0_draft2_store_method_bucket_set(borrowed(bucket), string(&key), bytes(&value), &error);
    return kv_error(is_ok, &error);
}

jackfield_error jackfield_kv_delete(jackfield_bucket bucket, jackfield_text key) {
    wit_kv_error error;
    return kv_error(wasi_keyvalue_0_2_0_draft2_store_method_bucket_delete(borrowed(bucket), string(&key), &error),
                    &error);
}

jackfield_error jackfield_kv_exists(jackfield_bucket bucket, jackfield_text key, bool *exists) {
    wit_kv_error error;
    bool is_ok =
        wasi_keyvalue_0_2_0_draft2_store_method_bucket_exists(borrowed(bucket), string(&key), exists, &error);
    return kv_error(is_ok, &error);
}

jackfield_error jackfield_kv_list_keys(jackfield_bucket bucket, const jackfield_text *cursor,
                                       jackfield_key_page *page) {
    wit_kv_error error;
    bool is_ok = wasi_keyvalue_0_2_0_draft2_store_method_bucket_list_keys(borrowed(bucket), string(cursor),
                                                                          (void *)page, &error);
    return kv_error(is_ok, &error);
}

jackfield_error jackfield_kv_increment(jackfield_bucket bucket, jackfield_text key, int64_t delta, int64_t *value) {
    wit_kv_error error;
    bool is_ok =
        wasi_keyvalue_0_2_0_draft2_atomics_increment(borrowed(bucket), string(&key), delta, value, &error);
    return kv_error(is_ok, &error);
}

static wit_strings strings(jackfield_texts texts) {
    return (wit_strings){(wit_string *)texts.items, texts.count};
}

jackfield_error jackfield_kv_get_many(jackfield_bucket bucket, jackfield_texts keys, const jackfield_entry **entries) {
    wit_kv_error error;
    wit_strings list = strings(keys);
    WORLD(list_option_tuple2_string_list_u8_t) found = {NULL, 0};
    bool is_ok = wasi_keyvalue_0_2_0_draft2_batch_get_many(borrowed(bucket), &list, &found, &error);
    *entries = (const jackfield_entry *)found.ptr;
    return kv_error(is_ok, &error);
}

jackfield_error jackfield_kv_set_many(jackfield_bucket bucket, const jackfield_pair *pairs, size_t count) {
    wit_kv_error error;
    WORLD(list_tuple2_string_list_u8_t) list = {(void *)pairs, count};
    return kv_error(wasi_keyvalue_0_2_0_draft2_batch_set_many(borrowed(bucket), &list, &error), &error);
}

jackfield_error jackfield_kv_delete_many(jackfield_bucket bucket, jackfield_texts keys) {
    wit_kv_error error;
    wit_strings list = strings(keys);
    return kv_error(wasi_keyvalue_0_2_0_draft2_batch_delete_many(borrowed(bucket), &list, &error), &error);
}

jackfield_error jackfield_cas_new(jackfield_bucket bucket, jackfield_text key, jackfield_cas *cas) {
    wit_kv_error error;
    wasi_keyvalue_0_2_0_draft2_atomics_own_cas_t opened;
    bool is_ok = wasi_keyvalue_0_2_0_draft2_atomics_static_cas_new(borrowed(bucket), string(&key), &opened, &error);
    if (is_ok) {
        cas->handle = opened.__handle;
        remember(opened.__handle, drop_cas);
    }
    return kv_error(is_ok, &error);
}

jackfield_error jackfield_cas_current(jackfield_cas cas, bool *found, jackfield_bytes *value) {
    wit_kv_error error;
    WORLD(option_list_u8_t) result = {0};
    wasi_keyvalue_0_2_0_draft2_atomics_borrow_cas_t handle = {cas.handle};
    bool is_ok = wasi_keyvalue_0_2_0_draft2_atomics_method_cas_current(handle, &result, &error);
    optional_bytes(&result, found, value);
    return kv_error(is_ok, &error);
}

jackfield_error jackfield_cas_swap(jackfield_cas *cas, jackfield_bytes value) {
    wasi_keyvalue_0_2_0_draft2_atomics_cas_error_t error;
    wasi_keyvalue_0_2_0_draft2_atomics_own_cas_t handle = {cas->handle};
    // The call takes the handle.
    forget(cas->handle, drop_cas);
    if (wasi_keyvalue_0_2_0_draft2_atomics_swap(handle, bytes(&value), &error)) return JACKFIELD_OK;
    if (error.tag == WASI_KEYVALUE_0_2_0_DRAFT2_ATOMICS_CAS_ERROR_STORE_ERROR) {
        return kv_error(false, &error.val.store_error);
    }
    cas->handle = error.val.cas_failed.__handle;
    remember(cas->handle, drop_cas);
    return failed(JACKFIELD_CAS_FAILED, NULL);
}

// ---- configuration, log, current connection ------------------------------------------------------------------------

jackfield_error jackfield_config_get(jackfield_text key, bool *found, jackfield_text *value) {
    wasi_config_store_error_t error;
    WORLD(option_string_t) result = {0};
    bool is_ok = wasi_config_store_get(string(&key), &result, &error);
    *found = is_ok && result.is_some;
    *value = *found ? (jackfield_text){(const char *)result.val.ptr, result.val.len} : (jackfield_text){NULL, 0};
    return config_error(is_ok, &error);
}

jackfield_error jackfield_config_get_all(jackfield_fields *fields) {
    wasi_config_store_error_t error;
    return config_error(wasi_config_store_get_all((void *)fields, &error), &error);
}

void jackfield_log(jackfield_level level, jackfield_text line) {
    wit_string context = {NULL, 0};
    wasi_logging_logging_log((wasi_logging_logging_level_t)level, &context, string(&line));
}

jackfield_connection_context jackfield_current_connection(void) {
    jackfield_connection_context context;
    jackfield_gateway_current_connection_context((void *)&context);
    return context;
}

jackfield_text jackfield_event_json(void) {
    jackfield_text event;
    jackfield_gateway_current_connection_event((wit_string *)&event);
    return event;
}

#endif
