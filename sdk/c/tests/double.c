// Tests of the test double, which run on this machine: its limits and the order of its errors are those of a host.
#undef NDEBUG
#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "jackfield_testing.h"

#define T JACKFIELD_TEXT

// What the next message does.
static void (*action)(const jackfield_context *context);
static jackfield_response response;
static uint16_t last_code;
static char long_text[3 * 1024 * 1024];

jackfield_response jackfield_on_connect(const jackfield_context *context, const jackfield_connect *request) {
    const jackfield_text *status = jackfield_query(request, "status"), *room = jackfield_query(request, "room");
    // Nothing can be sent before the peer is admitted, but the row exists.
    assert(jackfield_post_to_connection(context->connection_id, jackfield_text_payload(T("early"))) == JACKFIELD_GONE);
    if (room) assert(jackfield_store_add(context->connection_id, T("room"), *room) == JACKFIELD_OK);
    return status ? jackfield_status(403) : jackfield_ok();
}

jackfield_response jackfield_on_message(const jackfield_context *context, const jackfield_message *message) {
    (void)message;
    response = jackfield_ok();
    if (action) action(context);
    return response;
}

jackfield_response jackfield_on_disconnect(const jackfield_context *context, const jackfield_disconnect *event) {
    jackfield_row row;
    last_code = event->status_code;
    assert(jackfield_store_get(context->connection_id, &row) == JACKFIELD_OK);
    return event->status_code == 4000 ? jackfield_fail(event->reason) : jackfield_ok();
}

static jackfield_text text_of(size_t length) {
    return (jackfield_text){long_text, length};
}

static jackfield_bytes bytes_of(size_t length) {
    return (jackfield_bytes){(const uint8_t *)long_text, length};
}

static void run(void (*what)(const jackfield_context *context)) {
    action = what;
    assert(!jackfield_test_send("a", "x").failed);
    action = NULL;
}

static void posts(const jackfield_context *context) {
    jackfield_text b = jackfield_test_id("b"), unknown = T("AAAAAAAAAAAAAAA=");
    assert(jackfield_post_to_connection(b, jackfield_text_payload(text_of(131072))) == JACKFIELD_OK);
    assert(jackfield_post_to_connection(b, jackfield_text_payload(text_of(131073))) == JACKFIELD_PAYLOAD_TOO_LARGE);
    assert(jackfield_post_to_connection(unknown, jackfield_text_payload(text_of(131073))) == JACKFIELD_PAYLOAD_TOO_LARGE);
    assert(jackfield_post_to_connection(unknown, jackfield_text_payload(T("x"))) == JACKFIELD_GONE);
    uint32_t posted;
    assert(jackfield_post_to_matching(T("room"), T("red"), jackfield_text_payload(T("1")), NULL, &posted) == JACKFIELD_OK);
    assert(posted == 2);
    jackfield_post_to_matching(T("room"), T("red"), jackfield_text_payload(T("2")), &context->connection_id, &posted);
    assert(posted == 1);
    jackfield_text ids[] = {b, unknown, b};
    jackfield_error results[3];
    jackfield_post_to_connections((jackfield_texts){ids, 3}, jackfield_binary_payload(bytes_of(2)), results);
    assert(results[0] == JACKFIELD_OK && results[1] == JACKFIELD_GONE && results[2] == JACKFIELD_OK);
    assert(strcmp(jackfield_error_name(results[1]), "gone") == 0);
}

static void rows(const jackfield_context *context) {
    jackfield_text id = context->connection_id;
    jackfield_field two[] = {{T("b"), T("2")}, {T("a"), T("1")}, {T("a"), T("1")}};
    jackfield_row row;
    assert(jackfield_store_put(id, (jackfield_fields){two, 3}) == JACKFIELD_OK);
    assert(jackfield_store_get(id, &row) == JACKFIELD_OK && row.attributes.count == 2);
    assert(jackfield_text_equals(row.attributes.items[0].name, T("a")));
    assert(jackfield_store_add(id, text_of(64), text_of(1024)) == JACKFIELD_OK);
    assert(jackfield_store_add(id, text_of(65), T("")) == JACKFIELD_TOO_LARGE);
    assert(jackfield_store_add(id, T("n"), text_of(1025)) == JACKFIELD_TOO_LARGE);
    assert(jackfield_store_add(T("no id"), T("n"), text_of(1025)) == JACKFIELD_NO_SUCH_CONNECTION);
    assert(jackfield_store_remove(id, text_of(64), NULL) == JACKFIELD_OK);
    for (int i = 0; i < 62; i++) assert(jackfield_store_add(id, T("n"), jackfield_format("%d", i)) == JACKFIELD_OK);
    assert(jackfield_store_add(id, T("n"), T("one more")) == JACKFIELD_TOO_LARGE);
    assert(jackfield_store_add(id, T("n"), T("7")) == JACKFIELD_OK);
    jackfield_text seven = T("7");
    assert(jackfield_store_remove(id, T("n"), &seven) == JACKFIELD_OK);
    assert(jackfield_store_get(id, &row) == JACKFIELD_OK && row.attributes.count == 63);
    jackfield_page page;
    jackfield_text cursor = T("none");
    assert(jackfield_store_scan(&cursor, &page) == JACKFIELD_UNAVAILABLE && jackfield_error_detail().length > 0);
    size_t count = 0;
    jackfield_rows all = jackfield_all_rows();
    while (jackfield_rows_next(&all)) count++;
    assert(all.error == JACKFIELD_OK && count == 2);
}

