import json
import unittest

from chat import handler
from jackfield import store
from jackfield.testing import ConnectError, Host, Peer


class Chat(unittest.TestCase):
    def setUp(self) -> None:
        self.host = Host()

    def join(self, user: str) -> Peer:
        return self.host.connect(handler, f"?userId={user}")

    def posts(self, peer: Peer) -> list:
        return [json.loads(post) for post in self.host.take_posts_to(peer)]

    def test_a_message_reaches_every_tab_of_its_user_and_the_other_tabs_of_the_sender(self) -> None:
        a, other = self.join("A"), self.join("A")
        tabs = [self.join("B"), self.join("B")]
        for peer in (a, other, *tabs):
            self.posts(peer)
        self.assertIsNone(a.send('{"action":"sendmessage","to":"B","content":"hello"}').body)
        for tab in tabs:
            self.assertEqual(self.posts(tab), [{"type": "message", "from": "A", "content": "hello"}])
        self.assertEqual(self.posts(other), [{"type": "sent", "to": "B", "content": "hello"}])
        self.assertEqual(self.posts(a), [])

    def test_a_user_joins_with_the_first_tab_and_leaves_with_the_last(self) -> None:
        a = self.join("A")
        tabs = [self.join("B"), self.join("B")]
        self.assertEqual(self.posts(a), [{"type": "joined", "user": "B"}])
        self.assertEqual(a.send('{"action":"who"}').body, '{"type":"who","users":["A","B"]}')
        tabs[0].close()
        self.assertEqual(self.posts(a), [])
        tabs[1].close()
        self.assertEqual(self.posts(a), [{"type": "left", "user": "B"}])

    def test_a_peer_without_a_valid_name_is_rejected(self) -> None:
        for user in ("", "%20", "1" * 33):
            with self.assertRaises(ConnectError) as caught:
                self.join(user)
            self.assertEqual(caught.exception.status_code, 400)
        self.join("1" * 32)
        self.assertEqual(len(list(store.rows())), 1)

    def test_a_message_that_cannot_be_handled_gets_an_error(self) -> None:
        a = self.join("A")
        for message, error in [
            ("hello", 'a message is JSON with an "action"'),
            ('{"action":7}', 'a message is JSON with an "action"'),
            ('{"action":"dance"}', 'there is no action "dance" here'),
            ('{"action":"sendmessage","to":"B"}', 'a message needs "to" and "content"'),
            ('{"action":"sendmessage","to":"Z","content":"x"}', "Z is not here"),
        ]:
            self.assertEqual(json.loads(a.send(message).body), {"type": "error", "message": error})


if __name__ == "__main__":
    unittest.main()
