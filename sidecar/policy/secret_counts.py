"""Whether a limit that the store keeps would keep a secret there: found at load.

Knows: that a bucket is named after the digest of an argument, which is as good as the value where
few values are possible, and that a sum of one amount is that amount. What is counted in the process
is stored nowhere.
Must not know: how limits are counted, which names are secret.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator

from sidecar.policy.cel_tree import decode
from sidecar.policy.compiling import CompiledRule
from sidecar.policy.conditions import Condition
from sidecar.policy.fields import Problems
from sidecar.policy.hidden import argument_paths

_ARGUMENT = "args."


def check_counts(
    rules: Iterable[CompiledRule], secrets: Container[str], problems: Problems
) -> None:
    """Notes every limit that would store what its secret name keeps out of the store."""
    for one in rules:
        for draft, limit in zip(one.draft.limits, one.rule.limits, strict=True):
            if limit.sum is None and not limit.is_shared:
                continue
            paths = [tuple(name.split(".")[1:]) for name in limit.per if _ARGUMENT in name]
            paths += _summed(limit.sum) if limit.sum is not None else ()
            for path in dict.fromkeys(paths):
                if any(step in secrets for step in path):
                    problems.error(
                        draft.position,
                        f"{_ARGUMENT}{'.'.join(path)} is a secret, and the store would keep what "
                        "this limit counts of it",
                        "count by something else; calls may be counted by it without `shared`",
                    )


def _summed(condition: Condition) -> Iterator[tuple[str, ...]]:
    for expression in (condition.expression, *(one.expression for one in condition.variables)):
        yield from argument_paths(decode(expression.serialize()))
