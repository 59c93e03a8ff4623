"""Whether a pattern of `matches` is held to the whole text, whichever way it matches.

Knows: that an anchor on every way fixes the end it stands for, wherever in the pattern it stands:
what comes before `^`, or behind `$`, can only be nothing then.
Must not know: CEL, how a pattern is read.
"""

from __future__ import annotations

from sidecar.policy.pattern_syntax import Begin, Choice, End, Part, Repeat, Sequence, parse_pattern


def is_held_to_the_whole(pattern: str) -> bool:
    """Whether every match begins where the text does and ends where it ends; of a pattern that is
    not understood nobody knows that it is."""
    try:
        tree = parse_pattern(pattern)
    except ValueError:
        return False
    return _is_fixed(tree, Begin) and _is_fixed(tree, End)


def _is_fixed(part: Part, anchor: type[Begin | End]) -> bool:
    """Whether no way through the part avoids the anchor."""
    if isinstance(part, Sequence):
        return any(_is_fixed(one, anchor) for one in part.parts)
    if isinstance(part, Choice):
        return all(_is_fixed(one, anchor) for one in part.parts)
    if isinstance(part, Repeat):
        return part.least > 0 and _is_fixed(part.part, anchor)
    return isinstance(part, anchor)
