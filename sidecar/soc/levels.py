"""How far what is noticed may go by itself: `soc.level`. Knows the words and their order."""

from __future__ import annotations

import enum
from typing import Final


class Level(enum.IntEnum):
    """Each does what the one before does, and more."""

    #: Alerts and incidents are stored, shown and logged.
    LOG = 0
    #: Sinks are told.
    NOTIFY = 1
    #: What is told says what the detection would do.
    RECOMMEND = 2
    #: It is done.
    RESPOND = 3

    @property
    def label(self) -> str:
        """As users write and read it."""
        return self.name.lower()


#: By the word a user writes.
LEVELS: Final = {level.label: level for level in Level}