static void many_rows(const jackfield_context *context) {
    (void)context;
    jackfield_page page;
    assert(jackfield_store_query(T("room"), T("big"), NULL, &page) == JACKFIELD_OK && page.count == 256 && page.has_cursor);
    size_t count = 0;
    jackfield_rows found = jackfield_rows_with(T("room"), T("big"));
    while (jackfield_rows_next(&found)) count++;
    assert(found.error == JACKFIELD_OK && count == 257);
}

static void buckets(const jackfield_context *context) {
    (void)context;
    jackfield_bucket bucket, small;
    bool found;
    jackfield_bytes value;
    int64_t sum;
    assert(jackfield_kv_open(T("none"), &bucket) == JACKFIELD_NO_SUCH_STORE);
    assert(jackfield_kv_open(T("data"), &bucket) == JACKFIELD_OK && jackfield_kv_open(T("small"), &small) == JACKFIELD_OK);
    assert(jackfield_kv_get(bucket, T("k"), &found, &value) == JACKFIELD_OK && !found);
    assert(jackfield_kv_set(bucket, text_of(1024), bytes_of(409600)) == JACKFIELD_OK);
    assert(jackfield_kv_set(bucket, text_of(1025), bytes_of(0)) == JACKFIELD_KV_FAILED);
    assert(jackfield_kv_set(bucket, T("k"), bytes_of(409601)) == JACKFIELD_KV_FAILED);
    assert(jackfield_kv_get(bucket, text_of(1024), &found, &value) == JACKFIELD_OK && found && value.length == 409600);
    assert(jackfield_kv_delete(bucket, text_of(1024)) == JACKFIELD_OK);
    assert(jackfield_kv_set(small, T("a"), bytes_of(1000)) == JACKFIELD_OK);
    assert(jackfield_kv_set(small, T("b"), bytes_of(23)) == JACKFIELD_KV_FAILED);
    assert(jackfield_kv_set(small, T("b"), bytes_of(22)) == JACKFIELD_OK);
    assert(jackfield_kv_set(small, T("c"), bytes_of(0)) == JACKFIELD_KV_FAILED);
    assert(jackfield_kv_set(small, T("a"), bytes_of(999)) == JACKFIELD_OK);
    assert(jackfield_kv_increment(bucket, T("n"), 5, &sum) == JACKFIELD_OK && sum == 5);
    assert(jackfield_kv_increment(bucket, T("n"), INT64_MAX, &sum) == JACKFIELD_KV_FAILED);
    assert(jackfield_kv_set(bucket, T("n"), (jackfield_bytes){(const uint8_t *)"+07", 3}) == JACKFIELD_OK);
    assert(jackfield_kv_increment(bucket, T("n"), -10, &sum) == JACKFIELD_OK && sum == -3);
    jackfield_cas cas;
    assert(jackfield_cas_new(bucket, T("n"), &cas) == JACKFIELD_OK);
    assert(jackfield_kv_delete(bucket, T("n")) == JACKFIELD_OK);
    assert(jackfield_cas_swap(&cas, bytes_of(1)) == JACKFIELD_CAS_FAILED);
    assert(jackfield_cas_swap(&cas, bytes_of(1)) == JACKFIELD_OK);
    assert(jackfield_cas_current(cas, &found, &value) == JACKFIELD_OK && found && value.length == 1);
    jackfield_pair pairs[257];
    jackfield_text keys[257];
    for (int i = 0; i < 257; i++) {
        keys[i] = jackfield_format("k%03d", i);
        pairs[i] = (jackfield_pair){keys[i], bytes_of(1)};
    }
    const jackfield_entry *entries;
    assert(jackfield_kv_set_many(bucket, pairs, 257) == JACKFIELD_KV_FAILED);
    assert(jackfield_kv_set_many(bucket, pairs, 256) == JACKFIELD_OK);
    assert(jackfield_kv_get_many(bucket, (jackfield_texts){keys, 257}, &entries) == JACKFIELD_KV_FAILED);
    assert(jackfield_kv_get_many(bucket, (jackfield_texts){keys + 1, 256}, &entries) == JACKFIELD_OK);
    assert(entries[0].found && !entries[255].found);
    size_t count = 0;
    jackfield_keys all = jackfield_all_keys(bucket);
    while (jackfield_keys_next(&all)) count++;
    assert(all.error == JACKFIELD_OK && count == 257);
    assert(jackfield_kv_delete_many(bucket, (jackfield_texts){keys, 256}) == JACKFIELD_OK);
    assert(jackfield_kv_exists(bucket, T("k000"), &found) == JACKFIELD_OK && !found);
}

