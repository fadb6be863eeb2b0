"""Sockets that speak only HTTP: what a client writes to one is a request, which the host sends, and what it reads is the
response. So clients that are written for sockets work unmodified: `http.client`, `urllib.request`, `requests`,
`urllib3` and `botocore`.

The host looks names up, makes connections and does TLS (`ssl`). Nothing is sent before a request is written.
"""

import errno
import select
import socket
from http import HTTPStatus

from . import importer
from .exchange import Exchange
from .state import refuse_while_loading

_HEAD_BYTES_MAX = 64 * 1024
# What the host sets itself, or what is about the connection that it has.
_OWN_HEADERS = {"host", "connection", "keep-alive", "proxy-connection", "transfer-encoding", "te", "trailer", "upgrade",
                "expect", "http2-settings"}  # fmt: skip
_STATUSES = frozenset(HTTPStatus)
_FRAMING = {"transfer-encoding", "connection", "keep-alive"}


def refuse(what: str):
    raise OSError(
        errno.EOPNOTSUPP,
        f"{what} needs sockets, which a Python script has only for requests of HTTP: {importer.ADVICE}",
    )


def refusal(what: str):
    return lambda *arguments, **keywords: refuse(what)


class Socket:
    """A connection of a client to a server of HTTP."""

    def __init__(self, family=-1, type=-1, proto=-1, fileno=None):
        if fileno is not None or (type != -1 and type & 0xF != socket.SOCK_STREAM):
            refuse("a socket that is no stream")
        self.family = socket.AF_INET if family == -1 else family
        self.type, self.proto = socket.SOCK_STREAM, max(proto, 0)
        self._io_refs, self._closed = 0, False
        self._timeout: float | None = None
        self._address: tuple[str, int] | None = None
        self._is_tls = False
        # What was written of the head of a request, until it is complete; the body is passed on as it comes.
        self._head = bytearray()
        self._body: _Body | None = None
        self._exchange: Exchange | None = None
        # What was received and not read, and the error that is raised when it is read.
        self._received = bytearray()
        self._failure: Exception | None = None
        self._was_used = False
        # How much of the response's body is not received yet; `None` if its length is not known.
        self._left: int | None = None
        self._is_head_request = False

    makefile = socket.socket.makefile
    close = socket.socket.close
    _decref_socketios = socket.socket._decref_socketios

    def __enter__(self):
        return self

    def __exit__(self, *arguments):
        if not self._closed:
            self.close()

    def _real_close(self):
        self._end_exchange()

    def connect(self, address):
        refuse_while_loading("a request of HTTP")
        if not isinstance(address, tuple) or not isinstance(address[0], str):
            refuse("a socket of this family")
        self._address = (address[0], int(address[1]))

    def connect_ex(self, address):
        self.connect(address)
        return 0

    def settimeout(self, timeout):
        if timeout is not None and timeout < 0:
            raise ValueError("Timeout value out of range")
        if timeout == 0:
            refuse("a socket that does not block")
        self._timeout = timeout

    def gettimeout(self):
        return self._timeout

    def setblocking(self, flag):
        self.settimeout(None if flag else 0)

    def getblocking(self):
        return True

    def setsockopt(self, *arguments):
        pass

    def getsockopt(self, *arguments):
        return 0

    def getpeername(self):
        if self._address is None:
            raise OSError(errno.ENOTCONN, "the socket is not connected")
        return self._address

    def getsockname(self):
        return ("0.0.0.0", 0)

    def fileno(self):
        if self._closed:
            return -1
        raise OSError(errno.EOPNOTSUPP, "a socket of a Python script has no file descriptor")

    def shutdown(self, how):
        pass

    def detach(self):
        refuse("socket.detach")

    bind, listen, accept = (refusal(f"socket.{name}") for name in ("bind", "listen", "accept"))
    sendto, recvfrom, sendmsg, recvmsg = (refusal(f"socket.{one}") for one in ("sendto", "recvfrom", "sendmsg", "recvmsg"))

    def send(self, data, flags=0):
        data = memoryview(data).cast("B")
        self._write(data)
        return len(data)

    def sendall(self, data, flags=0):
        self._write(memoryview(data).cast("B"))

    def _write(self, data) -> None:
        if self._address is None:
            raise OSError(errno.ENOTCONN, "the socket is not connected")
        while len(data):
            if self._body is not None:
                data = self._body.write(self._exchange, data)
                if self._body.is_ended:
                    self._body = None
                    self._complete()
                continue
            # The head of the next request. Empty lines before it are allowed.
            self._head += data
            data = b""
            end = self._head.find(b"\r\n\r\n")
            if end < 0:
                if not _may_begin_request(self._head) or len(self._head) > _HEAD_BYTES_MAX:
                    refuse("what was written to the socket, which is no request of HTTP,")
                return
            head, data = bytes(self._head[:end]), bytes(self._head[end + 4 :])
            self._head.clear()
            self._begin(head)

    def _begin(self, head: bytes) -> None:
        line, *fields = head.lstrip(b"\r\n").split(b"\r\n")
        try:
            method, target, version = line.decode("latin-1").split(" ")
        except ValueError:
            version = ""
        if not version.startswith("HTTP/1."):
            refuse("what was written to the socket, which is no request of HTTP,")
        if not target.startswith("/") and target != "*":
            refuse("a proxy")
        headers = []
        for field in fields:
            name, _, value = field.partition(b":")
            headers.append((name.decode("latin-1").lower(), value.strip()))
        found = dict(headers)
        if "upgrade" in found:
            refuse("an upgrade of HTTP, as of WebSockets,")
        authority = self._authority(found.get("host"))
        self._end_exchange()
        self._received.clear()
        self._failure, self._was_used = None, True
        self._body = _body(found)
        self._is_head_request = method == "HEAD"
        headers = [(name, value) for name, value in headers if name not in _OWN_HEADERS]
        self._exchange = Exchange(
            method, self._is_tls, authority, target, headers, self._body is not None, self._timeout
        )
        if self._body is None:
            self._complete()
        elif found.get("expect", b"").lower() == b"100-continue":
            self._received += b"HTTP/1.1 100 Continue\r\n\r\n"

    def _complete(self) -> None:
        """Waits for the response to a request that is written. Errors of the connection are raised by the call that
        writes, and others by the one that reads, as clients expect them."""
        exchange = self._exchange
        exchange.finish()
        try:
            status, headers = exchange.head()
        except Exception as error:
            self._exchange = None
            if getattr(error, "is_of_connection", True):
                raise
            self._failure = error
            return
        self._received += _format_head(status, headers, self._is_head_request)
        self._left = _body_length(status, headers, self._is_head_request)
        if self._left == 0:
            self._end_exchange()

    def _end_exchange(self) -> None:
        if self._exchange is not None:
            self._exchange.close()
            self._exchange = None

    def _authority(self, host: bytes | None) -> str:
        """The host and the port to which the socket is connected, which the header `Host` has to name."""
        name, port = self._address
        try:
            name = name.encode("ascii").decode().lower()
        except UnicodeEncodeError:
            name = name.encode("idna").decode()
        if ":" in name:
            name = f"[{name}]"
        if host is not None:
            named = host.decode("latin-1").lower()
            named, colon, digits = named.rpartition(":") if named.rpartition(":")[2].isdecimal() else (named, "", "")
            if named.rstrip(".") != name.rstrip("."):
                raise OSError(
                    errno.EINVAL,
                    f"the request has the header Host: {named}, but the connection is one to {name}: "
                    "the host of a request is the one that it is sent to",
                )
        return name if port == (443 if self._is_tls else 80) else f"{name}:{port}"

    def recv_into(self, buffer, nbytes=0, flags=0):
        view = memoryview(buffer).cast("B")
        wanted = min(len(view), nbytes or len(view))
        if not self._received:
            self._receive()
        count = min(wanted, len(self._received))
        view[:count] = self._received[:count]
        if not flags & getattr(socket, "MSG_PEEK", 2):
            del self._received[:count]
        return count

    def recv(self, bufsize, flags=0):
        buffer = bytearray(bufsize)
        return bytes(buffer[: self.recv_into(buffer, bufsize, flags)])

    def _receive(self) -> None:
        """Waits for more of the response; nothing is added at its end."""
        if self._failure is not None:
            raise self._failure
        if self._exchange is None:
            if not self._was_used:
                refuse("to receive before a request of HTTP was sent")
            return
        if self._body is not None:
            raise OSError(errno.EINVAL, "the response is read, but the body of the request is not complete")
        data = self._exchange.read()
        if self._left is not None:
            self._left -= len(data)
        if not data or self._left == 0:
            self._end_exchange()
        self._received += data

    def has_response(self) -> bool:
        """Whether there is something to read. It may have to be waited for."""
        return bool(self._received) or self._failure is not None or (self._exchange is not None and self._body is None)


