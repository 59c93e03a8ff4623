"""Pages of lists whose rows are found by a name or id, the same for every such list.

Knows: that one row more than is shown tells whether there is another page; that a cursor holds the
id of the last row that was shown, and that only a first page passes any over.
Must not know: what a row is, where rows come from.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from sidecar.control.api.route import Asked, Listed

Row = TypeVar("Row")


def place(asked: Asked, first: str) -> str:
    """The id where the page before left off; `first`, before or after all there are, without."""
    return first if asked.position is None else str(asked.position[0])


def rows_wanted(asked: Asked) -> int:
    """How many rows are to be read from that place."""
    return _passed_over(asked) + asked.limit + 1


def page_of(
    rows: Sequence[Row],
    asked: Asked,
    told: Callable[[Row], dict[str, Any]],
    id_of: Callable[[Row], str],
) -> Listed:
    """The page that rows from that place begin, whether there are more of them than were wanted or
    fewer."""
    rows = rows[_passed_over(asked) :]
    page = rows[: asked.limit]
    return Listed(
        [told(row) for row in page], (id_of(page[-1]),) if len(rows) > asked.limit else None
    )


def _passed_over(asked: Asked) -> int:
    return int(asked.values.get("offset", 0)) if asked.position is None else 0
