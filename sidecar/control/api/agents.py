"""Agents and their runs: who may call, in which standing, and what their work has gathered.

Knows: that an agent stands in the configuration, in the store, or in both, and that the store has
the last word on its standing; tokens are shown once, when they are made, and never again.
"""

from __future__ import annotations

from functools import partial
from typing import Any, Final

import orjson
from pydantic import Field

from sidecar.control.api.paging import page_of, place
from sidecar.control.api.parameters import Choice, Parameter, Text, in_path
from sidecar.control.api.problems import not_found
from sidecar.control.api.rooms import kept
from sidecar.control.api.route import (
    NAME_PATTERN,
    OPERATORS,
    READERS,
    Asked,
    Body,
    Line,
    Listed,
    Reason,
    Route,
    Shape,
)
from sidecar.identity.agent_states import Move
from sidecar.identity.changes import AgentChanged, ChangeRefused
from sidecar.identity.profiles import AgentProfile
from sidecar.model import RiskLevel
from storage.standing import AgentRow

ROOM: Final = "agents"
READ_S: Final = 10.0
_RISKS: Final = {level.label: level for level in RiskLevel}
STATES: Final = ("active", "frozen", "quarantined", "revoked", "deleted")
VERBS: Final = {
    "freeze": "No call of the agent goes ahead until it is unfrozen; decisions in flight are stale",
    "unfreeze": "A frozen agent may call again",
    "quarantine": "The agent is not known any more until it is restored",
    "restore": "An agent that was quarantined may call again",
    "revoke": "The agent may not call again, for good",
    "delete": "The agent is gone, for good; its receipts stay",
}


class AgentShape(Shape):
    """An agent. `has_token` says whether the store has a token of its own for it."""

    id: str
    agent_key: str
    state: str
    team: str
    environment: str
    risk: str
    trust: str
    is_configured: bool
    has_token: bool
    version: int
    changed_at_us: int | None


class TokenShape(Shape):
    """An agent's new token. It is shown this once."""

    id: str
    agent_key: str
    agent_id: str
    agent_token: str
    seq: int | None


class StandingShape(Shape):
    """An agent's standing after a change, and the receipt that says so; null where it stood so
    already."""

    agent_id: str
    status: str
    seq: int | None


class RunShape(Shape):
    """What an agent's run has gathered; nulls where nothing is kept of it."""

    tenant: str
    agent: str
    version: int
    trust: str | None = None
    labels: list[str] = Field(default_factory=list)
    started_us: int | None = None
    last_us: int | None = None
    lowered_by: str | None = None
    lowered_in: str | None = None
    lowered_at_us: int | None = None
    has_ended: bool | None = None
    unreadable: str | None = None
    seq: int | None = None


class NewAgent(Body):
    """An agent to be known from now on; what is left out is as usual."""

    agent_key: str = Field(pattern=NAME_PATTERN)
    name: Line = Field("", max_length=256, description="taken and not kept: agents have one name")
    owner_team: Line = Field("", max_length=256)
    environment: Line = Field("", max_length=256)
    risk_tier: str = Field("medium", pattern=r"^(low|medium|high|critical)$")
    reason: Line = Field("", max_length=1024)


class ResetRun(Reason):
    """Why a run is ended; `run_id` names one of several."""

    run_id: Line = Field("", max_length=256)


async def every_agent(asked: Asked) -> dict[str, dict[str, Any]]:
    """All agents of the tenant, by id."""
    tenant = asked.rooms.config.tenants.get(asked.tenant)
    found = {}
    for name, agent in (tenant.agents if tenant is not None else {}).items():
        found[name] = {
            "id": name, "agent_key": name, "state": "active", "team": agent.team,
            "environment": agent.environment, "risk": agent.risk.label,
            "trust": agent.trust.label, "is_configured": True, "has_token": False, "version": 0,
            "changed_at_us": None,
        }  # fmt: skip
    for row in await asked.rooms.reader.agents(asked.tenant):
        found[row.agent_id] = {**found.get(row.agent_id, _of_profile(row)), **_standing(row)}
    return found


def _of_profile(row: AgentRow) -> dict[str, Any]:
    profile = orjson.loads(row.profile or "{}")
    said = {name: str(profile.get(name, "")) for name in ("team", "environment", "risk", "trust")}
    return {"id": row.agent_id, "agent_key": row.agent_id, **said, "is_configured": False}


def _standing(row: AgentRow) -> dict[str, Any]:
    return {
        "state": row.state,
        "has_token": bool(row.token_sha256),
        "version": row.version,
        "changed_at_us": row.changed_at_us,
    }


async def list_agents(asked: Asked) -> Listed:
    """By id."""
    agents, wanted = await every_agent(asked), asked.values["status"]
    after = place(asked, "")
    ids = sorted(
        name for name, one in agents.items() if name > after and wanted in ("", one["state"])
    )
    return page_of(ids, asked, agents.__getitem__, str)


