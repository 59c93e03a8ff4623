"""argparse, in the words of this command line.

Knows: that a wrong flag is told with the usage of the command it was given to, and the nearest
that there is; that a command which wants an action shows them; that what a list of actions says
of one also opens its own help; that an empty text does not say which. Must not know: which commands
there are.
"""

from __future__ import annotations

import argparse
import difflib
import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any


class CommandParser(argparse.ArgumentParser):
    """Of the program, and of each command and action below it."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.register("action", "parsers", _Actions)

    def parse_known_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: Any = None
    ) -> tuple[Any, list[str]]:
        """Ends the program (exit code 2) for what is not known, where argparse would hand it up
        to the program, whose usage says nothing of the command."""
        if args is not None and not args and self._subparsers is not None:
            self.print_help(sys.stderr)
            self.exit(2)
        found, left = super().parse_known_args(args, namespace)
        if left:
            self.error(self._unknown(left))
        return found, left

    def _unknown(self, left: Sequence[str]) -> str:
        flag = next((one.partition("=")[0] for one in left if one.startswith("-")), "")
        if not flag:
            return f"nothing more is wanted: {' '.join(left)}"
        return f"there is no {flag} here{_meant(flag, self._option_string_actions)}"

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is not None and value not in action.choices:
            known = [str(one) for one in action.choices]
            near = _meant(str(value), known)
            raise argparse.ArgumentError(
                action, f"{value!r} is not one of {', '.join(known)}{near}"
            )


if TYPE_CHECKING:
    _Parsers = argparse._SubParsersAction[CommandParser]
else:
    _Parsers = argparse._SubParsersAction


class _Actions(_Parsers):
    def add_parser(self, name: str, **kwargs: Any) -> CommandParser:
        if kwargs.get("help"):
            kwargs.setdefault("description", sentence(kwargs["help"]))
        return super().add_parser(name, **kwargs)


def sentence(text: str) -> str:
    """With a capital letter and a full stop."""
    return f"{text[:1].upper()}{text[1:].rstrip('.')}."


def some_text(given: str) -> str:
    """A value that says which: an empty one would mean all, or none in particular, where a script
    has a variable that is not set. Raises ArgumentTypeError."""
    if not given:
        raise argparse.ArgumentTypeError("it is empty; a variable that is not set?")
    return given


def _meant(given: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(given, list(known), n=1)
    return f"; did you mean {near[0]}?" if near else ""
