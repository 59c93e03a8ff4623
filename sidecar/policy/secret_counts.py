"""Whether a limit that the store keeps would keep a secret there: found at load.

Knows: that a bucket is named after the digest of an argument, which is as good as the value where
few values are possible, and that a sum of one amount is that amount. What is counted in the process
is stored nowhere.
Must not know: how limits are counted, which names are secret.
"""

from __future__ import annotations

from collections.abc import Container, Iterator, Sequence
from typing import TYPE_CHECKING

from sidecar.model import Tool
from sidecar.policy.cel_tree import decode
from sidecar.policy.compiling import CompiledRule
from sidecar.policy.fields import Problems
from sidecar.policy.hidden import argument_paths

if TYPE_CHECKING:
    from sidecar.policy.conditions import Condition

_ARGUMENT = "args."
#: Where an argument stands that an obligation masks in a request.
_IN_REQUESTS = ("args", "body")

_Path = tuple[str, ...]


def check_counts(
    rules: Sequence[CompiledRule],
    secrets: Container[str],
    tools: Sequence[Tool],
    problems: Problems,
) -> None:
    """Notes every limit that would store what its secret name, or a rule that masks it in requests
    to the same tools, keeps out of the store."""
    masked = [(one, path) for one in rules for path in _masked(one)]
    for one in rules:
        for draft, limit in zip(one.draft.limits, one.rule.limits, strict=True):
            if limit.sum is None and not limit.is_shared:
                continue
            paths = [tuple(name.split(".")[1:]) for name in limit.per if _ARGUMENT in name]
            paths += _summed(limit.sum) if limit.sum is not None else ()
            for path in dict.fromkeys(paths):
                why = "is a secret" if any(step in secrets for step in path) else None
                if why is None and (masking := _masking(one, path, masked, tools)):
                    why = f"is masked by {masking.rule.rule_id}"
                if why is not None:
                    problems.error(
                        draft.position,
                        f"{_ARGUMENT}{'.'.join(path)} {why}, and the store would keep what this "
                        "limit counts of it",
                        "count by something else; calls may be counted by it without `shared`",
                    )


def _masked(one: CompiledRule) -> Iterator[_Path]:
    obligations = one.rule.obligations
    for path in obligations.request.paths if obligations is not None else ():
        if path[0] in _IN_REQUESTS:
            yield path[1:]


def _masking(
    counting: CompiledRule,
    counted: _Path,
    masked: Sequence[tuple[CompiledRule, _Path]],
    tools: Sequence[Tool],
) -> CompiledRule | None:
    """The first rule that masks it, or what it is part of, or part of it."""
    for one, path in masked:
        shorter = min(len(path), len(counted))
        if path[:shorter] == counted[:shorter] and any(
            one.draft.tools.matches(tool) and counting.draft.tools.matches(tool) for tool in tools
        ):
            return one
    return None


def _summed(condition: Condition) -> Iterator[_Path]:
    for expression in (condition.expression, *(one.expression for one in condition.variables)):
        yield from argument_paths(decode(expression.serialize()))
