// A small test double of the host, so that the test of a handler is a plain program of this machine:
//
//     cc -Isdk/include -Isdk/testing test.c handler.c sdk/src/*.c sdk/testing/*.c -lm
//
// (`host.c` compiles to nothing there.) A test connects peers and sends their messages, which call the callbacks of the
// handler, whose host functions are those of the double:
//
//     jackfield_test_reset();
//     jackfield_test_connect("A", "?userId=A");
//     jackfield_response response = jackfield_test_send("A", "hello");
//     assert(jackfield_test_is(response, "hello"));
//
// It has the rows of the connections, posts, buckets and the configuration, with the limits of the host and its order of
// errors. Where the host ends an event with a trap, the double prints the reason to stderr and aborts. It does not have
// subprotocols, authorizers, grants other than those of buckets, the event as JSON, full outboxes, and the limit on the
// number of calls of one event. Pages have 256 items, as on the host.
#ifndef JACKFIELD_TESTING_H
#define JACKFIELD_TESTING_H

#include "jackfield.h"

#ifdef __cplusplus
extern "C" {
#endif

// Begins a test: no connection, no bucket, no configuration. It also frees what the events of the last test returned.
void jackfield_test_reset(void);
// Grants a bucket, like the key `buckets` of the manifest.
void jackfield_test_add_bucket(const char *name);
// Grants a bucket that may hold this much, like `[buckets.NAME]` in the manifest.
void jackfield_test_add_bucket_with(const char *name, uint64_t bytes, uint64_t keys);
void jackfield_test_set_config(const char *key, const char *value);
// Advances the clock, which does not run by itself.
void jackfield_test_advance(uint64_t milliseconds);

// Connects a peer, with a query string such as "?userId=A" or "". A response that is no success, or a failure, leaves
// no connection. Messages have the route "$default"; jackfield_test_send_to has another one.
jackfield_response jackfield_test_connect(const char *peer, const char *query);
jackfield_response jackfield_test_send(const char *peer, const char *text);
jackfield_response jackfield_test_send_to(const char *peer, const char *route_key, jackfield_payload payload);
// Closes the connection of a peer, which calls jackfield_on_disconnect.
jackfield_response jackfield_test_close(const char *peer, uint16_t code, const char *reason);

// The connection id of a peer.
jackfield_text jackfield_test_id(const char *peer);
// Removes the oldest message that was posted to the peer. Returns false if there is none.
bool jackfield_test_take_post(const char *peer, jackfield_payload *post);
// Whether the next post to the peer is this text; the post is removed.
bool jackfield_test_received(const char *peer, const char *text);
// Whether a handler has closed the connection of a peer, and how. `frame` may be NULL.
bool jackfield_test_is_closed(const char *peer, jackfield_close_frame *frame);
// How often a line with this text was logged.
size_t jackfield_test_count_logs(const char *text);
// Whether a response is a success with this text as its body.
bool jackfield_test_is(jackfield_response response, const char *text);
// Whether a response is the failure with this reason.
bool jackfield_test_failed(jackfield_response response, const char *reason);

#ifdef __cplusplus
}
#endif
#endif
