"""How whom we connect to is known: by the system's authorities, or by those that are named.

Knows: OpenSSL's own checks, the same whichever Python runs. From 3.13 on Python adds two of its
own. `VERIFY_X509_STRICT` refuses certificates that a few lines of openssl make; with
`VERIFY_X509_PARTIAL_CHAIN` an authority in between is trusted as if it were the first. An upstream
would be lost, or another trusted, by nothing but a newer interpreter.
Must not know: who is connected to, which certificates are shown.
"""

from __future__ import annotations

import ssl


def verifying_context(authorities: str | None = None) -> ssl.SSLContext:
    """A client's context, names checked, TLS 1.2 or later; `authorities` are PEM, None for those of
    the system. Raises ssl.SSLError and ValueError for a text of no use."""
    context = ssl.create_default_context(cadata=authorities)
    context.verify_flags &= ~(ssl.VERIFY_X509_STRICT | ssl.VERIFY_X509_PARTIAL_CHAIN)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context
