import unittest

from echo import handler
from jackfield.testing import Host


class Echo(unittest.TestCase):
    def setUp(self) -> None:
        self.peer = Host().connect(handler)

    def test_each_message_is_sent_back(self) -> None:
        others = ['{"action":"other","content":"x"}', '{"action":"echo"}', '{"action":"echo","content":1}', '["echo"]']
        for message in ["hello", "", '"echo"', "{", b"\x00\xff", b"", *others]:
            self.assertEqual(self.peer.send(message).body, message)

    def test_only_the_content_of_an_echo_request_is_sent_back(self) -> None:
        self.assertEqual(self.peer.send('{"action":"echo","content":"hello"}').body, "hello")


if __name__ == "__main__":
    unittest.main()
