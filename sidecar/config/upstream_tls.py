"""`tls:` of an upstream: whom the sidecar trusts there, and the certificate it shows.

Knows: PEM texts, and that only OpenSSL itself can say whether they are of use: it is asked when
the configuration is read, so that a wrong key is a problem of that line and not of the first call.
Must not know: sockets, where a text came from.
"""

from __future__ import annotations

import ssl
from typing import NamedTuple

from sidecar.config.certificates import as_file
from sidecar.config.listener_tls import pem_bytes, warn_if_expired
from sidecar.config.model import Pem, UpstreamTls
from sidecar.config.references import References
from sidecar.verifying_tls import verifying_context
from sidecar.yaml_section import Section

_KEYS = ("ca", "cert", "key")


class ClientMaterial(NamedTuple):
    """PEM texts: who is trusted (None: the system's), the certificate that is shown, its key."""

    ca: bytes | None = None
    cert: bytes | None = None
    key: bytes | None = None


def read_tls(upstream: Section, references: References, *, is_https: bool) -> UpstreamTls:
    """The settings under `tls`; what cannot be used is a problem where it stands."""
    node = upstream.members.get("tls")
    if node is None:
        return UpstreamTls()
    section = upstream.sub("tls")
    section.allow(_KEYS)
    if not is_https:
        upstream.report(node, f"{upstream.key('tls')}: the url is not https, nothing is encrypted")
        return UpstreamTls()
    given: dict[str, Pem] = {}
    for name in _KEYS:
        if name in section.members:
            is_private = name == "key"
            if references.pem_text(section, name, is_private=is_private) is None:
                return UpstreamTls()
            place = references.pem(section, name, is_private=is_private)
            if place is None:
                return UpstreamTls()
            given[name] = place
    if ("cert" in given) != ("key" in given):
        section.report(node, f"{section.path}: cert and key go together")
        return UpstreamTls()
    tls = UpstreamTls(ca=given.get("ca"), cert=given.get("cert"), key=given.get("key"))
    try:
        material = client_material(tls)
        client_context(material)
        if material.cert is not None:
            warn_if_expired(section, material.cert)
    except (ValueError, OSError) as error:
        section.report(node, f"{section.path}: {error}")
        return UpstreamTls()
    return tls


def client_material(tls: UpstreamTls) -> ClientMaterial:
    """What the configuration refers to, as it is now; raises OSError and ValueError."""
    return ClientMaterial(
        None if tls.ca is None else pem_bytes(tls.ca, is_private=False),
        None if tls.cert is None else pem_bytes(tls.cert, is_private=False),
        None if tls.key is None else pem_bytes(tls.key, is_private=True),
    )


def client_context(material: ClientMaterial) -> ssl.SSLContext:
    """How connections to an upstream are secured: TLS 1.2 or later, its name checked.

    Raises ValueError for a text that is of no use.
    """
    try:
        authorities = None if material.ca is None else material.ca.decode("ascii")
        context = verifying_context(authorities)
    except (ssl.SSLError, ValueError):
        raise ValueError("ca holds no usable certificate") from None
    context.set_alpn_protocols(["http/1.1"])
    if material.cert is not None and material.key is not None:
        with as_file(material.key + b"\n" + material.cert) as path:
            try:
                context.load_cert_chain(path, password=_no_password)
            except (ssl.SSLError, OSError):  # its text says which file, not what is wrong
                raise ValueError("cert and key are no certificate with its key") from None
    return context


def _no_password() -> str:
    """OpenSSL would ask the terminal."""
    raise ValueError("the key is encrypted: give it in the clear, by {file: …} or {env: …}")
