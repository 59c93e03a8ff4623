"""Whether the people whom a call names as having said yes did so in the chain. Pure.

Knows: that each vote is a receipt of kind `approval` by the person, before the receipt of the call
that spends it; that a yes which was written into a store by hand has none. In a part of a chain
only what was asked in it can be judged.
Must not know: how votes count, where receipts come from, what is made of it.
"""

from __future__ import annotations

from typing import Final, NamedTuple

ASK: Final = "approval.ask"
APPROVE: Final = "approval.approve"
#: What ends no approval: it may still be spent.
_OPEN: Final = frozenset({ASK, APPROVE, "approval.link"})
#: Those that are told one by one; of more the number is told.
UNSAID_SHOWN_MAX: Final = 20
#: Approvals that are followed at once: more than a tenant may have open.
FOLLOWED_MAX: Final = 200_000


class Unsaid(NamedTuple):
    """A call, by its receipt, that went ahead by the yes of people of whom no receipt tells it."""

    seq: int
    approval_id: str
    names: tuple[str, ...]


class SaidYes:
    """Follows the receipts of a chain that name an approval, oldest first."""

    __slots__ = ("_is_whole", "_said", "count", "unsaid")

    def __init__(self, *, is_whole: bool) -> None:
        """`is_whole` says that the chain is read from its beginning."""
        self._is_whole = is_whole
        self._said: dict[str, set[str]] = {}
        self.count = 0
        self.unsaid: list[Unsaid] = []

    def take(
        self, seq: int, kind: str, action: str | None, approval_id: str, approver: str | None
    ) -> None:
        """The next receipt that names an approval."""
        if kind == "approval":
            self._follow(action, approval_id, approver)
        elif kind == "intent" and approver:
            said = self._said.pop(approval_id, set() if self._is_whole else None)
            if said is not None and (names := set(approver.split(",")) - said):
                self.count += 1
                if self.count <= UNSAID_SHOWN_MAX:
                    self.unsaid.append(Unsaid(seq, approval_id, tuple(sorted(names))))

    def _follow(self, action: str | None, approval_id: str, approver: str | None) -> None:
        if action == ASK:
            if len(self._said) < FOLLOWED_MAX:
                self._said[approval_id] = set()
            else:
                self._is_whole = False  # What was asked now cannot be judged.
        elif action == APPROVE and approver and approval_id in self._said:
            self._said[approval_id].add(approver)
        elif action not in _OPEN:
            self._said.pop(approval_id, None)
