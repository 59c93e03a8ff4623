"""Policies: the set in force, and what others would make of calls; nothing is put in force here.

Knows: that a rule which cannot be about the tenant is not shown to it; that loading and judging
are computed apart, few at a time, up to so many calls and so long.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Annotated, Any, Final

from pydantic import Field

from sidecar.control.api.backroom import Seat
from sidecar.control.api.candidates import (
    PROBLEMS_TOLD_MAX,
    Candidate,
    CheckShape,
    ProblemShape,
    checked,
    loading,
)
from sidecar.control.api.paging import page_of, place
from sidecar.control.api.parameters import Choice, Parameter, Text
from sidecar.control.api.problems import ApiProblem
from sidecar.control.api.route import MIB, READERS, WHOLE, Asked, Listed, Route, SeqBefore, Shape
from sidecar.control.api.times import time_text
from sidecar.ledger.replaying import judge_page, recorded_pages
from sidecar.policy.index import PolicySet
from sidecar.policy.replay import Replay
from sidecar.policy.rule import Rule
from sidecar.policy_loading import let_go
from sidecar.problems import Position
from storage.retention import CareReader

ROOM: Final = "policies"
READ_S: Final = 10.0
WORK_S: Final = 60.0
TEXTS_BYTES_MAX: Final = 4 * MIB
#: Receipts that one replay reads, those judged in one piece, and how long it goes on.
REPLAYED_MAX: Final = 50_000
PIECE_ROWS: Final = 250
REPLAY_S: Final = 20.0


class PolicySetShape(Shape):
    """The set in force. `files_are_in_force` is false while the files are broken: then `problems`
    says why, and the set is the one before."""

    revision: str
    default: str
    rules: int
    tools: int
    files: list[str]
    loaded_at: str
    loaded_at_us: int
    files_are_in_force: bool
    reloads: int
    failures: int
    problems: list[ProblemShape]


class RuleShape(Shape):
    """A rule of the set in force. Without an effect it only adds limits and obligations. `promote`
    is what `aegis-sidecar policy promote` takes to let one that is in shadow decide."""

    rule: str
    policy: str
    effect: str | None
    mode: str
    tools: list[str]
    exceptions: list[str]
    place: str | None
    promote: str | None


Receipts = Annotated[int, Field(ge=1, le=REPLAYED_MAX), WHOLE]


class Trial(Candidate):
    """Policies to judge recorded calls by, after receipt `after_seq`, at most so many receipts."""

    after_seq: SeqBefore | None = None
    receipts: Receipts = 10_000


class DecidedShape(Shape):
    """What was decided, and by which rule, or by which code where none decided."""

    effect: str
    by: str


class DifferenceShape(Shape):
    """Calls that would be decided otherwise."""

    then: DecidedShape
    now: DecidedShape
    agent: str
    calls: int
    examples: list[str]


class KeptShape(Shape):
    """Calls of which it cannot be told, because these rules read what was not recorded."""

    rules: list[str]
    not_recorded: list[str]
    calls: int
    examples: list[str]


class ReplayShape(Shape):
    """What other policies would have made of calls. `until_seq` is the last receipt that was
    looked at; `is_complete` is false if there are more, to be asked for with `after_seq`."""

    revision: str
    after_seq: int
    until_seq: int
    is_complete: bool
    same: int
    decided_by_another_rule: int
    different: int
    not_judged: int
    differences: list[DifferenceShape]
    kept_from_judging: list[KeptShape]
    passed_over: dict[str, int]


async def list_policies(asked: Asked) -> list[dict[str, Any]]:
    """The one set in force, and whether the files are."""
    keeper = asked.rooms.policies
    found, readable = keeper.current, told_files(asked)
    told = {
        "revision": found.revision,
        "default": found.default,
        "rules": found.rule_count,
        "tools": len(found.catalogue.tools),
        "files": sorted(readable),
        "loaded_at": time_text(keeper.loaded_at_us),
        "loaded_at_us": keeper.loaded_at_us,
        "files_are_in_force": keeper.reload_succeeded,
        "reloads": keeper.reloads,
        "failures": keeper.failures,
        "problems": [one.as_json() for one in keeper.problems if one.position.source in readable][
            :PROBLEMS_TOLD_MAX
        ],
    }
    return [told]


async def list_rules(asked: Asked) -> Listed:
    """By name; those that may be about the tenant."""
    values, keeper = asked.values, asked.rooms.policies
    after = place(asked, "")
    rules = sorted(
        (
            rule
            for rule in keeper.current.rules
            if rule.rule_id > after
            and may_be_about(rule, asked.tenant)
            and values["policy"] in ("", rule.order[0])
            and values["mode"] in ("", rule.mode.value)
        ),
        key=lambda rule: rule.rule_id,
    )
    return page_of(rules, asked, partial(_told, keeper.places), lambda rule: rule.rule_id)


def told_files(asked: Asked) -> frozenset[str]:
    """The files of which this tenant is told: where there are others, none in which all rules are
    about others alone, and none that was never in force."""
    keeper = asked.rooms.policies
    if len(asked.rooms.config.tenants) == 1:
        return frozenset(keeper.files) | {one.position.source for one in keeper.problems}
    mine: set[str] = set()
    others: set[str] = set()
    for rule in keeper.current.rules:
        if (place := keeper.places.get(rule.rule_id)) is not None:
            (mine if may_be_about(rule, asked.tenant) else others).add(place.source)
    return frozenset(place.source for place in keeper.places.values()) - (others - mine)


def may_be_about(rule: Rule, tenant: str) -> bool:
    """Whether a caller of this tenant can be meant by a rule."""
    return all(
        not one.tenants or any(glob.matches(tenant) for glob in one.tenants) for one in rule.callers
    )


def _told(places: Mapping[str, Position], rule: Rule) -> dict[str, Any]:
    found = places.get(rule.rule_id)
    return {
        "rule": rule.rule_id,
        "policy": rule.order[0],
        "effect": rule.effect.value if rule.effect is not None else None,
        "mode": rule.mode.value,
        "tools": [glob.pattern for glob in rule.tools.tools],
        "exceptions": [glob.pattern for glob in rule.tools.exceptions],
        "place": str(found) if found is not None else None,
        "promote": rule.promotable or None,
    }


async def check_policies(asked: Asked) -> dict[str, Any]:
    """Whether texts load, with every problem."""
    with asked.rooms.backroom.seat(asked.person) as seat:
        loaded = await seat.do(loading(asked.rooms.load, asked.body))
        said = checked(loaded)
        if loaded.policy_set is not None:
            await seat.do(partial(let_go, [loaded.policy_set]))
    return said


async def replay_calls(asked: Asked) -> dict[str, Any]:
    """What the texts would have made of recorded calls; the newest, unless `after_seq` says."""
    with asked.rooms.backroom.seat(asked.person) as seat:
        loaded = await seat.do(loading(asked.rooms.load, asked.body))
        if loaded.policy_set is None:
            first = next(one for one in loaded.problems if not one.is_warning)
            raise ApiProblem("refused", f"the policies do not load: {first}", parameter="files")
        try:
            return await _replayed(asked, loaded.policy_set, seat)
        finally:
            await seat.do(partial(let_go, [loaded.policy_set]))


async def _replayed(asked: Asked, policy_set: PolicySet, seat: Seat) -> dict[str, Any]:
    rooms, said = asked.rooms, asked.body
    head, cut = (
        await rooms.reader.head(asked.tenant),
        await CareReader(rooms.reader).cut(asked.tenant),
    )
    after = max(cut.seq, head.seq - said.receipts if said.after_seq is None else said.after_seq)
    at, until = after, min(head.seq, after + said.receipts)
    replay, begun_ns = Replay(policy_set), rooms.clock.monotonic_ns()
    async for read, page in recorded_pages(rooms.reader, asked.tenant, after, until, PIECE_ROWS):
        at = read
        await seat.do(partial(judge_page, replay, page))
        if (rooms.clock.monotonic_ns() - begun_ns) / 1e9 > REPLAY_S:
            break
    return {
        "revision": policy_set.revision, "after_seq": after, "until_seq": at,
        "is_complete": at >= head.seq, **replay.data(),
    }  # fmt: skip


_MODES: Final = ("enforce", "shadow")

ROUTES: Final = (
    Route(
        "list_policies", "GET", "/v1/policies", "The policy set in force, as a list of one",
        READERS, list_policies, list[PolicySetShape], time_limit_s=READ_S, room=ROOM,
    ),
    Route(
        "list_rules", "GET", "/v1/policies/rules", "The rules in force, by name",
        READERS, list_rules, list[RuleShape],
        (
            Parameter("policy", Text(), "of this policy", ""),
            Parameter("mode", Choice(_MODES), "in this mode", ""),
        ),
        pages="cursor", time_limit_s=READ_S, room=ROOM,
    ),
    Route(
        "check_policies", "POST", "/v1/policies/check",
        "Whether policies load, with every problem; nothing is put in force",
        READERS, check_policies, CheckShape, body=Candidate, body_bytes_max=TEXTS_BYTES_MAX,
        problems=("not_found",),
        time_limit_s=WORK_S, room=ROOM,
    ),
    Route(
        "replay_calls", "POST", "/v1/policies/replay",
        "What other policies would have made of recorded calls; nothing is put in force",
        READERS, replay_calls, ReplayShape, body=Trial, body_bytes_max=TEXTS_BYTES_MAX,
        problems=("not_found", "refused"),
        time_limit_s=WORK_S, room=ROOM,
    ),
)  # fmt: skip
