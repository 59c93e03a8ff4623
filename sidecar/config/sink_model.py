"""Settings of a sink: who is told of alerts, incidents, containments and approvals.

Must not know: what is told, how a sink is reached.
"""

from __future__ import annotations

from typing import Literal

from sidecar.config.settable import Group, Secret
from sidecar.config.settable import setting as _setting
from sidecar.config.tls_model import UpstreamTls


class Sink(Group):
    """One that is told."""

    name: str
    kind: Literal["webhook", "slack", "syslog", "stdout"] = _setting("what it takes")
    url: Secret | None = _setting(
        "where it is: https (http on this machine, or where `private` is set), or for syslog "
        "`syslog://`, `syslog+tcp://`, `syslog+tls://HOST:PORT`",
        None,
        form="ref",
        default_text="required; none for stdout",
    )
    secret: Secret | None = _setting(
        "what deliveries to a webhook are signed with, at least 16 characters",
        None,
        form="ref",
        default_text="required for webhook; none for the others",
    )
    min_severity: Literal["info", "low", "medium", "high", "critical"] = _setting(
        "it is told of this and worse; approvals and containments count as `high`", "low"
    )
    private: bool = _setting(
        "its name may resolve to private addresses",
        False,
        default_text="false; true for a literal address or localhost",
    )
    approver: str = _setting(
        "a person of `tenants.TENANT.people` whose vote the signed link in approval.requested is; "
        "for webhook and slack. Whoever reads there then decides as this person",
        "",
        form="name",
        default_text="none: no link, only the approval's address",
    )
    tls: UpstreamTls = UpstreamTls()
