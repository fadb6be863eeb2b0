"""`ssl` without TLS: clients of HTTP create contexts with it and wrap sockets, and the host does TLS.

The host always verifies the certificate and the name in it, with the root certificates that it has, whatever a context
says: `CERT_NONE` and other root certificates have no effect. Client certificates are refused.
"""

import enum

from .importer import ADVICE
from .sockets import Socket, TlsSocket as SSLSocket

HAS_SNI = HAS_ALPN = HAS_TLSv1_2 = HAS_TLSv1_3 = True
HAS_NEVER_CHECK_COMMON_NAME = True
# Clients compare it with the oldest version of OpenSSL that they work with.
OPENSSL_VERSION = "OpenSSL 3.0.0 (the interface; TLS is done by the host)"
OPENSSL_VERSION_NUMBER = 0x30000000
OPENSSL_VERSION_INFO = (3, 0, 0, 0, 0)
_DEFAULT_CIPHERS = "DEFAULT"


class VerifyMode(enum.IntEnum):
    CERT_NONE, CERT_OPTIONAL, CERT_REQUIRED = range(3)


CERT_NONE, CERT_OPTIONAL, CERT_REQUIRED = VerifyMode


class TLSVersion(enum.IntEnum):
    MINIMUM_SUPPORTED = -2
    SSLv3 = 768
    TLSv1 = 769
    TLSv1_1 = 770
    TLSv1_2 = 771
    TLSv1_3 = 772
    MAXIMUM_SUPPORTED = -1


class Purpose(enum.Enum):
    SERVER_AUTH = "1.3.6.1.5.5.7.3.1"
    CLIENT_AUTH = "1.3.6.1.5.5.7.3.2"


class SSLError(OSError):
    library = reason = None


class SSLCertVerificationError(SSLError, ValueError):
    pass


CertificateError = SSLCertVerificationError


class SSLWantReadError(SSLError):
    pass


class SSLWantWriteError(SSLError):
    pass


class SSLSyscallError(SSLError):
    pass


class SSLEOFError(SSLError):
    pass


class SSLZeroReturnError(SSLError):
    pass


def _refuse(*arguments, **keywords):
    raise OSError(f"this use of TLS needs native code and sockets, which a Python script does not have: {ADVICE}")


class SSLContext:
    """Its settings have no effect."""

    def __init__(self, protocol=None):
        self.protocol = PROTOCOL_TLS if protocol is None else protocol
        self.options = self.verify_flags = 0
        self.minimum_version, self.maximum_version = TLSVersion.TLSv1_2, TLSVersion.MAXIMUM_SUPPORTED
        self.check_hostname = self.protocol == PROTOCOL_TLS_CLIENT
        self.verify_mode = CERT_REQUIRED if self.check_hostname else CERT_NONE
        self.hostname_checks_common_name = False
        self.post_handshake_auth = False
        self.keylog_filename = None

    def load_verify_locations(self, cafile=None, capath=None, cadata=None):
        pass

    def load_default_certs(self, purpose=Purpose.SERVER_AUTH):
        pass

    set_default_verify_paths = load_default_certs

    def set_alpn_protocols(self, protocols):
        pass

    def set_ciphers(self, ciphers):
        pass

    def get_ca_certs(self, binary_form=False):
        return []

    def cert_store_stats(self):
        return {"x509": 0, "crl": 0, "x509_ca": 0}

    load_cert_chain = wrap_bio = _refuse

    def wrap_socket(self, sock, server_side=False, do_handshake_on_connect=True, suppress_ragged_eofs=True,
                    server_hostname=None, session=None):  # fmt: skip
        if server_side or not isinstance(sock, Socket):
            _refuse()
        return SSLSocket(sock, self, server_hostname)


class SSLObject:
    def __init__(self, *arguments, **keywords):
        _refuse()


class MemoryBIO(SSLObject):
    pass


def create_default_context(purpose=Purpose.SERVER_AUTH, *, cafile=None, capath=None, cadata=None):
    return SSLContext(PROTOCOL_TLS_CLIENT)


def _create_unverified_context(*arguments, **keywords):
    context = SSLContext(PROTOCOL_TLS)
    context.check_hostname, context.verify_mode = False, CERT_NONE
    return context


_create_default_https_context = create_default_context
_create_stdlib_context = _create_unverified_context
get_server_certificate = _refuse

PROTOCOL_TLS = PROTOCOL_SSLv23 = 2
PROTOCOL_TLS_CLIENT, PROTOCOL_TLS_SERVER = 16, 17
PROTOCOL_TLSv1, PROTOCOL_TLSv1_1, PROTOCOL_TLSv1_2 = 3, 4, 5
SSL_ERROR_WANT_READ, SSL_ERROR_WANT_WRITE, SSL_ERROR_EOF = 2, 3, 8


def __getattr__(name):
    # Options are numbers that are only passed on.
    if name.startswith(("OP_", "VERIFY_", "ALERT_")):
        return 0
    raise AttributeError(f"module 'ssl' of a Python script has no attribute {name!r}")
