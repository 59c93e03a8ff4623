"""The state of a run as the store keeps it: one line of JSON, and back.

Knows: the form. What it cannot read is an error, and never taken for a run that begins.
Must not know: when a run ends, who reads it.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Final, NamedTuple

import orjson

from sidecar.model import TrustLevel
from sidecar.policy.runs import RunState

FORMAT: Final = 1
#: Texts whose meaning is remembered; a busy agent's is read at every call.
TEXTS_REMEMBERED: Final = 4096

_LEVEL = {level.label: level for level in TrustLevel}


class KeptRun(NamedTuple):
    """A run and when its last call went ahead, as far as that was written down."""

    state: RunState
    last_us: int


class UnreadableRun(ValueError):
    """The text of a run is none of ours."""


def run_text(run: KeptRun) -> str:
    """The same run always gives the same text."""
    state = run.state
    said: dict[str, Any] = {
        "v": FORMAT,
        "trust": state.trust.label,
        "labels": sorted(state.labels),
        "calls": state.calls,
        "started_us": state.started_us,
        "last_us": run.last_us,
    }
    if state.run_id:
        said["run_id"] = state.run_id
    if state.lowered_by:
        said["lowered"] = [state.lowered_by, state.lowered_in, state.lowered_at_us]
    if state.recent:
        said["recent"] = [list(one) for one in state.recent]
    return orjson.dumps(said).decode()


@lru_cache(maxsize=TEXTS_REMEMBERED)
def read_run(text: str) -> KeptRun | None:
    """None for "", a run of which nothing is kept. Raises UnreadableRun."""
    if not text:
        return None
    try:
        said = orjson.loads(text)
        if said["v"] != FORMAT:
            raise UnreadableRun(f"a run of format {said['v']!r}")
        by, call_id, at_us = said.get("lowered", ("", "", 0))
        state = RunState(
            _LEVEL[said["trust"]],
            frozenset(map(str, said["labels"])),
            int(said["calls"]),
            None if said["started_us"] is None else int(said["started_us"]),
            str(said.get("run_id", "")),
            str(by),
            str(call_id),
            int(at_us),
            tuple((str(tool), int(at)) for tool, at in said.get("recent", ())),
        )
        return KeptRun(state, int(said["last_us"]))
    except (ValueError, TypeError, KeyError) as error:
        raise UnreadableRun(f"the state of a run cannot be read: {error}") from error
