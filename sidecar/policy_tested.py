"""Which files passed their own tests last, kept in the data folder: they are not tested again.

Knows: that a test says the same as long as the files, this program and the evaluator of conditions
are the same; that nothing is lost with the file but the time of a test.
Must not know: what is tested, and how.
"""

from __future__ import annotations

import hashlib
import logging
from importlib.metadata import version
from pathlib import Path
from typing import Final

from sidecar import __version__
from sidecar.data_file import read_small, replace_file

FILE_NAME: Final = "tested-policies"
_FILE_BYTES_MAX: Final = 256
_EVALUATOR: Final = "cel-expr-python"

_log = logging.getLogger("aegis.policy")


class LastTested:
    """Of one data folder."""

    def __init__(self, data_dir: Path) -> None:
        self._path = data_dir / FILE_NAME

    def passed(self, files: bytes) -> bool:
        """Whether the files with this digest are those that passed last."""
        try:
            return read_small(self._path, _FILE_BYTES_MAX) == _content(files)
        except OSError as error:
            self._tell("which policies passed their tests last cannot be read", error)
            return False

    def keep(self, files: bytes) -> None:
        """Notes that they passed, if that can be noted."""
        try:
            replace_file(self._path, _content(files))
        except OSError as error:
            self._tell("policies that passed their tests are tested again at the next start", error)

    def _tell(self, what: str, error: OSError) -> None:
        _log.info(what, extra={"cause": f"{error.strerror or error}: {self._path}"})


def _content(files: bytes) -> bytes:
    """Another one for other files, and for another judge of them."""
    judge = f"{__version__} {version(_EVALUATOR)}"
    return f"{judge} {hashlib.sha256(files).hexdigest()}\n".encode()
