"""The events of Lambda that the test double makes are those of a server, whose golden files these are."""

import json
import unittest
from pathlib import Path

from jackfield._double import event_json
from jackfield._double.types import (
    ConnectEvent,
    ConnectionContext,
    DisconnectEvent,
    Event_Connect,
    Event_Disconnect,
    Event_Message,
    Identity,
    MessageEvent,
    Payload_Binary,
    Payload_Text,
    RequestContext,
)

GOLDEN = Path(__file__).resolve().parents[3] / "host/tests/golden"
AUTHORIZER = [("principalId", "user-1"), ("admin", "true"), ("quota", "42")]
HOST = "dl7ptocha9.execute-api.ap-northeast-1.amazonaws.com"


def compact(name: str) -> str:
    text = (GOLDEN / f"{name}.json").read_text()
    return "".join(line.strip().replace('": ', '":', 1) for line in text.splitlines())


def connection(authorizer=(), variables=(), user_agent=None):
    identity = Identity("49.105.91.154", user_agent)
    return ConnectionContext("dl7ptocha9", "prod", HOST, identity, list(authorizer), list(variables))


@unittest.skipUnless(GOLDEN.is_dir(), "the golden files are in the repository, not in the package")
class Events(unittest.TestCase):
    def test_connect(self):
        request = RequestContext("S2IZmeRWIAMCFcA=", "$connect", "S2IZmG8VIAMFcvQ=", 1_707_502_303_420, 1_707_502_303_419)
        headers = [
            ("Host", "127.0.0.1:3001"),
            ("Connection", "keep-alive, Upgrade"),
            ("Upgrade", "websocket"),
            ("cookie", "a=1"),
            ("Origin", "http://localhost:8080"),
            ("User-Agent", "Mozilla/5.0 (X11; Linux x86_64)"),
            ("Accept-Encoding", "gzip, deflate"),
            ("Cookie", "b=2"),
            ("Sec-WebSocket-Protocol", "chat, superchat"),
        ]
        event = Event_Connect(ConnectEvent(headers, [("token", "a b"), ("room", "1"), ("room", "2")]))
        identity = Identity("127.0.0.1", "Mozilla/5.0 (X11; Linux x86_64)")
        variables = [("table", "connections-prod")]
        about = ConnectionContext("abcd123", "prod", "127.0.0.1:3001", identity, AUTHORIZER, variables)
        sent = json.loads(event_json.of_handler(request, about, event))
        golden = json.loads(compact("connect_of_a_browser"))
        self.assertEqual(list(sent), list(golden))
        self.assertEqual(list(sent["headers"]), list(golden["headers"]))
        # The host derives the trace id from the request id in a way of its own.
        for one in (sent, golden):
            self.assertRegex(one["headers"].pop("X-Amzn-Trace-Id"), "^Root=1-65c66adf-.{24}$")
            del one["multiValueHeaders"]["X-Amzn-Trace-Id"]
        self.assertEqual(sent, golden)

    def test_message(self):
        def message(body):
            return Event_Message(MessageEvent("R1knPc2ntjMCFIA=", body))

        request = RequestContext("R1kmxc2VNjMCFIA=", "$default", "R1knPH17NjMFftw=", 1_705_751_700_453, 1_705_751_697_419)
        about = connection(user_agent="Mozilla/5.0 (X11; Linux x86_64)")
        sent = event_json.of_handler(request, about, message(Payload_Text("{\r\n\t\"a\": 1\r\n}")))
        self.assertEqual(sent, compact("message"))
        request.route_key = "sendmessage"
        about = connection(AUTHORIZER, [("table", "connections-prod"), ("mode", "")])
        sent = event_json.of_handler(request, about, message(Payload_Binary(bytes([0, 1, 254, 255]))))
        self.assertEqual(sent, compact("message_binary_after_an_authorizer"))

    def test_disconnect(self):
        request = RequestContext("R1kmxc2VNjMCFIA=", "$disconnect", "R1koeHsUtjMFbRw=", 1_705_751_708_326, 1_705_751_697_419)
        event = Event_Disconnect(DisconnectEvent(1005, "Client-side close frame status not set"))
        sent = event_json.of_handler(request, connection(AUTHORIZER, [("table", "connections-prod")]), event)
        self.assertEqual(sent, compact("disconnect_after_an_authorizer"))

    def test_authorizer(self):
        request = RequestContext("eyo8acKnIAMCFdw=", "$connect", "eyo8aHZUIAMFo3A=", 1_674_162_806_345, 1_674_162_806_344)
        host = "abcdef123.execute-api.us-east-1.amazonaws.com"
        headers = [
            ("Host", host),
            ("Upgrade", "websocket"),
            ("Connection", "Upgrade"),
            ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
            ("Sec-WebSocket-Version", "13"),
            ("Sec-WebSocket-Extensions", "permessage-deflate; client_max_window_bits"),
            ("x-forwarded-proto", "https"),
            ("x-amzn-trace-id", "Root=1-63c9b276-0123456789abcdef01234567"),
            ("HeaderAuth1", "headerValue1"),
        ]
        identity = Identity("192.0.2.1", None)
        about = ConnectionContext("abcdef123", "default", host, identity, [], [("table", "connections-prod")])
        sent = event_json.of_authorizer(request, about, Event_Connect(ConnectEvent(headers, [])))
        self.assertEqual(sent, compact("authorizer_without_a_query"))


if __name__ == "__main__":
    unittest.main()
