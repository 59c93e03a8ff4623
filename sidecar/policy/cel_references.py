"""Functions of ours, made so that the CEL library keeps nothing of what passes through them.

Knows: that cel-expr-python 0.1.3 never lets go of the tuple of arguments it calls a Python function
with, nor of what that gives: each text that a condition looks at by one of our functions, or on a
meter, would stay for ever, and agents choose the texts. (The library's next version does let go.)
Whether the one at hand does is looked at once, and what it does not let go of is let go of here.
The hard thing: the library's tuple is out of a Python function's reach, which is given one of its
own. A foreign function of `ctypes` hands it on as it is, to its `errcheck`; the C function that is
called before does nothing.
Must not know: which functions there are, what they do.
"""

from __future__ import annotations

import ctypes
import functools
import sys
import threading
from collections.abc import Callable
from typing import Any, Final, NamedTuple

from cel_expr_python import cel

_PROBE: Final = "aegis_probe"
_PROBED: Final = "a text that is nowhere else"

_let_go: Final = ctypes.PYFUNCTYPE(None, ctypes.py_object)(("Py_DecRef", ctypes.pythonapi))
_does_nothing: Final = ctypes.cast(ctypes.pythonapi.Py_IsInitialized, ctypes.c_void_p).value


class _Waiting(threading.local):
    """What this thread's library has not let go of and is done with at the next call."""

    def __init__(self) -> None:
        self.objects: list[Any] = []


_WAITING: Final = _Waiting()


class Kept(NamedTuple):
    """What the library keeps for ever, of a call of a Python function."""

    arguments: bool
    results: bool


def kept_by_nobody(function: Callable[..., Any], arity: int) -> Any:
    """The function of so many arguments, for the CEL library and nobody else: of what it is called
    with and of what it gives, the last alone is there when it is called again."""
    kept = kept_by_library()
    if not (kept.arguments or kept.results):
        return function
    waiting = _WAITING

    def called(_: int, __: Any, arguments: tuple[Any, ...]) -> Any:
        objects = waiting.objects
        while objects:
            _let_go(objects.pop())
        if kept.arguments:
            objects.append(arguments)
        given = function(*arguments)
        if kept.results and given is not True and given is not False:
            objects.append(given)
        return given

    return _foreign(called, arity)


@functools.cache
def kept_by_library() -> Kept:
    """What it still holds of a call once all of it is over, beside what is held of one that was
    made from here."""
    seen: list[Any] = []

    def see(_: int, __: Any, arguments: tuple[Any, ...]) -> str:
        seen.append(arguments)
        seen.append(given := "".join(list(_PROBED)))
        return given

    function, text = _foreign(see, 1), cel.Type.STRING
    declared = cel.FunctionDecl(_PROBE, [cel.Overload(_PROBE, text, [text], False, function)])
    environment = cel.NewEnv(variables={}, functions=[declared])
    expression = environment.compile(f'{_PROBE}("{_PROBED}") == "{_PROBED}"')
    seen.clear()  # what is only literals may be worked out before
    expression.eval(environment.Activation({})).value()
    if not seen:
        return Kept(arguments=False, results=False)
    ours = len(seen)
    function(_PROBED)
    counts = [sys.getrefcount(one) for one in (*seen[ours - 2 : ours], *seen[ours:])]
    return Kept(arguments=counts[0] == counts[2] + 1, results=counts[1] == counts[3] + 1)


def _foreign(called: Callable[..., Any], arity: int) -> Any:
    made = _foreign_type(arity)(_does_nothing)
    made.errcheck = called
    return made


@functools.cache
def _foreign_type(arity: int) -> Any:
    return ctypes.PYFUNCTYPE(ctypes.c_int, *[ctypes.py_object] * arity)
