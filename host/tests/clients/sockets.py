"""Runs one scenario with the published library `websockets`, and prints one line for each step.

usage: sockets.py SCENARIO URL
"""

import asyncio
import sys

from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

KIB = 1024


async def ask(socket, text):
    await socket.send(text)
    return await socket.recv()


async def print_close(socket):
    """Waits until the server closes, and prints the code and the reason."""
    try:
        while True:
            await socket.recv()
    except ConnectionClosed as error:
        print("closed", error.rcvd and error.rcvd.code, error.rcvd and error.rcvd.reason)


async def subprotocols(url):
    offered = ["chat.v1", "chat.v2"]
    for chosen in ["?protocol=chat.v2", "?protocol=chat.v1", ""]:
        async with connect(url + chosen, subprotocols=offered) as socket:
            print("subprotocol", socket.subprotocol, await ask(socket, "echo hello"))
    # One that was not offered is not sent: the client would fail the connection.
    async with connect(url + "?protocol=chat.v9", subprotocols=offered) as socket:
        print("subprotocol", socket.subprotocol, await ask(socket, "echo hello"))


async def compression(url):
    async with connect(url) as socket:
        offered = socket.request.headers["Sec-WebSocket-Extensions"]
        print("offered", offered.split(";")[0], "taken", socket.protocol.extensions)
        print(len(await ask(socket, "echo " + "x" * 30_000)))
    async with connect(url, compression=None) as socket:
        print("offered", socket.request.headers.get("Sec-WebSocket-Extensions"), await ask(socket, "echo hello"))


async def pings(url):
    async with connect(url) as socket:
        for payload in [b"", b"payload", b"x" * 125]:
            latency = await asyncio.wait_for(await socket.ping(payload), 10)
            print("pong", latency >= 0)
        print(await ask(socket, "echo hello"))


async def idle(url):
    # Both sides send pings and answer them all the time. Pings do not count as messages.
    async with connect(url, ping_interval=0.1) as socket:
        await print_close(socket)


async def sizes(url):
    async with connect(url) as socket:
        print(len(await ask(socket, "echo " + "x" * (32 * KIB - 5))))
        whole = ["echo ", *["x" * (32 * KIB)] * 3, "x" * (32 * KIB - 5)]
        print(len(await ask(socket, whole)))
        await socket.send("x" * (32 * KIB + 1))
        await print_close(socket)
    async with connect(url) as socket:
        await socket.send([*whole, "x"])
        await print_close(socket)


async def binary(url):
    async with connect(url) as socket:
        print(await ask(socket, b"\x00\xff"))


async def closes(url):
    async with connect(url) as socket:
        print(await ask(socket, "id"))
        await socket.close(4000, "bye")
        print("closed", socket.close_code, socket.close_reason)


async def refused(url):
    for status in [400, 401, 403, 429, 500]:
        try:
            await connect(f"{url}?do=status%20{status}")
        except InvalidStatus as error:
            response = error.response
            kind, request_id = response.headers["x-amzn-ErrorType"], response.headers["x-amzn-RequestId"]
            print(response.status_code, kind, len(request_id), response.body.decode())


scenario, url = sys.argv[1:]
asyncio.run(globals()[scenario](url))
