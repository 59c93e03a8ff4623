"""Golden HTTP transcripts (tests/cases/authorize/transcripts), replayed over real sockets.

`{{name:kind}}` in an answer stands for a value of a kind, and names it for what follows; `{{name}}`
stands for the value that was named. Every member of an answer is listed: none more, none less.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from authorize_setup import AGENT_TOKEN, ANA, Stage, stage
from test_authorize_described import unfit

CASES = Path(__file__).parents[2] / "cases" / "authorize" / "transcripts"
_PLACE = re.compile(r"\{\{(\w*)(?::(\w+))?\}\}")
_KINDS = {
    "uuid": re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"),
    "hex": re.compile(r"[0-9a-f]{32}"),
    "hash": re.compile(r"[0-9a-f]{64}"),
    "time": re.compile(
        r"2[0-9]{3}-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]:[0-5][0-9]\.[0-9]{6}Z"
    ),
    "int": re.compile(r"[1-9][0-9]*"),
    "any": re.compile(r".+"),
}


def filled(value: Any, named: dict[str, str]) -> Any:
    """What a step says, with the values that were named."""
    if isinstance(value, str):
        return _PLACE.sub(lambda found: named[found[1]] if not found[2] else found[0], value)
    if isinstance(value, dict):
        return {name: filled(one, named) for name, one in value.items()}
    return value


def differences(said: Any, wanted: Any, named: dict[str, str], at: str = "") -> list[str]:
    """Where an answer is another than the transcript has it."""
    if isinstance(wanted, dict) and isinstance(said, dict):
        found = [f"{at}.{name}: only on one side" for name in said.keys() ^ wanted.keys()]
        for name in said.keys() & wanted.keys():
            found += differences(said[name], wanted[name], named, f"{at}.{name}")
        return found
    place = _PLACE.fullmatch(wanted) if isinstance(wanted, str) else None
    if place is not None and place[2]:
        if _KINDS[place[2]].fullmatch(str(said)) is None:
            return [f"{at}: {said!r} is no {place[2]}"]
        if place[1]:
            named[place[1]] = str(said)
        return []
    wanted = filled(wanted, named)
    return [] if said == wanted and type(said) is type(wanted) else [f"{at}: {said!r}, {wanted!r}"]


async def replay(one: Stage, steps: list[dict[str, Any]], control: bool) -> list[str]:
    """All differences of a transcript."""
    named: dict[str, str] = {}
    found: list[str] = []
    for number, step in enumerate(steps):
        if "person" in step:
            act = one.approve if step["person"] == "approve" else one.reject
            await act(filled(step["approval"], named), ANA)
            continue
        request = filled(step["request"], named)
        body = request["raw"].encode() if "raw" in request else request.get("body")
        answer = await one.ask(
            request["method"],
            request["path"],
            body,
            token=request.get("credential", AGENT_TOKEN),
            headers=request.get("headers"),
            control=control,
        )
        wanted = step["answer"]
        said = {"status": answer.status, "body": answer.json}
        found += differences(said, wanted, named, f"step {number}")
        if answer.status != 405:  # a method that the document does not have
            found += unfit(request["method"], request["path"], answer.status, answer.json)
    return found


@pytest.mark.parametrize("control", [False, True], ids=["data", "control"])
async def test_transcripts(tmp_path: Path, control: bool) -> None:
    """Each has names of its own, so that they share a sidecar: a start costs more than they do."""
    async with stage(tmp_path) as one:
        for path in sorted(CASES.glob("*.json")):
            found = await replay(one, json.loads(path.read_text())["steps"], control)
            assert found == [], path.stem


def test_there_are_transcripts_and_they_can_fail() -> None:
    assert len(list(CASES.glob("*.json"))) >= 7
    steps = json.loads((CASES / "allow.json").read_text())["steps"]
    wanted = steps[0]["answer"]["body"]
    assert differences(wanted, wanted, {}), "places are no values"
    assert differences({**wanted, "more": 1}, wanted, {})
    assert differences({"a": "1"}, {"a": 1}, {}) and differences({}, {"a": 1}, {})
    assert differences({"a": "0" * 64}, {"a": "{{x:hash}}"}, (named := {})) == []
    assert named == {"x": "0" * 64}
