"""Texts that came from somewhere, made fit for a terminal.

Knows: that agents, tools and people of other tenants choose names and words which an operator
prints; nothing in them may end a line, move the cursor or hide.
Must not know: what is printed.
"""

from __future__ import annotations

from sidecar.policy.printable import printable


def fit(text: str) -> str:
    """One line in which nothing is invisible."""
    return printable("".join(one if one.isprintable() else ascii(one)[1:-1] for one in text))
