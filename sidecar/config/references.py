"""`{env: NAME}` and `{file: PATH}`: the only ways to give a secret.

Knows: how to read them, and that a secret in a file others can read is no secret.
Must not say: the value, in any message.
"""

from __future__ import annotations

import stat
from collections.abc import Mapping
from pathlib import Path

from sidecar.config.model import Secret

SECRET_BYTES_MAX = 64 * 1024


def resolve(reference: Mapping[str, str], environ: Mapping[str, str], base: Path) -> Secret:
    """The secret a reference names. Raises ValueError naming the variable or file at fault."""
    if "env" in reference:
        name = reference["env"]
        if not environ.get(name):
            raise ValueError(f"the environment variable {name} is not set")
        return _checked(environ[name], f"the environment variable {name}")
    path = base / reference["file"]
    try:
        mode = path.stat().st_mode
        if mode & stat.S_IROTH:
            raise ValueError(f"{path} can be read by everyone: chmod o-r it")
        if path.stat().st_size > SECRET_BYTES_MAX:
            raise ValueError(f"{path} is larger than {SECRET_BYTES_MAX} bytes")
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ValueError(f"{path} is not UTF-8") from None
    return _checked(text.rstrip("\r\n"), str(path))


def _checked(value: str, where: str) -> Secret:
    if not value:
        raise ValueError(f"{where} is empty")
    if not value.isprintable():
        raise ValueError(f"{where} holds control characters")
    return Secret(value)
