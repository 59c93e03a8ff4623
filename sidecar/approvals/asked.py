"""What an approver reads of an action: a text of its own, with a digest of its own. Pure.

Knows: that a person decides by what is shown, so nothing in it may hide: control, bidirectional
and zero-width characters stand as escapes, what is cut says how much is missing.
Must not know: the digest's making, how the text is presented, who reads it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import Any, Final, NamedTuple

import orjson

from sidecar.ledger.recorded_call import AUTHORIZE
from sidecar.model import Decision, Principal, ToolCall
from sidecar.policy.printable import printable
from sidecar.policy.runs import RunState

#: Characters of one text, and of all texts together, that are shown.
TEXT_LENGTH_MAX: Final = 4096
ALL_LENGTH_MAX: Final = 32_768
#: Members of one list or mapping, and values in all, that are shown.
MEMBERS_MAX: Final = 256
VALUES_MAX: Final = 2048
NOT_KEPT: Final = "(arguments are not kept here: record.arguments is digest)"


class Asked(NamedTuple):
    """The text, JSON, and its digest in hex."""

    text: str
    sha256: str


def asked(
    principal: Principal,
    call: ToolCall,
    decision: Decision,
    *,
    arguments: Mapping[str, Any] | None,
    path: str,
    bind_headers: Sequence[str],
    run: RunState | None,
    action_sha256: str,
    beside: Mapping[str, Any] | None = None,
    as_said: Mapping[str, Any] | None = None,
) -> Asked:
    """What is asked. `arguments` are the call's with secrets masked, None where none are kept;
    `path` is the request's, and `beside` what is sent beside the arguments, masked alike. `as_said`
    is the action in the words of a caller of the authorize API, whose member it becomes."""
    shown = _Shown()
    # First what names the call: there is room for it, however long its arguments are.
    said: dict[str, Any] = {
        "agent": shown.text(principal.agent),
        "tool": shown.text(call.tool.name),
        "method": shown.text(call.action),
        "rules": [term.rule_id for term in decision.approvals],
        "risk": call.tool.risk.label,
        "mutates": call.tool.mutates,
        "action_sha256": action_sha256,
    }
    if principal.user:
        said["user"] = shown.text(principal.user)
    if call.called is not None:
        said["called"] = shown.text(call.called)
    if as_said is not None:
        said[AUTHORIZE] = shown.value(dict(as_said))
    said["reason"] = shown.text(decision.reason)
    said["path"] = shown.text(path)
    said["headers"] = {
        name: shown.value([value for header, value in call.headers if header.lower() == name])
        for name in sorted(bind_headers)
    }
    said["arguments"] = NOT_KEPT if arguments is None else shown.value(dict(arguments))
    if beside:
        said["beside"] = NOT_KEPT if arguments is None else shown.value(dict(beside))
    if run is not None:
        said["run"] = {"trust": run.trust.label, "labels": sorted(run.labels), "calls": run.calls}
    said["is_escaped"], said["is_cut"] = shown.is_escaped, shown.is_cut
    text = orjson.dumps(said, option=orjson.OPT_SORT_KEYS)
    return Asked(text.decode(), sha256(text).hexdigest())


class _Shown:
    """Makes values fit to be read, and keeps in mind what that took."""

    def __init__(self) -> None:
        self._characters_left = ALL_LENGTH_MAX
        self._values_left = VALUES_MAX
        self.is_escaped = False
        self.is_cut = False

    def text(self, text: str) -> str:
        """The text with escapes for what cannot be seen, cut where it is too long."""
        most = max(0, min(TEXT_LENGTH_MAX, self._characters_left))
        cut = printable(text[:most])
        self._characters_left -= len(cut)
        if cut != text[:most]:
            self.is_escaped = True
        if len(text) <= most:
            return cut
        self.is_cut = True
        digest = sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]
        return f"{cut}… [cut: {len(text) - most} of {len(text)} characters more, sha256 {digest}…]"

    def value(self, value: Any) -> Any:
        """Any JSON value, in the same way."""
        self._values_left -= 1
        if self._values_left < 0:
            self.is_cut = True
            return "… [cut: too many values]"
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, dict):
            return self._members(value)
        if isinstance(value, list | tuple):
            items = [self.value(one) for one in value[:MEMBERS_MAX]]
            if len(value) > MEMBERS_MAX:
                self.is_cut = True
                items.append(f"… [cut: {len(value) - MEMBERS_MAX} of {len(value)} items more]")
            return items
        return value

    def _members(self, value: dict[str, Any]) -> dict[str, Any]:
        members: dict[str, Any] = {}
        for name, one in list(value.items())[:MEMBERS_MAX]:
            # Two names that look alike once escaped must not become one.
            key = shown = self.text(name)
            while key in members:
                key = f"{shown} [{len(members)}]"
            members[key] = self.value(one)
        if len(value) > MEMBERS_MAX:
            self.is_cut = True
            members["…"] = f"[cut: {len(value) - MEMBERS_MAX} of {len(value)} members more]"
        return members
