"""`ssl` without TLS: packages that only name its classes can be imported, and a use of them is refused by name."""

import enum

from .importer import ADVICE

HAS_SNI = HAS_ALPN = True
HAS_NEVER_CHECK_COMMON_NAME = True
OPENSSL_VERSION = "none"
OPENSSL_VERSION_NUMBER = 0
OPENSSL_VERSION_INFO = (0, 0, 0, 0, 0)
CERT_NONE, CERT_OPTIONAL, CERT_REQUIRED = range(3)


class VerifyMode(enum.IntEnum):
    CERT_NONE, CERT_OPTIONAL, CERT_REQUIRED = range(3)


class TLSVersion(enum.IntEnum):
    MINIMUM_SUPPORTED, TLSv1_2, TLSv1_3, MAXIMUM_SUPPORTED = range(4)


class SSLError(OSError):
    pass


class SSLCertVerificationError(SSLError, ValueError):
    pass


CertificateError = SSLCertVerificationError


class SSLWantReadError(SSLError):
    pass


class SSLWantWriteError(SSLError):
    pass


class SSLEOFError(SSLError):
    pass


class SSLZeroReturnError(SSLError):
    pass


def _refuse(*arguments, **keywords):
    raise OSError(f"TLS needs native code and sockets, which a Python script does not have: {ADVICE}")


class SSLContext:
    def __init__(self, *arguments, **keywords):
        _refuse()


class SSLSocket:
    def __init__(self, *arguments, **keywords):
        _refuse()


class SSLObject(SSLSocket):
    pass


class MemoryBIO(SSLSocket):
    pass


create_default_context = get_server_certificate = wrap_socket = _refuse
_create_unverified_context = _create_default_https_context = _refuse


def __getattr__(name):
    # Options and protocols are numbers that are only passed on.
    if name.startswith(("OP_", "PROTOCOL_", "VERIFY_", "ALERT_")):
        return 0
    raise AttributeError(f"module 'ssl' of a Python script has no attribute {name!r}")
