"""`tls:` of an upstream: whom the sidecar trusts there, and the certificate it shows.

Knows: PEM texts, and that only OpenSSL itself can say whether they are of use: it is asked when
the configuration is read, so that a wrong key is a problem of that line and not of the first call.
Must not know: sockets, where a text came from.
"""

from __future__ import annotations

import ssl

from sidecar.config.certificates import as_file
from sidecar.config.model import Secret, UpstreamTls
from sidecar.config.references import References
from sidecar.yaml_section import Section

_KEYS = ("ca", "cert", "key")


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
    given: dict[str, Secret] = {}
    for name in _KEYS:
        if name in section.members:
            text = references.pem_text(section, name, is_private=name == "key")
            if text is None:
                return UpstreamTls()
            given[name] = text
    if ("cert" in given) != ("key" in given):
        section.report(node, f"{section.path}: cert and key go together")
        return UpstreamTls()
    tls = UpstreamTls(ca=given.get("ca"), cert=given.get("cert"), key=given.get("key"))
    try:
        client_context(tls)
    except ValueError as error:
        section.report(node, f"{section.path}: {error}")
        return UpstreamTls()
    return tls


def client_context(tls: UpstreamTls) -> ssl.SSLContext:
    """How connections to an upstream are secured: TLS 1.2 or later, its name checked.

    Raises ValueError for a text that is of no use.
    """
    try:
        authorities = None if tls.ca is None else tls.ca.reveal()
        context = ssl.create_default_context(cadata=authorities)
    except (ssl.SSLError, ValueError):
        raise ValueError("ca holds no usable certificate") from None
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    if tls.cert is not None and tls.key is not None:
        with as_file((tls.key.reveal() + tls.cert.reveal()).encode()) as path:
            try:
                context.load_cert_chain(path, password=_no_password)
            except (ssl.SSLError, OSError):  # its text says which file, not what is wrong
                raise ValueError("cert and key are no certificate with its key") from None
    return context


def _no_password() -> str:
    """OpenSSL would ask the terminal."""
    raise ValueError("the key is encrypted: give it in the clear, by {file: …} or {env: …}")
