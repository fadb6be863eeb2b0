"""The errors of host functions: classes to catch, each with the status code that API Gateway has for it."""


class JackfieldError(Exception):
    """A host function failed."""

    status_code = 500
    text = "a host function failed"

    def __init__(self, text: str | None = None):
        super().__init__(text or self.text)


class GoneError(JackfieldError):
    status_code = 410
    text = "the connection does not exist or is closed"


class PayloadTooLargeError(JackfieldError):
    status_code = 413
    text = "the message is larger than the limit for a message"


class LimitExceededError(JackfieldError):
    status_code = 429
    text = "the peer reads too slowly, or the handler sends too much"


class ForbiddenError(JackfieldError):
    status_code = 403
    text = "the manifest does not grant this to the handler"


class NoSuchConnectionError(JackfieldError):
    status_code = 404
    text = "the connection has no row in this stage"


class TooLargeError(JackfieldError):
    status_code = 413
    text = "the row would have more attributes, or longer ones, than the limits allow"


class AccessDeniedError(JackfieldError):
    status_code = 403
    text = "the manifest does not grant this to the handler"


class UnavailableError(JackfieldError):
    status_code = 503
    text = "the store could not be reached"


class KvError(JackfieldError):
    """A bucket failed: 404 if there is none of that name, 403 if it is not granted, 503 for any other reason."""

    def __init__(self, text: str, status_code: int):
        super().__init__(text)
        self.status_code = status_code
