"""What the sidecar says to an upstream by itself, beside what an agent says.

Must not know: where a value comes from, how anything is sent.
"""

from __future__ import annotations

from urllib.parse import quote

from sidecar.config.settable import Group, Secret


class Auth(Group):
    """The credential the sidecar sends to an upstream, as one header."""

    header_name: str
    header_value: Secret


class QueryPart(Group):
    """What the sidecar adds to the address of each request to an upstream."""

    name: str
    value: Secret
    is_secret: bool

    @property
    def sent(self) -> str:
        """As it stands in an address."""
        return f"{self.name}={self.sent_value}"

    @property
    def sent_value(self) -> str:
        """The value as it stands in an address."""
        return quote(self.value.reveal(), safe="")

    def __str__(self) -> str:
        return f"{self.name}={self.value if self.is_secret else self.value.reveal()}"
