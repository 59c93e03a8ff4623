"""What a containment is about, as text and back, and a row as decisions see it. Pure.

Knows: the form of a subject: an agent's name (`coder`), a run (`coder/RUN-ID`, or `coder` for the
run without an id), else what is blocked (`mail/send`, `mail`, `evil.example`), with `AGENT:` in
front where it holds for one agent only. Names of agents have no `:` and no `/`, and nothing that is
blocked begins with such a name and `:`, so that a subject is read in one way only.
Must not know: the store, who contains what, the clock.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final, NamedTuple

from sidecar.policy.contained import Action, Block, Contained, host_of
from storage.watch_rows import ContainmentRow

ACTIVE: Final = "active"
UNDONE: Final = "undone"
EXPIRED: Final = "expired"
#: Of a revocation, which nothing ends.
FINAL_STATE: Final = "final"
STATES: Final = (ACTIVE, UNDONE, EXPIRED, FINAL_STATE)

#: Containments that are done to an agent's own standing.
OF_STANDING: Final = frozenset({Action.FREEZE_AGENT, Action.QUARANTINE_AGENT, Action.REVOKE_AGENT})
#: Containments of a tool's calls, or of an agent's.
OF_TOOLS: Final = frozenset({Action.BLOCK_TOOL, Action.FORCE_APPROVAL})
SUBJECT_CHARS_MAX: Final = 512

_AGENT: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")


class Subject(NamedTuple):
    """`agent` "" is every agent; `what` "" is all of the agent, or its run without an id."""

    agent: str
    what: str


class BadSubject(ValueError):
    """It is no subject of that action; the message says what one looks like."""


def subject_of(action: Action, text: str, agent: str = "") -> Subject:
    """What a person means: `text` as it stands in front of an operator, `agent` the only one it is
    to hold for, "" for all. Raises BadSubject."""
    if not text or len(text) > SUBJECT_CHARS_MAX or not text.isprintable():
        raise BadSubject(f"a subject is a line of at most {SUBJECT_CHARS_MAX} characters")
    if agent and not _AGENT.fullmatch(agent):
        raise BadSubject(f"{agent!r} is no agent's name")
    if action in OF_STANDING or action is Action.BLOCK_RUN:
        return _of_an_agent(action, text, agent)
    if action is Action.BLOCK_UPSTREAM:
        if "/" in text or ":" in text:
            raise BadSubject("the subject of block-upstream is an upstream's name")
        return Subject(agent, text)
    if action is Action.BLOCK_DESTINATION:
        name = host_of(f"http://{text}/")
        has_port = ":" in text and not text.endswith("]")
        if not name or "/" in text or has_port:
            raise BadSubject("the subject of block-destination is a host, without scheme or port")
        return Subject(agent, name)
    if "/" not in text and action is Action.FORCE_APPROVAL:
        if agent or not _AGENT.fullmatch(text):
            raise BadSubject("the subject of force-approval is AGENT or a tool, UPSTREAM/OPERATION")
        return Subject(text, "")
    upstream, _, operation = text.partition("/")
    if not upstream or not operation or ":" in upstream:
        raise BadSubject(f"the subject of {action} is a tool, UPSTREAM/OPERATION")
    return Subject(agent, text)


def _of_an_agent(action: Action, text: str, agent: str) -> Subject:
    if agent:
        raise BadSubject(f"{action} is about one agent, which its subject names")
    name, slash, run_id = text.partition("/")
    if not _AGENT.fullmatch(name) or (slash and (action in OF_STANDING or not run_id)):
        form = "AGENT" if action in OF_STANDING else "AGENT or AGENT/RUN-ID"
        raise BadSubject(f"the subject of {action} is {form}")
    return Subject(name, run_id)


def text_of(action: Action, subject: Subject) -> str:
    """As the store keeps it."""
    agent, what = subject
    if not what:
        return agent
    if action is Action.BLOCK_RUN:
        return f"{agent}/{what}"
    return f"{agent}:{what}" if agent else what


def read_subject(action: Action, text: str) -> Subject:
    """What `text_of` gave."""
    if action in OF_STANDING:
        return Subject(text, "")
    if action is Action.BLOCK_RUN:
        agent, _, run_id = text.partition("/")
        return Subject(agent, run_id)
    if action is Action.FORCE_APPROVAL and "/" not in text:
        return Subject(text, "")
    agent, colon, what = text.partition(":")
    if colon and _AGENT.fullmatch(agent):
        return Subject(agent, what)
    return Subject("", text)


# -- as decisions see them -------------------------------------------------------------------


def blocks_of(
    rows: Sequence[ContainmentRow], upstream_hosts: Mapping[str, str], ahead_us: int
) -> list[Block]:
    """The active rows that concern calls. `upstream_hosts` are the hosts upstreams lead to, by
    name; `ahead_us` is how far the store's clock is ahead of the one that will be asked with."""
    blocks = []
    for row in rows:
        action = action_of(row)
        if action in OF_STANDING:
            continue
        agent, what = ("", "") if action is None else read_subject(action, row.subject)
        upstreams: frozenset[str] = frozenset()
        if action is Action.BLOCK_DESTINATION:
            upstreams = frozenset(
                name for name, one in upstream_hosts.items() if is_below(one, what)
            )
        blocks.append(
            Block(
                row.containment_id, action, agent, what,
                until_us=row.until_us - ahead_us if row.until_us else 0,
                ends_at_us=row.until_us,
                upstreams=upstreams,
                run_started_us=before_of(row).get("run_started_us"),
            )
        )  # fmt: skip
    return blocks


def contained_of(blocks: Sequence[Block], agents: Collection[str]) -> dict[str, Contained]:
    """What holds each agent's calls, by agent; one that nothing holds is not there."""
    if not blocks:
        return {}
    of_all = tuple(block for block in blocks if not block.agent)
    named = {block.agent for block in blocks} & set(agents)
    found = dict.fromkeys(agents, Contained(of_all)) if of_all else {}
    for agent in named - {""}:
        found[agent] = Contained(tuple(one for one in blocks if one.agent in ("", agent)))
    return found


def action_of(row: ContainmentRow) -> Action | None:
    """What it does; None of a word that a later version wrote."""
    try:
        return Action(row.action)
    except ValueError:
        return None


def before_of(row: ContainmentRow) -> dict[str, Any]:
    """What undoing it restores, or what it found; {} if nothing is kept."""
    try:
        said = json.loads(row.before_state or "{}")
    except ValueError:
        return {}
    return said if isinstance(said, dict) else {}


def is_below(name: str, domain: str) -> bool:
    """Whether a host is that one or below it."""
    return name == domain or name.endswith(f".{domain}")
