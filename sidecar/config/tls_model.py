"""Settings of TLS: texts in PEM form, of listeners and of what is connected to.

Must not know: files, sockets, whether a text is of use.
"""

from __future__ import annotations

from pathlib import Path

from sidecar.config.settable import Group, Secret
from sidecar.config.settable import setting as _setting


class Pem(Group):
    """A text in PEM form: in a file, which is read again when it changes, or given once."""

    path: Path | None = None
    given: Secret | None = None

    @property
    def text(self) -> str:
        """Where it comes from."""
        return str(self.path) if self.path is not None else "***"


class ListenerTls(Group):
    """What a listener needs to speak TLS; with `client_ca` clients must show certificates."""

    cert: Pem
    key: Pem
    client_ca: Pem | None = None

    @property
    def text(self) -> str:
        """Where all of it comes from."""
        parts = {"cert": self.cert, "key": self.key, "client_ca": self.client_ca}
        return ", ".join(f"{name}: {pem.text}" for name, pem in parts.items() if pem is not None)


class UpstreamTls(Group):
    """Of an https upstream; what stands in files is taken over when it changes."""

    ca: Pem | None = _setting(
        "the authorities that vouch for it, in place of the system's; changed files of these three "
        "are taken over while it serves",
        None,
        form="ref, PEM",
        default_text="the system's authorities",
    )
    cert: Pem | None = _setting(
        "the certificate shown to it, with its chain",
        None,
        form="ref, PEM",
        default_text="none is shown",
    )
    key: Pem | None = _setting(
        "the key of that certificate", None, form="ref, PEM", default_text="none"
    )
