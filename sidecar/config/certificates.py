"""TLS contexts of listeners, from the bytes of certificates, keys and authorities.

Knows: what a listener accepts (TLS 1.2 and later, HTTP/1.1 by ALPN, RFC 7301), and how to say what
is wrong with a certificate. What was read is what is used: files are not opened a second time.
Must not know: settings, where the bytes came from, listeners.
"""

from __future__ import annotations

import os
import ssl
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import NamedTuple

ALPN = ("http/1.1",)


class Material(NamedTuple):
    """PEM texts: a certificate with its chain, its key, and whose clients are let in (None: all,
    without a certificate)."""

    certificate: bytes
    key: bytes
    client_ca: bytes | None = None


class ListenerContext(NamedTuple):
    """A context, and until when its certificate is valid (microseconds UTC)."""

    context: ssl.SSLContext
    expires_us: int


def listener_context(material: Material) -> ListenerContext:
    """The context of a listener; raises ValueError with what is wrong with the material.

    With `client_ca` a client must show a certificate that one of them signed.
    """
    expires = _expires(material.certificate)
    _check_key(material.key)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_CIPHER_SERVER_PREFERENCE
    context.set_alpn_protocols(list(ALPN))
    try:
        with as_file(material.certificate) as certificate, as_file(material.key) as key:
            # An empty password keeps OpenSSL from asking for one on the terminal.
            context.load_cert_chain(certificate, key, password="")
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise ValueError("the key is not that of the certificate") from None
        raise ValueError(f"OpenSSL refuses them: {error.reason or error}") from None
    if material.client_ca is not None:
        _load_authorities(context, material.client_ca)
    return ListenerContext(context, int(expires.timestamp() * 1_000_000))


def _load_authorities(context: ssl.SSLContext, pem: bytes) -> None:
    from cryptography import x509  # here, since most configurations have no certificate

    try:
        x509.load_pem_x509_certificates(pem)
        context.load_verify_locations(cadata=pem.decode("ascii"))
    except (ValueError, ssl.SSLError):
        raise ValueError("client_ca holds no certificates in PEM form") from None
    context.verify_mode = ssl.CERT_REQUIRED


def expired_since(pem: bytes, now_us: int) -> str:
    """Since when a certificate, or one of its chain, is not valid any more; "" if all still are.

    Raises ValueError for what is none.
    """
    expires = _expires(pem)
    return f"{expires:%Y-%m-%d %H:%M} UTC" if expires.timestamp() * 1_000_000 <= now_us else ""


def expiry_us(pem: bytes) -> int:
    """Until when a certificate and its chain are valid; raises ValueError for what is none."""
    return int(_expires(pem).timestamp() * 1_000_000)


def _expires(pem: bytes) -> datetime:
    from cryptography import x509

    try:
        chain = x509.load_pem_x509_certificates(pem)
    except ValueError:
        raise ValueError("cert holds no certificate in PEM form") from None
    return min(one.not_valid_after_utc for one in chain)


def _check_key(pem: bytes) -> None:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        load_pem_private_key(pem, None)
    except UnsupportedAlgorithm as error:
        raise ValueError(f"the key is of a kind that cannot be used: {error}") from None
    except TypeError:
        raise ValueError("the key is encrypted: give it without a passphrase") from None
    except ValueError:
        raise ValueError("key holds no private key in PEM form") from None


@contextmanager
def as_file(pem: bytes) -> Iterator[str]:
    """A path under which OpenSSL finds a text; where the system can, it never reaches a disk."""
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("pem", os.MFD_CLOEXEC)
        try:
            os.write(descriptor, pem)
            yield f"/proc/self/fd/{descriptor}"
        finally:
            os.close(descriptor)
        return
    with tempfile.NamedTemporaryFile() as file:  # readable by nobody else
        file.write(pem)
        file.flush()
        yield file.name