static void no_buckets(const jackfield_context *context) {
    (void)context;
    jackfield_bucket bucket;
    assert(jackfield_kv_open(T("data"), &bucket) == JACKFIELD_ACCESS_DENIED);
}

static void settings(const jackfield_context *context) {
    (void)context;
    bool found;
    jackfield_text value;
    jackfield_fields all;
    assert(jackfield_config_get(T("greeting"), &found, &value) == JACKFIELD_OK && found && value.length == 5);
    assert(jackfield_config_get(T("other"), &found, &value) == JACKFIELD_OK && !found);
    assert(jackfield_config_get_all(&all) == JACKFIELD_OK && all.count == 1);
    jackfield_log(JACKFIELD_INFO, T("a line"));
    assert(jackfield_text_equals(jackfield_current_connection().identity.source_ip, T("127.0.0.1")));
}

static void close_b(const jackfield_context *context) {
    (void)context;
    jackfield_text b = jackfield_test_id("b");
    jackfield_close_frame frame = {4001, T("done")};
    jackfield_connection_info info;
    assert(jackfield_get_connection(b, &info) == JACKFIELD_OK);
    assert(jackfield_delete_connection(b, &frame) == JACKFIELD_OK);
    assert(jackfield_delete_connection(b, &frame) == JACKFIELD_GONE);
    assert(jackfield_get_connection(b, &info) == JACKFIELD_GONE);
    // `$disconnect` runs after this handler.
    assert(last_code == 0);
}

int main(void) {
    memset(long_text, 'x', sizeof(long_text));
    jackfield_payload post;
    jackfield_close_frame frame;

    jackfield_test_reset();
    assert(jackfield_test_connect("a", "?room=red").status == 200);
    assert(jackfield_test_connect("b", "?room=re%64&x=%zz").status == 200);
    assert(jackfield_test_connect("c", "?status=403&room=red").status == 403);
    run(posts);
    assert(jackfield_test_received("a", "1") && !jackfield_test_take_post("a", &post));
    assert(jackfield_test_take_post("b", &post) && post.content.length == 131072);
    assert(jackfield_test_received("b", "1") && jackfield_test_received("b", "2"));
    assert(jackfield_test_take_post("b", &post) && post.is_binary && post.content.length == 2);
    run(rows);
    run(no_buckets);
    jackfield_test_add_bucket("data");
    jackfield_test_add_bucket_with("small", 1024, 2);
    run(buckets);
    jackfield_test_set_config("greeting", "hi");
    jackfield_test_set_config("greeting", "hello");
    run(settings);
    assert(jackfield_test_count_logs("a line") == 1 && jackfield_test_count_logs("another") == 0);
    run(close_b);
    assert(last_code == 4001 && jackfield_test_is_closed("b", &frame) && frame.code == 4001);
    assert(jackfield_test_send("b", "x").failed);
    assert(jackfield_test_failed(jackfield_test_close("a", 4000, "why"), "why"));

    // A message that is too large closes the connection, and so does no other.
    jackfield_test_reset();
    jackfield_test_connect("a", "");
    assert(!jackfield_test_send_to("a", "$default", jackfield_binary_payload(bytes_of(131072))).failed);
    assert(jackfield_test_send_to("a", "$default", jackfield_binary_payload(bytes_of(131073))).failed);
    assert(jackfield_test_is_closed("a", &frame) && frame.code == 1009);

    jackfield_test_reset();
    jackfield_test_connect("a", "");
    for (int i = 0; i < 257; i++) jackfield_test_connect("other", "?room=big");
    run(many_rows);
    jackfield_test_reset();
    puts("ok");
}
