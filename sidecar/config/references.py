"""`{env: NAME}` and `{file: PATH}`: the only ways to give a secret.

Knows: how to read them, and that a secret in a file which everybody reads is no secret.
Must not say: the value, in any message; a secret written in the clear is not repeated either.
"""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TypeVar

from sidecar.config.model import Pem, Secret
from sidecar.yaml_section import Section

SECRET_BYTES_MAX = 64 * 1024
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_HOW = "write {env: NAME} or {file: PATH}"

T = TypeVar("T")


class References:
    """Reads references relative to one folder and one environment."""

    def __init__(self, environ: Mapping[str, str], folder: Path) -> None:
        self._environ = environ
        self._folder = folder
        #: Variables that were named.
        self.variables: set[str] = set()

    def secret(self, section: Section, name: str) -> Secret | None:
        """The secret that a member refers to; None if that is a problem, which is reported."""
        return self._resolved(section, name, self._variable, self._file)

    def pem(self, section: Section, name: str, *, is_private: bool) -> Pem | None:
        """Where a text in PEM form is to be had; it can be read now. None as above."""
        read_file = partial(self._pem_file, is_private=is_private)
        return self._resolved(section, name, self._pem_variable, read_file)

    def pem_text(self, section: Section, name: str, *, is_private: bool) -> Secret | None:
        """The text in PEM form itself, as it is now. None as above.

        Whoever may read a file of certificates, a key's file must not be open to everybody.
        """
        read_file = partial(self._pem_text_file, is_private=is_private)
        return self._resolved(section, name, self._pem_text_variable, read_file)

    def _resolved(
        self,
        section: Section,
        name: str,
        of_variable: Callable[[object], T],
        of_file: Callable[[object], T],
    ) -> T | None:
        node = section.members.get(name)
        key = section.key(name)
        if node is None:
            section.report(section.node, f"{key} is missing", _HOW)
            return None
        if not node.is_mapping:
            section.report(node, f"{key}: a secret must not stand here itself", _HOW)
            return None
        reference = section.sub(name)
        reference.allow(("env", "file"))
        kinds = [kind for kind in ("env", "file") if kind in reference.members]
        if len(kinds) != 1:
            section.report(node, f"{key}: neither one variable nor one file", _HOW)
            return None
        return reference.read(kinds[0], of_variable if kinds[0] == "env" else of_file, None)

    def _variable(self, name: object) -> Secret:
        return _checked(self._value(name).rstrip("\r\n"), f"the environment variable {name}")

    def _pem_variable(self, name: object) -> Pem:
        value = self._value(name)
        if not value.strip():
            raise ValueError(f"the environment variable {name} is empty")
        return Pem(given=Secret(value))

    def _value(self, name: object) -> str:
        if not isinstance(name, str) or not _VARIABLE.fullmatch(name):
            raise ValueError("not the name of an environment variable")
        self.variables.add(name)
        if name not in self._environ:
            raise ValueError(f"the environment variable {name} is not set")
        return self._environ[name]

    def _file(self, name: object) -> Secret:
        path = self._path(name)
        try:
            data = read_regular(path, is_private=True)
            return _checked(data.decode("utf-8").rstrip("\r\n"), str(path))
        except OSError as error:
            raise ValueError(f"{path} cannot be read: {error.strerror}") from None
        except UnicodeDecodeError:
            raise ValueError(f"{path} is not UTF-8") from None

    def _pem_file(self, name: object, *, is_private: bool) -> Pem:
        path = self._path(name)
        try:
            read_regular(path, is_private=is_private)
        except OSError as error:
            raise ValueError(f"{path} cannot be read: {error.strerror}") from None
        return Pem(path=path)

    def _pem_text_variable(self, name: object) -> Secret:
        return _checked_pem(self._value(name), f"the environment variable {name}")

    def _pem_text_file(self, name: object, *, is_private: bool) -> Secret:
        path = self._path(name)
        try:
            return _checked_pem(read_regular(path, is_private=is_private).decode(), str(path))
        except OSError as error:
            raise ValueError(f"{path} cannot be read: {error.strerror}") from None
        except UnicodeDecodeError:
            raise ValueError(f"{path} is not UTF-8") from None

    def _path(self, name: object) -> Path:
        if not isinstance(name, str) or not name or "\0" in name:
            raise ValueError("not the path of a file")
        return self._folder / name


def read_regular(path: Path, *, is_private: bool) -> bytes:
    """The bytes of a regular file; never waits for a pipe. Raises OSError, and ValueError for one
    that is too large, or that everybody may read or write (of a public one: write)."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise OSError(errno.EINVAL, "it is no regular file")
        if found.st_mode & (stat.S_IWOTH | (stat.S_IROTH if is_private else 0)):
            raise ValueError(f"{path} is open to every user of this machine: chmod o-rwx {path}")
        if found.st_size > SECRET_BYTES_MAX:
            raise ValueError(f"{path} is larger than {SECRET_BYTES_MAX} bytes")
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            return file.read(SECRET_BYTES_MAX)
    finally:
        os.close(descriptor)


def _checked(value: str, where: str) -> Secret:
    if not value:
        raise ValueError(f"{where} is empty")
    if not value.isprintable():
        raise ValueError(f"{where} holds control characters, or is not UTF-8")
    return Secret(value)


def _checked_pem(value: str, where: str) -> Secret:
    if "-----BEGIN " not in value or "\0" in value:
        raise ValueError(f"{where} holds no PEM text (-----BEGIN …)")
    return Secret(value + "\n")
