"""Shows what MCP servers say of their tools and when that was pinned, takes it over, forgets it.

Knows: that accepting and forgetting are one entry: the receipt that tells of it and the pins stand
or fall together; that only what was looked at is accepted, if its hash is given; and that a tool
which has drifted is not forgotten, for what its server says next would be taken over unseen.
Must not know: HTTP, the command line, how a difference is drawn.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from sidecar.counted import counted
from sidecar.ledger.pin_entries import SOCKET_ACTOR
from sidecar.ledger.pin_keeper import PinsUnknown
from sidecar.ledger.tool_definition import why_unknown

if TYPE_CHECKING:
    from sidecar.config.model import Config
    from sidecar.ledger.pin_keeper import PinKeeper
    from storage.standing import PinRow

#: Tools whose definitions are told in one answer; they may be long.
TOLD_MAX: Final = 200


class ToolCareRefused(Exception):
    """Nothing is shown or accepted: `code` is stable, `next_step` says what to do."""

    def __init__(self, code: str, title: str, next_step: str) -> None:
        super().__init__(title)
        self.code = code
        self.title = title
        self.next_step = next_step


class ToolCare:
    """For the MCP upstreams and the tenants there are: of one sidecar's configuration, or of a
    store."""

    def __init__(self, pins: PinKeeper, tenants: Sequence[str], upstreams: Sequence[str]) -> None:
        self._upstreams = upstreams
        self._tenants = tenants
        self._pins = pins

    @classmethod
    def of_config(cls, config: Config, pins: PinKeeper) -> ToolCare:
        """For what stands in a configuration."""
        upstreams = [name for name, one in config.upstreams.items() if one.kind == "mcp"]
        return cls(pins, list(config.tenants), upstreams)

    async def drifted(self, upstream: str, tenant: str) -> dict[str, Any]:
        """Every tool that is not what it was pinned to, with both definitions; "" means all
        upstreams, all tenants. Raises ToolCareRefused."""
        found: list[PinRow] = []
        pinned = 0
        for named in self._named_tenants(tenant):
            for one in self._named_upstreams(upstream):
                rows = await self._rows(named, one)
                pinned += len(rows)
                found += [row for row in rows if row.seen_sha256]
        return drift_told(pinned, found)

    async def accept(
        self,
        upstream: str,
        tools: Sequence[str] | None,
        tenant: str,
        seen: str,
        reason: str,
        *,
        actor: str = SOCKET_ACTOR,
    ) -> dict[str, Any]:
        """Takes over what the server says of these tools (None: of all that drifted), on record as
        done by `actor`.

        `seen` is how the hash of what was looked at begins, "" for whatever was last seen. Raises
        ToolCareRefused.
        """
        named, pinned = await self._pinned(tenant, upstream)
        rows = {tool: row for tool, row in pinned.items() if row.seen_sha256}
        wanted = sorted(rows) if tools is None else list(tools)
        for tool in wanted:
            if tool not in pinned:
                raise ToolCareRefused(
                    "not_drifted",
                    f"no tool {tool!r} of {upstream} is pinned, so there is nothing to accept",
                    "A tool is pinned once a list with it was shown. Is its name written so?",
                )
            if tool not in rows:
                raise ToolCareRefused(
                    "not_drifted",
                    f"{upstream}/{tool} has not drifted, so there is nothing to accept",
                    "`tools diff` shows what has.",
                )
            if not rows[tool].seen_sha256.startswith(seen):
                raise ToolCareRefused(
                    "stale_pins",
                    f"{upstream}/{tool} is {rows[tool].seen_sha256[:12]} by now, not {seen}",
                    "Look again with `tools diff`.",
                )
            why = why_unknown(rows[tool].seen)
            if why:
                raise ToolCareRefused(
                    "unreadable_definition",
                    f"what the server says of {upstream}/{tool} cannot be taken over: {why}",
                    "The server has to say it in another way. Other tools can be named one by one.",
                )
        accepted = [rows[tool] for tool in wanted]
        said: dict[str, Any] = {
            "tenant": named,
            "upstream": upstream,
            "accepted": {row.tool: row.seen_sha256 for row in accepted},
        }
        if accepted:
            try:
                said["seq"] = await self._pins.accept(named, upstream, accepted, reason, actor)
            except PinsUnknown as error:
                raise _refused(error) from error
        return said

    async def forget(
        self,
        upstream: str,
        tools: Sequence[str] | None,
        tenant: str,
        reason: str,
        *,
        actor: str,
        is_tried: bool = False,
    ) -> dict[str, Any]:
        """Unpins these tools (None: all of the upstream), on record as done by `actor`: what a list
        says of them next is first seen, and pinned. With `is_tried` only says which they are.

        Raises ToolCareRefused.
        """
        named, pinned = await self._pinned(tenant, upstream)
        wanted = sorted(pinned) if tools is None else list(dict.fromkeys(tools))
        for tool in wanted:
            if tool not in pinned:
                raise ToolCareRefused(
                    "not_pinned",
                    f"no tool {tool!r} of {upstream} is pinned, so there is nothing to forget",
                    "`tools forget UPSTREAM --all --dry-run` shows those that are.",
                )
        drifted = [tool for tool in wanted if pinned[tool].seen_sha256]
        if drifted:
            raise ToolCareRefused(
                "drifted",
                f"{upstream}/{drifted[0]}{_and_more(len(drifted) - 1)} drifted: once forgotten, "
                "whatever its server says of it next would be pinned unseen",
                "`tools diff` shows what has changed; what `tools accept` took over can be "
                "forgotten.",
            )
        said: dict[str, Any] = {
            "tenant": named,
            "upstream": upstream,
            "forgotten": {tool: pinned[tool].sha256 for tool in wanted},
        }
        if is_tried:
            return {**said, "is_tried": True}
        if wanted:
            rows = [pinned[tool] for tool in wanted]
            try:
                said["seq"] = await self._pins.forget(named, upstream, rows, reason, actor)
            except PinsUnknown as error:
                raise _refused(error) from error
        return said

    async def _pinned(self, tenant: str, upstream: str) -> tuple[str, dict[str, PinRow]]:
        """The tenant that is meant, and the upstream's pins by tool. Raises ToolCareRefused."""
        named = self._only_tenant(tenant)
        self._named_upstreams(upstream)
        return named, {row.tool: row for row in await self._rows(named, upstream)}

    async def _rows(self, tenant: str, upstream: str) -> list[PinRow]:
        try:
            return await self._pins.pins(tenant, upstream)
        except PinsUnknown as error:
            raise _refused(error) from error

    def _named_upstreams(self, upstream: str) -> Sequence[str]:
        if not upstream:
            return self._upstreams
        if upstream not in self._upstreams:
            known = ", ".join(sorted(self._upstreams)) or "none"
            raise ToolCareRefused(
                "unknown_upstream",
                f"there is no MCP upstream {upstream!r}; there are: {known}",
                "Upstreams stand in sidecar.yaml; pins belong to those of `kind: mcp`.",
            )
        return [upstream]

    def _named_tenants(self, tenant: str) -> Sequence[str]:
        if tenant and tenant not in self._tenants:
            raise ToolCareRefused(
                "unknown_tenant",
                f"there is no tenant {tenant!r}",
                "Tenants stand in sidecar.yaml.",
            )
        return [tenant] if tenant else self._tenants

    def _only_tenant(self, tenant: str) -> str:
        named = self._named_tenants(tenant)
        if len(named) != 1:
            raise ToolCareRefused(
                "ambiguous_tenant",
                f"tenants have pins of their own; there are: {', '.join(named) or 'none'}",
                "Name one with --tenant.",
            )
        return named[0]


def _and_more(count: int) -> str:
    return f" and {counted(count, 'other tool')} have" if count else " has"


def _refused(error: PinsUnknown) -> ToolCareRefused:
    return ToolCareRefused(error.code, str(error), error.next_step)


def drift_told(pinned: int, drifted: Sequence[PinRow]) -> dict[str, Any]:
    """What has drifted of so many pins, as plain values."""
    return {
        "pinned": pinned,
        "drifted": len(drifted),
        "tools": [_told(row) for row in drifted[:TOLD_MAX]],
    }


def _told(row: PinRow) -> dict[str, Any]:
    return {
        "tenant": row.tenant_id,
        "upstream": row.upstream,
        "tool": row.tool,
        "pinned": row.definition,
        "pinned_sha256": row.sha256,
        "pinned_us": row.at_us,
        "seen": row.seen,
        "seen_sha256": row.seen_sha256,
        "seen_us": row.seen_at_us,
    }
