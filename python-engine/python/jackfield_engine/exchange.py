"""One request of HTTP and its response, which the host exchanges with a server that the manifest allows."""

import errno
import socket
import weakref

from componentize_py_types import Err
from jackfield.errors import ForbiddenError, LimitExceededError
from wit_world.imports import (
    error,  # noqa: F401  The runtime looks these up by name.
    monotonic_clock,  # noqa: F401
    outgoing_handler,
    poll,  # noqa: F401
)
from wit_world.imports import streams, wasi_http_types as http

_READ_BYTES = 64 * 1024
_METHODS = {
    "GET": http.Method_Get,
    "HEAD": http.Method_Head,
    "POST": http.Method_Post,
    "PUT": http.Method_Put,
    "DELETE": http.Method_Delete,
    "OPTIONS": http.Method_Options,
    "PATCH": http.Method_Patch,
}


class _Open:
    """The resources of an exchange. The host demands that each is released before the one that it belongs to, which the
    collector of garbage does not know: so they are kept until they are closed in this order."""

    _ORDER = ("output", "outgoing", "future", "input", "incoming", "response")

    def __init__(self):
        for name in self._ORDER:
            setattr(self, name, None)

    def release(self, name: str) -> None:
        resource = getattr(self, name)
        if resource is not None:
            setattr(self, name, None)
            resource.__exit__(None, None, None)

    def close(self) -> None:
        for name in self._ORDER:
            self.release(name)


class Exchange:
    """Starts a request. Its body is written with `write` and ended with `finish`; then the response is read."""

    def __init__(self, method: str, is_tls: bool, authority: str, target: str, headers, has_body: bool, timeout):
        self._origin = f"{'https' if is_tls else 'http'}://{authority}"
        self._open = _Open()
        weakref.finalize(self, self._open.close).atexit = False
        made = _METHODS.get(method)
        try:
            request = http.OutgoingRequest(http.Fields.from_list(headers))
            request.set_method(made() if made else http.Method_Other(method))
            request.set_scheme(http.Scheme_Https() if is_tls else http.Scheme_Http())
            request.set_authority(authority)
            request.set_path_with_query(target)
            if has_body:
                self._open.outgoing = request.body()
                self._open.output = self._open.outgoing.write()
        except Err:
            raise OSError(errno.EINVAL, f"the host does not accept the request to {self._origin}: "
                          "its method, its host, its path or one of its headers is not valid") from None  # fmt: skip
        try:
            self._open.future = outgoing_handler.handle(request, _options(timeout))
        except Err as failed:
            self.close()
            raise network_error(failed.value, self._origin) from None

    def write(self, data) -> None:
        """Sends a part of the body. If the host takes no more, it reports why in place of the response."""
        output = self._open.output
        data = bytes(data)
        try:
            while data and output is not None:
                accepted = output.check_write()
                if not accepted:
                    _block(output)
                    continue
                output.write(data[:accepted])
                data = data[accepted:]
        except Err:
            self._open.release("output")

    def finish(self) -> None:
        """Ends the body."""
        self._open.release("output")
        outgoing, self._open.outgoing = self._open.outgoing, None
        if outgoing is None:
            return
        try:
            http.OutgoingBody.finish(outgoing, None)
        except Err:
            pass  # The host reports why in place of the response.

    def head(self) -> tuple[int, list[tuple[str, bytes]]]:
        """Waits for the response. Returns its status and its headers."""
        _block(self._open.future)
        result = self._open.future.get()
        self._open.release("future")
        # The outer result says whether the response was taken before.
        result = getattr(result, "value", result)
        if isinstance(result, Err):
            self.close()
            raise network_error(result.value, self._origin)
        response = getattr(result, "value", result)
        self._open.response = response
        status = response.status()
        with response.headers() as fields:
            headers = fields.entries()
        self._open.incoming = response.consume()
        self._open.input = self._open.incoming.stream()
        return status, headers

    def read(self) -> bytes:
        """Waits for the next part of the response's body; empty at its end."""
        while self._open.input is not None:
            try:
                data = self._open.input.read(_READ_BYTES)
            except Err as failed:
                if isinstance(failed.value, streams.StreamError_Closed):
                    self.close()
                    break
                with failed.value.value as cause:
                    code = http.http_error_code(cause)
                self.close()
                raise network_error(code, self._origin) from None
            if data:
                return data
            _block(self._open.input)
        return b""

    def close(self) -> None:
        """Ends the exchange and its connection."""
        self._open.close()


def _block(resource) -> None:
    with resource.subscribe() as pollable:
        pollable.block()


