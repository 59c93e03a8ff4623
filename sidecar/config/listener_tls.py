"""`tls` of a listener: its certificate, its key, and whose clients are let in.

Knows: how the three are read from where the configuration says, at start and again later.
Must not know: sockets, when anything is read again.
"""

from __future__ import annotations

from sidecar.clock import Clock
from sidecar.config.certificates import Material, expired_since, listener_context
from sidecar.config.model import ListenerTls, Pem
from sidecar.config.references import References, read_regular
from sidecar.yaml_section import Section


def read_listener_tls(listener: Section, references: References) -> ListenerTls | None:
    """None if the listener speaks plain HTTP, or after reporting what is wrong."""
    if "tls" not in listener.members:
        return None
    section = listener.sub("tls")
    if section.node is None or not section.node.is_mapping:
        return None
    section.allow(("cert", "key", "client_ca"))
    cert = references.pem(section, "cert", is_private=False)
    key = references.pem(section, "key", is_private=True)
    client_ca = None
    if "client_ca" in section.members:
        client_ca = references.pem(section, "client_ca", is_private=False)
        if client_ca is None:
            return None
    if cert is None or key is None:
        return None
    tls = ListenerTls(cert=cert, key=key, client_ca=client_ca)
    try:
        material = material_of(tls)
        listener_context(material)
        warn_if_expired(section, material.certificate)
    except (ValueError, OSError) as error:
        section.report(section.node, f"{section.path}: {error}")
        return None
    return tls


def warn_if_expired(section: Section, certificate: bytes) -> None:
    """A certificate that has expired can be renewed later: the files are read again. Raises
    ValueError for what is none."""
    since = expired_since(certificate, Clock().now_us())
    if since:
        section.warn(
            section.members["cert"],
            f"{section.key('cert')}: the certificate has expired, {since}: who checks it will not "
            "talk to this sidecar",
            "renew it; where it is a file, that needs no restart",
        )


def material_of(tls: ListenerTls) -> Material:
    """What the configuration refers to, as it is now; raises OSError and ValueError."""
    client_ca = None if tls.client_ca is None else pem_bytes(tls.client_ca, is_private=False)
    return Material(
        pem_bytes(tls.cert, is_private=False), pem_bytes(tls.key, is_private=True), client_ca
    )


def pem_bytes(pem: Pem, *, is_private: bool) -> bytes:
    """A PEM text as it is now; raises OSError, and ValueError as read_regular does."""
    if pem.path is not None:
        return read_regular(pem.path, is_private=is_private)
    return pem.given.reveal().encode() if pem.given is not None else b""