def _may_begin_request(head) -> bool:
    """Whether a line can be the first one of a request of HTTP. Other protocols are refused, not waited for."""
    word = bytes(head[:16]).partition(b" ")[0]
    return word.isalpha() and word.isupper() if word else True


def _format_head(status: int, headers, is_head_request: bool) -> bytes:
    phrase = HTTPStatus(status).phrase if status in _STATUSES else ""
    lines = [f"HTTP/1.1 {status} {phrase}".encode()]
    for name, value in headers:
        if name.lower() not in _FRAMING:
            lines.append(name.encode("latin-1") + b": " + value)
    if _body_length(status, headers, is_head_request) is None:
        # The end of the body is the end of the connection.
        lines.append(b"connection: close")
    return b"\r\n".join(lines) + b"\r\n\r\n"


def _body_length(status: int, headers, is_head_request: bool) -> int | None:
    if is_head_request or status in (204, 304):
        return 0
    return next((int(value) for name, value in headers if name.lower() == "content-length"), None)


class _Body:
    """Finds the end of a request's body, and takes the framing of chunks off."""

    def __init__(self, length: int | None):
        # `None`: the body has chunks.
        self._is_chunked = length is None
        self._left = length or 0
        self._line = bytearray()
        self._is_last = False
        self.is_ended = length == 0

    def write(self, exchange: Exchange, data):
        """Passes a part of the body on. Returns what lies behind it."""
        if self._left:
            part = data[: self._left]
            exchange.write(part)
            self._left -= len(part)
            if not self._left and not self._is_chunked:
                self.is_ended = True
            return data[len(part) :]
        # A line: the size of a chunk, the end of one, or a trailer.
        for position, byte in enumerate(bytes(data)):
            self._line.append(byte)
            if byte != 10:
                continue
            line = bytes(self._line).strip()
            self._line.clear()
            if self._is_last:
                self.is_ended = not line
            elif line:
                self._left = int(line.partition(b";")[0], 16)
                self._is_last = not self._left
            if self.is_ended or self._left:
                return data[position + 1 :]
        return data[len(data) :]


