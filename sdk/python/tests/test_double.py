"""The test double of the host, as the tests of a handler use it. The conformance cases test the rest."""

import asyncio
import unittest

from jackfield import (
    DENY,
    UNAUTHORIZED,
    Allow,
    ForbiddenError,
    GoneError,
    KvError,
    LimitExceededError,
    Response,
    authorizer,
    config,
    connections,
    kv,
    log,
    plugin,
    routes,
    store,
)
from jackfield.testing import ConnectError, ConnectionClosed, Host, LogLine, Trap


def join(event, context):
    user = event.query.get("userId")
    if user is None:
        return Response(400, "a user is missing")
    store.add(context.connection_id, "user", user)


def send(event, context):
    message = event.json()
    connections.post_to_matching("user", message["to"], message["text"], except_=context.connection_id)


CHAT = routes({"$connect": join, "send": send, "$default": lambda event, context: "unknown"})


def messages(function):
    return plugin(message=function)


class Chat(unittest.TestCase):
    def setUp(self):
        self.host = Host()

    def test_a_message_is_posted_to_its_receiver(self):
        a, b = self.host.connect(CHAT, "?userId=A"), self.host.connect(CHAT, "?userId=B%20%2B+C&x")
        self.assertEqual(a.send('{"action": "send", "to": "B + C", "text": "hello"}'), Response())
        self.assertEqual(self.host.posts_to(b), ["hello"])
        self.assertEqual(self.host.take_posts_to(b), ["hello"])
        self.assertEqual(self.host.posts_to(b), [])
        self.assertEqual(a.send("hello").body, "unknown")
        self.assertEqual(a.send('{"action": "other"}').body, "unknown")

    def test_a_rejected_peer_leaves_no_row(self):
        with self.assertRaises(ConnectError) as caught:
            self.host.connect(CHAT)
        self.assertEqual(caught.exception.status_code, 400)
        self.assertEqual(caught.exception.response.body, "a user is missing")
        self.assertEqual(list(store.rows()), [])

    def test_a_row_ends_with_its_connection(self):
        peer = self.host.connect(CHAT, "?userId=A")
        self.assertEqual([row.connection_id for row in store.rows("user", "A")], [peer.id])
        peer.close(4000, "why")
        self.assertEqual(peer.closed, (4000, "why"))
        self.assertEqual(list(store.rows()), [])
        with self.assertRaises(GoneError):
            connections.post_to_connection(peer.id, "late")
        with self.assertRaises(ConnectionClosed):
            peer.send("late")


