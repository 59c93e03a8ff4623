"""A value of what is asked on one line, told apart from any other. Pure.

Knows: that a text stands as it is, which reads best, but for one that would read as a number, as
true, or as a list: whoever decides must see which of the two an agent sent.
Must not know: who looks, what has been cut or escaped of it.
"""

from __future__ import annotations

import json
from typing import Any


def readable(value: Any) -> str:
    """The value; a text in quotes only where it would pass for something else without them."""
    if not isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    return json.dumps(value, ensure_ascii=False) if _passes_for_json(value) else value


def readable_name(name: str) -> str:
    """The name of a member; in quotes where it would pass for more than a name."""
    return json.dumps(name, ensure_ascii=False) if "=" in name or '"' in name else name


def _passes_for_json(text: str) -> bool:
    """Whether it reads as JSON; only what begins like it is looked at further."""
    if text[:1] not in set('-0123456789tfn[{"') or text != text.strip():
        return False
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True