def _options(timeout: float | None):
    """The timeouts of a socket are those of each of its operations."""
    if timeout is None:
        return None
    options = http.RequestOptions()
    nanoseconds = max(1, int(timeout * 1_000_000_000))
    options.set_connect_timeout(nanoseconds)
    options.set_first_byte_timeout(nanoseconds)
    options.set_between_bytes_timeout(nanoseconds)
    return options


_RESET = (ConnectionResetError, errno.ECONNRESET)
_INVALID = (OSError, errno.EINVAL)
_TIMEOUT = (TimeoutError, errno.ETIMEDOUT)
# By the name of the error: its class, its number, and its text.
_REASONS = {
    "DnsTimeout": (socket.gaierror, -3, "the name of the host could not be looked up in time"),
    "DnsError": (socket.gaierror, -2, "the name of the host could not be looked up"),
    "DestinationNotFound": (socket.gaierror, -2, "the host was not found"),
    "DestinationUnavailable": (ConnectionRefusedError, errno.ECONNREFUSED, "the host is not available"),
    "DestinationIpUnroutable": (OSError, errno.EHOSTUNREACH, "there is no route to the address of the host"),
    "ConnectionRefused": (ConnectionRefusedError, errno.ECONNREFUSED, "the host refused the connection"),
    "ConnectionTerminated": (*_RESET, "the host closed the connection"),
    "ConnectionTimeout": (*_TIMEOUT, "the host did not accept the connection in time"),
    "ConnectionReadTimeout": (*_TIMEOUT, "the host sent nothing for too long"),
    "ConnectionWriteTimeout": (*_TIMEOUT, "the host read nothing for too long"),
    "HttpResponseTimeout": (*_TIMEOUT, "the host did not respond in time"),
    "HttpRequestUriInvalid": (*_INVALID, "the URL is not valid"),
    "HttpRequestMethodInvalid": (*_INVALID, "the method is not available"),
    "HttpRequestUriTooLong": (OSError, errno.EMSGSIZE, "the URL is too long"),
    "HttpRequestHeaderSize": (OSError, errno.EMSGSIZE, "the headers of the request are too large"),
    "HttpRequestBodySize": (OSError, errno.EMSGSIZE, "the body is longer or shorter than its content-length"),
    "HttpResponseIncomplete": (*_RESET, "the response ended before it was complete"),
    "HttpResponseHeaderSize": (OSError, errno.EMSGSIZE, "the headers of the response are too large"),
    "HttpResponseBodySize": (OSError, errno.EMSGSIZE, "the response is too large"),
    "HttpProtocolError": (*_RESET, "the host does not speak HTTP"),
}


# What a socket reports when it connects, before a request is sent.
_OF_CONNECTIONS = {
    "DnsTimeout", "DnsError", "DestinationNotFound", "DestinationUnavailable", "DestinationIpUnroutable",
    "DestinationIpProhibited", "ConnectionRefused", "ConnectionTimeout", "ConnectionLimitReached", "TlsProtocolError",
    "TlsCertificateError", "TlsAlertReceived", "HttpRequestDenied",
}  # fmt: skip


def network_error(code, origin: str) -> Exception:
    """The exception for an error of the host, with the attribute `is_of_connection`. What the manifest does not allow
    is no error of the network, so that it is not one that clients try again."""
    name = type(code).__name__.partition("_")[2] if code is not None else ""
    error = _exception(name, origin)
    error.is_of_connection = name in _OF_CONNECTIONS
    return error


def _exception(name: str, origin: str) -> Exception:
    where = f"the request to {origin} failed"
    if name == "HttpRequestDenied":
        return ForbiddenError(
            f'{where}: the manifest does not allow it; add "{origin}" to allowed_hosts in the section of this '
            f'handler, as in allowed_hosts = ["{origin}"]'
        )
    if name == "DestinationIpProhibited":
        return ForbiddenError(
            f"{where}: the address of the host is private; to allow it, write "
            f'{{ url = "{origin}", private = true }} in allowed_hosts in the section of this handler'
        )
    if name == "ConnectionLimitReached":
        return LimitExceededError(
            f"{where}: too many requests are open, or the event has sent all that it may send"
        )
    if name.startswith("Tls"):
        import ssl

        kind = ssl.SSLCertVerificationError if name == "TlsCertificateError" else ssl.SSLError
        text = "the certificate of the host is not valid" if name == "TlsCertificateError" else "TLS failed"
        return kind(errno.EPROTO, f"{where}: {text}")
    kind, number, text = _REASONS.get(name, (OSError, errno.EIO, f"the host's HTTP client reported {name or 'an error'}"))
    return kind(number, f"{where}: {text}")
