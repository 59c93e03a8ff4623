"""E6: the stored preview is held against its digest; what erasing leaves is known by its form."""

from __future__ import annotations

from hashlib import sha256
from typing import Any

import orjson
import pytest

from sidecar.approvals.as_asked import ALTERED, is_as_asked, read_asked
from sidecar.approvals.difference import compared
from sidecar.approvals.erasing import erased_text
from sidecar.approvals.states import Terms, terms_text
from sidecar.approvals.view import shown
from sidecar.approvals.words import action_hash_of
from sidecar.cli.approvals import _lines
from storage.standing import ApprovalRow

ASKED: dict[str, Any] = {
    "agent": "coder", "tool": "bank/pay", "method": "POST", "path": "/pay", "reason": "pays",
    "arguments": {"amount": 9}, "headers": {}, "rules": ["p/asks"], "risk": "high",
    "mutates": True, "action_sha256": "5e" * 32, "is_cut": False, "is_escaped": False,
    "authorize": {"tool": "bank", "mutates_state": True},
}  # fmt: skip


def row_of(state: str = "pending", asked: dict[str, Any] | None = None) -> ApprovalRow:
    text = orjson.dumps(ASKED if asked is None else asked).decode()
    terms = terms_text(Terms((), "", sha256(text.encode()).hexdigest()))
    return ApprovalRow(
        "acme", "a1", 1, state, "ac" * 32, "coder", "c1", "bank/pay", terms, text, "[]", 7, 9, 7, ""
    )


def with_text(row: ApprovalRow, **changes: Any) -> ApprovalRow:
    return row._replace(asked=orjson.dumps(orjson.loads(row.asked) | changes).decode())


ALTERATIONS: dict[str, ApprovalRow] = {
    "an argument": with_text(row_of(), arguments={"amount": 1}),
    "the hash an agent knows": with_text(row_of(), action_sha256="ee" * 32),
    "a blank": row_of()._replace(asked=row_of().asked + " "),
    "no JSON": row_of()._replace(asked="{"),
    "no object": row_of()._replace(asked="[]"),
    "nothing": row_of()._replace(asked=""),
    "erased while it waits": row_of()._replace(asked=erased_text(row_of())),
    "erased while its yes waits": row_of("approved")._replace(asked=erased_text(row_of())),
    "erased, and says something": with_text(
        row_of("spent")._replace(asked=erased_text(row_of())), arguments={"amount": 1}
    ),
    "said to be erased": with_text(row_of("spent"), is_erased=True),
}


@pytest.mark.parametrize("how", ALTERATIONS)
def test_e6_a_text_that_was_changed_is_known_and_not_shown(how: str) -> None:
    row = ALTERATIONS[how]
    assert not is_as_asked(row)
    said = shown(row)["asked"]
    assert (said["is_altered"], said["arguments"], said["path"]) == (True, ALTERED, ALTERED)
    assert (said["agent"], said["tool"]) == ("coder", "bank/pay"), "what its own columns say"
    assert action_hash_of(row) is None
    assert "the store was changed: nobody can decide on it" in "\n".join(_lines(shown(row)))


@pytest.mark.parametrize(
    "row",
    [row_of(), row_of("approved"), row_of("spent"),
     *(row_of(state)._replace(asked=erased_text(row_of())) for state in
       ("spent", "rejected", "expired", "withdrawn", "superseded"))],
)  # fmt: skip
def test_e6_what_was_asked_and_what_erasing_leaves_are_shown(row: ApprovalRow) -> None:
    assert is_as_asked(row)
    assert read_asked(row) == orjson.loads(row.asked)
    assert "the store was changed" not in "\n".join(_lines(shown(row)))


def test_e6_nothing_is_the_same_as_a_text_that_was_changed() -> None:
    before = ALTERATIONS["an argument"]._replace(approval_id="before")
    now = row_of(asked=ASKED | {"arguments": {"amount": 1}})
    found = compared(now, before)
    assert found is not None and found["differences"] and not found["is_whole"]
    assert "1" not in {one["before"] for one in found["differences"]}
    same = compared(now, now)
    assert same is not None and same["is_whole"], "positive control"