def _body(headers: dict[str, bytes]) -> _Body | None:
    if b"chunked" in headers.get("transfer-encoding", b"").lower():
        return _Body(None)
    length = int(headers.get("content-length", b"0"))
    return _Body(length) if length else None


class TlsSocket(Socket):
    """What `SSLContext.wrap_socket` returns: the host does TLS, and always verifies the certificate."""

    def __init__(self, wrapped: Socket, context, server_hostname: str | None):
        super().__init__(wrapped.family)
        self._address, self._timeout = wrapped._address, wrapped._timeout
        self._is_tls = True
        self.context, self.server_hostname, self.server_side = context, server_hostname, False

    def do_handshake(self, block=False):
        pass

    def unwrap(self):
        return self

    def getpeercert(self, binary_form=False):
        raise OSError(
            errno.EOPNOTSUPP, "the host does TLS and verifies the certificate; a Python script cannot read it"
        )

    def version(self):
        return None

    def cipher(self):
        return None

    def compression(self):
        return None

    def selected_alpn_protocol(self):
        return None

    def pending(self):
        return len(self._received)

    def read(self, len=1024, buffer=None):
        return self.recv(len) if buffer is None else self.recv_into(buffer, len)

    def write(self, data):
        return self.send(data)


def _getaddrinfo(host, port, family=0, type=0, proto=0, flags=0):
    """The host looks names up, so an address here has the name."""
    refuse_while_loading("a look-up of a name")
    if isinstance(host, bytes):
        host = host.decode("ascii")
    if host is None:
        refuse("socket.getaddrinfo without a host")
    if isinstance(port, str | bytes) and not port.isdigit():
        name = port if isinstance(port, str) else port.decode()
        port = {"http": 80, "https": 443}.get(name)
        if port is None:
            raise socket.gaierror(-8, f"the name of the port is not known: {name}")
    is_ipv6 = ":" in host
    address = (host, int(port or 0))
    kind = socket.AF_INET6 if is_ipv6 else socket.AF_INET
    return [(kind, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (*address, 0, 0) if is_ipv6 else address)]


def _select(readable, writable, exceptional, timeout=None):
    """Which of these sockets have something to read; all can be written."""
    sockets = [one for one in (*readable, *writable) if not isinstance(one, Socket)]
    if sockets:
        refuse("select.select with other files than sockets")
    return [one for one in readable if one.has_response()], list(writable), []


def install() -> None:
    import _socket

    for name in ("gethostbyname", "gethostbyname_ex", "gethostbyaddr", "getnameinfo", "socketpair", "create_server",
                 "fromfd"):  # fmt: skip
        for module in (socket, _socket):
            if hasattr(module, name):
                setattr(module, name, refusal(f"socket.{name}"))
    for module in (socket, _socket):
        module.getaddrinfo = _getaddrinfo
        module.socket = module.SocketType = Socket
    select.select = _select
    # Clients fall back to `select`.
    for name in ("poll", "epoll", "kqueue"):
        if hasattr(select, name):
            delattr(select, name)
