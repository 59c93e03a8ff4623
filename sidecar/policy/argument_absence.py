"""Arguments that a call may come without, read as if they were always there.

Knows: that reading an absent argument is an error, which refuses the call; that whoever asks
somewhere in an expression whether an argument is there has thought of it.
Must not know: how a rule is judged, where an expression stands.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence

from sidecar.policy.cel_checks import Reading


def unthought(
    reading: Reading, declared: Sequence[Mapping[str, str]], asked: Collection[str] = ()
) -> Iterator[tuple[int, str, str]]:
    """The arguments that some tool declares as optional (`declared` has the types of each) and
    that are read without a question, here or by whoever reads the variable (`asked`): place, what
    is wrong, what to write."""
    for name, offset in reading.arguments.items():
        if name in reading.sought or name in asked:
            continue
        if any(types.get(name, "").endswith("?") for types in declared):
            yield (
                offset,
                f"args.{name} may be absent, which is an error here and refuses the call",
                _hint(name),
            )


def _hint(name: str) -> str:
    if name.isidentifier():
        return f"ask first, has(args.{name}) && …, or say what holds then, args.?{name}.orValue(…)"
    return f'ask first, "{name}" in args && …, or say what holds then, args[?"{name}"].orValue(…)'