async def get_agent(asked: Asked) -> dict[str, Any]:
    """One agent."""
    found = (await every_agent(asked)).get(asked.values["agent_id"])
    if found is None:
        raise not_found("agent", asked.values["agent_id"])
    return found


async def register_agent(asked: Asked) -> dict[str, Any]:
    """Makes an agent known, with a token."""
    new, changes, actor = asked.body, asked.rooms.changes, asked.person.actor
    profile = AgentProfile(new.owner_team, new.environment, _RISKS[new.risk_tier])
    try:
        made = await changes.register_agent(
            asked.tenant, new.agent_key, profile, actor=actor, reason=new.reason
        )
    except ChangeRefused as refused:
        if refused.code != "agent_exists":
            raise
        # Nothing else of it changes, and what has ended is not revived.
        made = await changes.rotate_token(
            asked.tenant, new.agent_key, actor=actor, reason=new.reason or "registered again"
        )
    return _token(made)


async def rotate_token(asked: Asked) -> dict[str, Any]:
    """Another token for an agent that is there."""
    await get_agent(asked)
    return _token(
        await asked.rooms.changes.rotate_token(
            asked.tenant, asked.values["agent_id"], actor=asked.person.actor,
            reason=asked.body.reason,
        )
    )  # fmt: skip


async def move_agent(move: Move, asked: Asked) -> dict[str, Any]:
    """Changes the standing of an agent that is there."""
    await get_agent(asked)
    changed = await asked.rooms.changes.move(
        asked.tenant, asked.values["agent_id"], move, actor=asked.person.actor,
        reason=asked.body.reason,
    )  # fmt: skip
    agent = changed.agent
    return {"agent_id": agent.agent, "status": agent.state.value, "seq": changed.seq}


def _token(made: AgentChanged) -> dict[str, Any]:
    name = made.agent.agent
    return {
        "id": name, "agent_key": name, "agent_id": name, "agent_token": made.token or "",
        "seq": made.seq,
    }  # fmt: skip


async def get_run(asked: Asked) -> dict[str, Any]:
    """What an agent's run has gathered."""
    await get_agent(asked)
    runs = kept(asked.rooms.state.runs, "runs")
    return await runs.show(
        asked.values["agent_id"],
        asked.tenant,
        asked.values["run_id"],
        is_known=True,
        read=asked.rooms.reader.run_head,
    )


async def reset_run(asked: Asked) -> dict[str, Any]:
    """Ends an agent's run, on record."""
    await get_agent(asked)
    runs = kept(asked.rooms.state.runs, "runs")
    return await runs.reset(
        asked.values["agent_id"], asked.tenant, asked.body.reason, asked.body.run_id,
        actor=asked.person.actor,
        is_known=True,
    )  # fmt: skip


AGENT: Final = in_path("agent_id", "its name")

ROUTES: Final = (
    Route(
        "list_agents", "GET", "/v1/agents", "Agents, by name", READERS, list_agents,
        list[AgentShape], (Parameter("status", Choice(STATES), "in this standing", ""),),
        pages="offset", time_limit_s=READ_S, room=ROOM,
    ),
    Route(
        "register_agent", "POST", "/v1/agents/register",
        "Makes an agent known and gives it a token, which is shown this once; of one that is "
        "known, another token and nothing else",
        OPERATORS, register_agent, TokenShape, body=NewAgent,
        problems=("refused",), room=ROOM,
    ),
    Route(
        "get_agent", "GET", "/v1/agents/{agent_id}", "One agent", READERS, get_agent, AgentShape,
        (AGENT,), problems=("not_found",), time_limit_s=READ_S, room=ROOM,
    ),
    Route(
        "get_run", "GET", "/v1/agents/{agent_id}/run", "What an agent's run has gathered",
        READERS, get_run, RunShape,
        (AGENT, Parameter("run_id", Text(), "one of several runs", "")),
        problems=("not_found",), time_limit_s=READ_S, room=ROOM,
    ),
    Route(
        "reset_run", "POST", "/v1/agents/{agent_id}/run/reset", "Ends an agent's run, on record",
        OPERATORS, reset_run, RunShape, (AGENT,), body=ResetRun, is_body_optional=True,
        problems=("not_found", "refused"), room=ROOM,
    ),
    Route(
        "rotate_token", "POST", "/v1/agents/{agent_id}/rotate-token",
        "Gives an agent another token, which is shown this once",
        OPERATORS, rotate_token, TokenShape, (AGENT,), body=Reason, is_body_optional=True,
        problems=("not_found", "refused"), room=ROOM,
    ),
    *(
        Route(
            f"{verb}_agent", "POST", f"/v1/agents/{{agent_id}}/{verb}", summary,
            OPERATORS, partial(move_agent, Move(verb)), StandingShape, (AGENT,),
            body=Reason, is_body_optional=True,
            problems=("not_found", "refused"), room=ROOM,
        )
        for verb, summary in VERBS.items()
    ),
)  # fmt: skip
