"""The people of the demo's story: they do what the command line does, over control.sock.

Knows: the paths of control.sock. Must not know: how they are reached, what the story tells.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final

from sidecar.errors import StartRefused

#: Asks the running sidecar at a path of control.sock.
Ask = Callable[[str, dict[str, Any]], Awaitable[dict[str, Any]]]
#: What `soc verify INCIDENT` prints, line by line, and whether the incident holds.
Verify = Callable[[str], Awaitable[tuple[bool, list[str]]]]

#: What has an agent stand as at the beginning again, by how it stands.
_BACK: Final = {"frozen": "unfreeze", "quarantined": "restore"}


class Operator:
    """Approves, ends runs, looks into incidents; `agent` is the demo's only one."""

    def __init__(self, ask: Ask, verify: Verify, agent: str) -> None:
        self._ask = ask
        self.verify = verify
        self._agent = agent

    async def clear_up(self) -> bool:
        """Ends what an earlier playing left: the agent's run, a freeze, open incidents. True if
        there was anything. Raises StartRefused for an agent that has ended for good."""
        about = {"agent": self._agent, "tenant": None, "run_id": ""}
        had_run = "trust" in await self._ask("/runs/show", about)
        if had_run:
            await self.end_run("the demo begins anew")
        left = await self.contained()
        for one in left:
            await self.undo(one["containment_id"], "the demo begins anew")
        for one in await self.open_incidents():
            await self.close(one["incident_id"], "the demo begins anew")
        return await self._had_to_stand_up() or had_run or bool(left)

    async def _had_to_stand_up(self) -> bool:
        state = (await self._ask("/agents/show", {"agent": self._agent}))["state"]
        if state in _BACK:
            moved = {"agent": self._agent, "move": _BACK[state], "reason": "the demo begins anew"}
            await self._ask("/agents/move", moved)
        elif state != "active":
            raise StartRefused(
                f"its agent is {state} in this folder, which is for good: name another with "
                "--folder"
            )
        return state in _BACK

    async def end_run(self, reason: str) -> None:
        """As `runs reset agent`."""
        about = {"agent": self._agent, "tenant": None, "run_id": "", "reason": reason}
        await self._ask("/runs/reset", about)

    async def waiting(self) -> list[dict[str, Any]]:
        """What waits for a yes, as `approvals list`."""
        found: list[dict[str, Any]] = (await self._ask("/approvals/list", {}))["approvals"]
        return [one for one in found if one["state"] == "pending"]

    async def approve(self, approval_id: str, reason: str) -> dict[str, Any]:
        """As `approvals approve ID`."""
        return await self._ask("/approvals/approve", {"id": approval_id, "reason": reason})

    async def open_incidents(self) -> list[dict[str, Any]]:
        """Incidents that are not closed, as `incidents list`."""
        found: list[dict[str, Any]] = (await self._ask("/incidents/list", {}))["incidents"]
        return [one for one in found if one["state"] != "closed"]

    async def contained(self) -> list[dict[str, Any]]:
        """What is contained now, as `containments list`."""
        found: list[dict[str, Any]] = (await self._ask("/containments/list", {}))["containments"]
        return [one for one in found if one["state"] == "active"]

    async def noticed(self) -> tuple[dict[str, Any], dict[str, Any]] | None:
        """The incident that is open, and what was done about it by itself; None while there is
        none."""
        incidents, contained = await self.open_incidents(), await self.contained()
        return (incidents[0], contained[0]) if incidents and contained else None

    async def undo(self, containment_id: str, reason: str) -> dict[str, Any]:
        """As `containments undo ID`."""
        return await self._ask("/containments/undo", {"id": containment_id, "reason": reason})

    async def close(self, incident_id: str, reason: str) -> None:
        """As `incidents close ID`."""
        moved = {"id": incident_id, "move": "close", "reason": reason}
        await self._ask("/incidents/move", moved)
