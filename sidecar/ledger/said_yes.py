"""Whether the people whom a call names as having said yes did so in the chain. Pure.

Knows: that each vote is a receipt of kind `approval` by the person, before the receipt of the call
that spends it; that a yes which was written into a store by hand has none; that each of them, and
the call, stands for one action and one text of it, by digests beside them, so that a yes which was
led to another action in a store is known. In a part of a chain only what was asked in it can be
judged, and of what is erased nothing.
Must not know: how votes count, where receipts come from, what is made of it.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import orjson

ASK: Final = "approval.ask"
APPROVE: Final = "approval.approve"
#: Beside a receipt of an approval: the digests of the action, and of the text that is asked.
ASKED_ACTION: Final = "action_sha256"
ASKED_TEXT: Final = "asked_sha256"
#: Among the facts of a call that goes ahead by a yes: the digest of its action.
APPROVED: Final = "approved_sha256"
#: Of one approval more than one says all there is to say.
_DIGESTS_MAX: Final = 2
#: What ends no approval: it may still be spent.
_OPEN: Final = frozenset({ASK, APPROVE, "approval.link"})
#: Those that are told one by one; of more the number is told.
UNSAID_SHOWN_MAX: Final = 20
#: Approvals that are followed at once: more than a tenant may have open.
FOLLOWED_MAX: Final = 200_000


class Unsaid(NamedTuple):
    """A call, by its receipt, that went ahead by the yes of people of whom no receipt tells it; or
    (`is_of_other`) tells it, of another action than this, or of another text than was asked."""

    seq: int
    approval_id: str
    names: tuple[str, ...]
    is_of_other: bool = False


class _Followed:
    """An approval: who said yes, and the digests that its receipts stand for."""

    __slots__ = ("actions", "names", "texts")

    def __init__(self) -> None:
        self.names: set[str] = set()
        self.actions: set[str] = set()
        self.texts: set[str] = set()

    def note(self, arguments: str | None) -> None:
        """What stands beside one of its receipts."""
        said = _object(arguments)
        for digests, key in ((self.actions, ASKED_ACTION), (self.texts, ASKED_TEXT)):
            if isinstance(digest := said.get(key), str) and len(digests) < _DIGESTS_MAX:
                digests.add(digest)


class SaidYes:
    """Follows the receipts of a chain that name an approval, oldest first."""

    __slots__ = ("_is_whole", "_said", "count", "unsaid")

    def __init__(self, *, is_whole: bool) -> None:
        """`is_whole` says that the chain is read from its beginning."""
        self._is_whole = is_whole
        self._said: dict[str, _Followed] = {}
        self.count = 0
        self.unsaid: list[Unsaid] = []

    def take(
        self,
        seq: int,
        kind: str,
        action: str | None,
        approval_id: str,
        approver: str | None,
        arguments: str | None = None,
        facts: str | None = None,
    ) -> None:
        """The next receipt that names an approval, with what stands beside it."""
        if kind == "approval":
            self._follow(action, approval_id, approver, arguments)
        elif kind == "intent" and approver:
            said = self._said.pop(approval_id, _Followed() if self._is_whole else None)
            if said is not None:
                self._spend(said, seq, approval_id, approver, facts)

    def _spend(
        self, said: _Followed, seq: int, approval_id: str, approver: str, facts: str | None
    ) -> None:
        names = set(approver.split(","))
        is_of_other = False
        if not (unsaid := names - said.names):
            if isinstance(digest := _object(facts).get(APPROVED), str):
                said.actions.add(digest)
            is_of_other = len(said.actions) > 1 or len(said.texts) > 1
            unsaid = names if is_of_other else unsaid
        if unsaid:
            self.count += 1
            if self.count <= UNSAID_SHOWN_MAX:
                self.unsaid.append(Unsaid(seq, approval_id, tuple(sorted(unsaid)), is_of_other))

    def _follow(
        self, action: str | None, approval_id: str, approver: str | None, arguments: str | None
    ) -> None:
        if action == ASK:
            if len(self._said) < FOLLOWED_MAX:
                self._said[approval_id] = _Followed()
            else:
                self._is_whole = False  # What was asked now cannot be judged.
        elif action not in _OPEN:
            self._said.pop(approval_id, None)
        elif action == APPROVE and approver and approval_id in self._said:
            self._said[approval_id].names.add(approver)
        if (said := self._said.get(approval_id)) is not None:
            said.note(arguments)


def _object(text: str | None) -> dict[str, Any]:
    try:
        said = orjson.loads(text) if text else None
    except orjson.JSONDecodeError:
        return {}
    return said if isinstance(said, dict) else {}
