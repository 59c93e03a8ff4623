"""A load of policies beside the calls in flight: nothing of it stops them for long.

Knows: that one thread runs Python at a time and gives way between two instructions, never within
one; that a collection looks at all objects made since the last in one go, and that a set of
thousands of rules, let go at once, ends in one go too. Either would hold up every call.
Must not know: what policies mean, when they are loaded (policy_files).
"""

from __future__ import annotations

import gc
from collections.abc import Callable

from sidecar.policy.index import PolicySet
from sidecar.policy.load import LoadedPolicies


def load_without_collections(load: Callable[[], LoadedPolicies]) -> LoadedPolicies:
    """What `load` gives. There are no collections meanwhile, and a set that was made is left out
    of all later ones, as at start everything is.

    Neither a load nor a call leaves behind what only a collection would find, so that nothing
    piles up; and a set that is let go needs none. Tests hold both to that.
    """
    if not gc.isenabled():
        return load()
    gc.disable()
    try:
        loaded = load()
        if loaded.policy_set is not None:
            gc.freeze()
        return loaded
    finally:
        gc.enable()


def let_go(discarded: list[PolicySet]) -> None:
    """Ends sets that are in no other hands, piece by piece; the list is empty then. A set that
    somebody still holds stays whole until they let go of it."""
    while discarded:
        pieces = discarded.pop().pieces()
        while pieces:
            pieces.pop()
