"""What names an agent in the certificate its client has shown, once TLS has verified it.

Knows: the form in which Python's `ssl` gives a certificate. A SPIFFE ID is the one URI among the
alternative names (SPIFFE X509-SVID section 2); a certificate with several names nobody.
Must not know: sockets, which agents there are.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def subjects_of(certificate: Mapping[str, Any], part: str) -> tuple[str, ...]:
    """The names that count: of `spiffe` the SPIFFE ID, of `cn` the common name; none or one."""
    if part == "spiffe":
        found = [value for kind, value in certificate.get("subjectAltName", ()) if kind == "URI"]
        found = found if len(found) == 1 and found[0].startswith("spiffe://") else []
    else:
        found = [
            value
            for attributes in certificate.get("subject", ())
            for name, value in attributes
            if name == "commonName"
        ]
    return tuple(found) if len(found) == 1 else ()
