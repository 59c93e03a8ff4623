"""In what an action differs from the one approved before it: place by place, nothing unmasked."""

from __future__ import annotations

from hashlib import sha256
from typing import Any

import orjson
import pytest

from sidecar.approvals.difference import DIFFERENCES_MAX, VALUE_LENGTH_MAX, compared
from sidecar.approvals.states import Terms, terms_text
from sidecar.approvals.view import compared_with
from sidecar.cli.approvals import _lines
from sidecar.policy.secret_names import MASK
from storage.standing import ApprovalRow

BASE: dict[str, Any] = {
    "method": "POST", "path": "/pay", "headers": {}, "reason": "pays", "is_cut": False,
    "is_escaped": False, "arguments": {"to": "ana", "amount": 5, "token": MASK},
}  # fmt: skip


def row(name: str = "now", **asked: Any) -> ApprovalRow:
    text = orjson.dumps({**BASE, **asked}).decode()
    terms = terms_text(Terms((), "", sha256(text.encode()).hexdigest()))
    return ApprovalRow(
        "t", name, 1, "pending", "ac", "coder", "c1", "bank/pay", terms, text, "[]", 7, 9, 7, ""
    )


def told(old: dict[str, Any], new: dict[str, Any]) -> list[tuple[Any, ...]]:
    found = compared(row(**new), row("before", **old))
    assert found is not None
    return [tuple(one.values()) for one in found["differences"]]


def args(**values: Any) -> dict[str, Any]:
    return {"arguments": values}


CASES = (
    (args(a=1), args(a=1), []),
    (args(a=1), args(a=2), [("changed", "args.a", "1", "2")]),
    (args(a=1), args(a="1"), [("changed", "args.a", "1", '"1"')]),
    (args(a=1), args(a=True), [("changed", "args.a", "1", "true")]),
    (args(a=None), args(), [("removed", "args.a", "null", None)]),
    (args(a=[1]), args(a=[True]), [("changed", "args.a", "[1]", "[true]")]),
    (args(p=f"see {MASK} there"), args(p=f"see {MASK} there"),
     [("unknown", "args.p", "see *** there", "see *** there")]),
    (args(p=[MASK, 1]), args(p=[MASK, 2]), [("changed", "args.p", '["***",1]', '["***",2]')]),
    (args(), args(a=[1]), [("added", "args.a", None, "[1]")]),
    (args(a={"b": 1, "c": 2}), args(a={"b": 3, "c": 2}), [("changed", "args.a.b", "1", "3")]),
    (args(a={"b": 1}), args(a=[1]), [("changed", "args.a", '{"b":1}', "[1]")]),
    (args(p=MASK), args(p=MASK), [("unknown", "args.p", MASK, MASK)]),
    (args(p=[{"q": MASK}]), args(p=[{"q": MASK}]),
     [("unknown", "args.p", '[{"q":"***"}]', '[{"q":"***"}]')]),
    (args(p=MASK), args(p=1), [("changed", "args.p", MASK, "1")]),
    ({"path": "/a"}, {"path": "/b"}, [
        ("changed", "path", "/a", "/b"), ("unknown", "args.token", MASK, MASK)]),
    ({**args(), "user": "ana"}, args(), [("removed", "user", "ana", None)]),
    ({**args(), "headers": {"k": ["1"]}}, {**args(), "headers": {"k": ["2"]}},
     [("changed", "headers.k", '["1"]', '["2"]')]),
    ({"arguments": "not kept"}, args(a=1), [("unknown", "arguments", "not kept", '{"a":1}')]),
)  # fmt: skip


@pytest.mark.parametrize(("old", "new", "wanted"), CASES)
def test_differences_place_by_place(
    old: dict[str, Any], new: dict[str, Any], wanted: list[tuple[Any, ...]]
) -> None:
    assert told(old, new) == wanted


def test_there_is_a_bound_and_it_is_told() -> None:
    many = {f"a{number:03}": number for number in range(DIFFERENCES_MAX + 1)}
    found = compared(row(**args(**many)), row("before", **args()))
    assert found is not None and not found["is_whole"]
    assert len(found["differences"]) == DIFFERENCES_MAX
    fewer = compared(row(**args(**dict(list(many.items())[1:]))), row("before", **args()))
    assert fewer is not None and fewer["is_whole"], "positive control"
    long = compared(row(**args(a="x" * 1000)), row("before", **args(a="y")))
    assert long is not None and len(long["differences"][0]["now"]) < VALUE_LENGTH_MAX + 40
    cut = compared(row(**args(), is_cut=True), row("before", **args()))
    assert cut is not None and not cut["is_whole"]


def test_the_command_line_says_it() -> None:
    before = row("before", **args(amount=5, gone=1, token=MASK))
    said = "\n".join(_lines(compared_with(row(**args(amount=9, new=[1], token=MASK)), before)))
    for part in (
        "4 differences from approved last at", "args.amount: 5 -> 9", "args.gone = 1 is gone",
        "args.new = [1] is new", "args.token is not shown, and may be another",
        "not all of it can be compared",
    ):  # fmt: skip
        assert part in said, part
    same = "\n".join(_lines(compared_with(row(**args(a=1)), row("before", **args(a=1)))))
    assert "the same as approved last" in same and "compared" not in same
    none = "\n".join(_lines(compared_with(row(**args()), None)))
    assert "nothing of this tool was approved for this agent yet" in none