class Handlers(unittest.TestCase):
    def setUp(self):
        self.host = Host()

    def test_a_plugin_without_functions_admits_each_peer_and_sends_no_reply(self):
        peer = self.host.connect(plugin())
        self.assertEqual(peer.response, Response())
        self.assertEqual(peer.send("x"), Response())
        peer.close()

    def test_an_exception_of_the_handler_is_raised(self):
        def fail(event, context):
            raise KeyError("no such room")

        peer = self.host.connect(messages(fail))
        with self.assertRaisesRegex(KeyError, "no such room"):
            peer.send("x")
        self.assertTrue(peer.is_open)

    def test_a_result_that_a_server_refuses_is_an_error(self):
        peer = self.host.connect(messages(lambda event, context: {"key": "value"}))
        with self.assertRaisesRegex(TypeError, "use json.dumps for JSON"):
            peer.send("x")
        peer = self.host.connect(messages(lambda event, context: event.json()["status"] and Response(100)))
        with self.assertRaisesRegex(ValueError, "expected 200 to 599"):
            peer.send('{"status": 1}')

    def test_an_argument_of_another_type_is_an_error_that_names_it(self):
        self.host.add_bucket("b")
        id = self.host.connect(plugin()).id
        bucket = kv.bucket("b")
        for call, expected in [
            (lambda: connections.post_to_connection(None, "x"), "connection_id is a str, not NoneType"),
            (lambda: connections.post_to_connections([id, 1], "x"), "connection_id is a str, not int"),
            (lambda: connections.post_to_matching("room", None, "x"), "value is a str, not NoneType"),
            (lambda: connections.post_to_matching("room", "a", "x", except_=1), "except is a str, not int"),
            (lambda: connections.get_connection(b"x"), "connection_id is a str, not bytes"),
            (lambda: connections.delete_connection(id, 1000, None), "reason is a str, not NoneType"),
            (lambda: store.get(None), "connection_id is a str, not NoneType"),
            (lambda: store.put(id, {"room": None}), "value is a str, not NoneType"),
            (lambda: store.put(id, {"room": ["a", 1]}), "value is a str, not int"),
            (lambda: store.put(id, {1: "a"}), "name is a str, not int"),
            (lambda: store.add(id, "room", 1), "value is a str, not int"),
            (lambda: store.remove(id, "room", 1), "value is a str, not int"),
            (lambda: store.query("room", None), "value is a str, not NoneType"),
            (lambda: store.scan(1), "cursor is a str, not int"),
            (lambda: config.get(None), "name is a str, not NoneType"),
            (lambda: kv.bucket(None).get("k"), "bucket is a str, not NoneType"),
            (lambda: bucket.get(1), "key is a str, not int"),
            (lambda: bucket.set(1, "x"), "key is a str, not int"),
            (lambda: bucket.delete(None), "key is a str, not NoneType"),
            (lambda: bucket.exists(None), "key is a str, not NoneType"),
            (lambda: bucket.list_keys(1), "cursor is a str, not int"),
            (lambda: bucket.increment("k", "1"), "delta is an int of 64 bits, not '1'"),
            (lambda: bucket.increment("k", 2**63), "delta is an int of 64 bits, not 9223372036854775808"),
            (lambda: bucket.get_many(["k", 1]), "key is a str, not int"),
            (lambda: bucket.set_many({1: "x"}), "key is a str, not int"),
            (lambda: bucket.delete_many([None]), "key is a str, not NoneType"),
            (lambda: bucket.update(1, lambda value: "x"), "key is a str, not int"),
        ]:
            with self.assertRaises(TypeError) as caught:
                call()
            self.assertEqual(str(caught.exception), expected)
        self.assertEqual(bucket.increment("k", 2**63 - 1), 2**63 - 1)
        store.remove(id, "room", None)
        self.assertEqual(connections.post_to_matching("room", "a", "x", except_=None), 0)

    def test_a_function_may_be_async(self):
        async def reply(event, context):
            await asyncio.sleep(0)
            return event.bytes()

        self.assertEqual(self.host.connect(messages(reply)).send("x").body, b"x")

        async def test():
            return self.host.connect(messages(reply)).send(b"y").body

        self.assertEqual(asyncio.run(test()), b"y")

    def test_a_message_that_is_too_large_closes_the_connection(self):
        closed = []
        handler = plugin(
            message=lambda event, context: "ok",
            disconnect=lambda event, context: closed.append((event.status_code, event.reason)),
        )
        peer = self.host.connect(handler)
        self.assertEqual(peer.send("x" * 131072).body, "ok")
        with self.assertRaises(ConnectionClosed):
            peer.send("x" * 131073)
        self.assertEqual(closed, [(1009, "a message has at most 131072 bytes, a frame 32768")])

    def test_disconnect_of_a_deleted_connection_runs_after_the_handler(self):
        order = []

        def delete(event, context):
            connections.delete_connection(event.text(), 3001, "bye")
            order.append("message")

        def disconnect(event, context):
            order.append(event.status_code)
            raise ValueError("not now")

        handler = plugin(message=delete, disconnect=disconnect)
        a, b = self.host.connect(handler), self.host.connect(handler)
        a.send(b.id)
        self.assertEqual(order, ["message", 3001])
        self.assertEqual(b.closed, (3001, "bye"))
        self.assertEqual([str(failure) for failure in self.host.failures], ["not now"])

    def test_what_ends_an_event_cannot_be_caught_by_the_handler(self):
        def call(event, context):
            try:
                for _ in range(int(event.text())):
                    store.get(context.connection_id)
            except Exception:
                return "caught"
            return "all"

        peer = self.host.connect(messages(call))
        self.assertEqual(peer.send("10000").body, "all")
        with self.assertRaisesRegex(Trap, "more than 10000 host calls"):
            peer.send("10001")

    def test_half_of_a_surrogate_pair_cannot_be_posted(self):
        def post(event, context):
            log.info("\ud83d")
            try:
                connections.post_to_connection(context.connection_id, "\ud83d")
            except UnicodeEncodeError:
                return "caught"

        self.assertEqual(self.host.connect(messages(post)).send("x").body, "caught")
        self.assertEqual(self.host.logs, [LogLine("info", "\\ud83d")])

    def test_a_handler_cannot_be_a_peer(self):
        peer = self.host.connect(messages(lambda event, context: peer.send("x")))
        with self.assertRaisesRegex(RuntimeError, "must not call"):
            peer.send("x")

    def test_only_plugins_connect(self):
        with self.assertRaisesRegex(TypeError, "found function"):
            self.host.connect(lambda event, context: None)


