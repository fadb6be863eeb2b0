"""Drives the test double of the SDK: one JSON object a line on stdin, and one a line on stdout for each."""

import contextlib
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[4] / "sdk/python"))

from handler import handler  # noqa: E402
from jackfield.testing import ConnectError, Host, Peer, Trap  # noqa: E402
from values import REPLY_PREFIX  # noqa: E402


class Driver:
    host: Host
    peers: dict[str, Peer]

    def answer(self, request: dict) -> dict:
        if "new" in request:
            return self.new(request["new"])
        if "connect" in request:
            return self.connect(request)
        if "send" in request:
            return self.send(self.peers[request["send"]], request)
        if "take-posts" in request:
            posts = self.host.take_posts_to(self.peers[request["take-posts"]])
            return {"posts": [{"text": post} if isinstance(post, str) else {"hex": post.hex()} for post in posts]}
        if "close" in request:
            self.peers[request["close"]].close(request.get("code", 1000), request.get("reason", ""))
            return {}
        if "closed" in request:
            return {"closed": self.peers[request["closed"]].closed}
        if "pass" in request:
            self.host.advance(request["pass"] / 1000)
            return {}
        raise ValueError(f"not a request: {request}")

    def new(self, setup: dict) -> dict:
        self.host, self.peers = Host(setup.get("routes", ())), {}
        self.host.add_bucket("conformance")
        for name, limits in setup.get("buckets", {}).items():
            self.host.add_bucket(name, **limits)
        for name, value in setup.get("config", {}).items():
            self.host.set_config(name, value)
        for name, value in setup.get("stage-variables", {}).items():
            self.host.set_stage_variable(name, value)
        return {}

    def connect(self, request: dict) -> dict:
        headers = [(name, value) for name, value in request.get("headers", ())]
        try:
            peer = self.host.connect(handler, request.get("query", ""), headers=headers)
        except ConnectError as error:
            return {"rejected": error.status_code}
        except (Exception, Trap):
            return {"rejected": 502}
        self.peers[request["connect"]] = peer
        return {}

    def send(self, peer: Peer, request: dict) -> dict:
        body = request["text"] if "text" in request else bytes.fromhex(request["hex"])
        try:
            response = peer.send(body)
        except (Exception, Trap):
            return {"failed": True} if peer.closed is None else {"closed": peer.closed}
        assert isinstance(response.body, str) and response.body.startswith(REPLY_PREFIX), "the handler always replies"
        return {"text": response.body}


driver = Driver()
for line in sys.stdin:
    # A handler may print.
    with contextlib.redirect_stdout(sys.stderr):
        reply = driver.answer(json.loads(line))
    print(json.dumps(reply), flush=True)