class HostFunctions(unittest.TestCase):
    def setUp(self):
        self.host = Host()

    def test_the_context_has_the_peer_and_the_values_of_the_manifest(self):
        self.host.set_config("greeting", "hello")
        self.host.set_stage_variable("color", "blue")

        def show(event, context):
            return f"{config.get('greeting')} {context.source_ip} {context.user_agent} {context.authorizer} {context.stage_variables}"

        peer = self.host.connect(
            messages(show), headers={"User-Agent": "a browser"}, source_ip="192.0.2.1", authorizer={"principalId": "a"}
        )
        expected = "hello 192.0.2.1 a browser {'principalId': 'a'} {'color': 'blue'}"
        self.assertEqual(peer.send("x").body, expected)

    def test_the_clock_goes_on_when_the_test_says_so(self):
        times = []
        peer = self.host.connect(messages(lambda event, context: times.append(context.request_time)))
        peer.send("x")
        self.host.advance(1.5)
        peer.send("x")
        self.assertEqual(times[1] - times[0], 1500)

    def test_posts_fail_as_a_test_wants(self):
        peer = self.host.connect(plugin())
        self.host.fail_posts_to(peer, LimitExceededError)
        with self.assertRaises(LimitExceededError):
            connections.post_to_connection(peer.id, "x")
        [gone, failed] = connections.post_to_connections(["no id", peer.id], "x")
        self.assertEqual([type(gone), type(failed)], [GoneError, LimitExceededError])
        self.host.fail_posts_to(peer, ForbiddenError)
        with self.assertRaises(ForbiddenError):
            connections.post_to_connection(peer.id, "x")
        with self.assertRaisesRegex(ValueError, "never fails with KvError"):
            self.host.fail_posts_to(peer, KvError)

    def test_a_bucket_must_be_granted(self):
        games = kv.bucket("games")
        with self.assertRaises(KvError) as caught:
            games.get("key")
        self.assertEqual(caught.exception.status_code, 403)
        self.host.add_bucket("other")
        with self.assertRaises(KvError) as caught:
            games.get("key")
        self.assertEqual(caught.exception.status_code, 404)
        self.host.add_bucket("games", keys=300)
        games.set_many({f"{number:03}": "x" for number in range(256)})
        games.set_many([(f"{number:03}", b"y") for number in range(200, 300)])
        self.assertEqual(list(games.keys()), [f"{number:03}" for number in range(300)])
        with self.assertRaisesRegex(KvError, "is full"):
            games.increment("n")
        self.assertEqual(games.update("000", lambda value: value + b"z"), b"xz")
        self.assertEqual(games.get_text("000"), "xz")

    def test_an_authorizer_decides(self):
        def authorize(event, context):
            token = event.query.get("token")
            if token is None:
                return UNAUTHORIZED
            return Allow("user-1", {"admin": True}) if token == "secret" else DENY

        guard = authorizer(authorize)
        self.assertEqual(self.host.authorize(guard), UNAUTHORIZED)
        self.assertEqual(self.host.authorize(guard, "?token=x"), DENY)
        self.assertEqual(self.host.authorize(guard, "?token=secret"), Allow("user-1", {"admin": "true"}))
        large = authorizer(lambda event, context: Allow("x" * (8192 - len("principalId") + 1)))
        with self.assertRaisesRegex(ValueError, "the maximum is 8192"):
            self.host.authorize(large)

    def test_the_last_host_is_the_one_that_functions_use(self):
        other = Host()
        other.set_config("name", "other")
        self.assertEqual(config.get("name"), "other")
        # An event uses the host of its peer.
        peer = self.host.connect(messages(lambda event, context: config.get("name", "none")))
        self.assertEqual(peer.send("x").body, "none")


if __name__ == "__main__":
    unittest.main()
