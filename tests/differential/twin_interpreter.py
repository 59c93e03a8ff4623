"""The twin's own reading of a condition: a tree evaluated by the words of LANGUAGE.md.

Plain and slow. A value is what JSON gives, or an Instant or a Span. What goes wrong is a Fault;
`false && fault` is false and `true || fault` is true, whichever side it stands on.

Knows: the semantics of CEL and of the functions added to it, as the design describes them.
Must not know: the product.
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from twin_functions import Fault, glob, host, in_domain, in_network, under
from twin_tree import Tree
from twin_values import EPOCH, RISKS, TRUSTS, Instant, Span, equal, is_number, length_us, local_time

INT_MAX = 2**63 - 1


@dataclass(frozen=True)
class Scope:
    """What names mean while one condition of one policy is evaluated on one call."""

    names: dict[str, Any]
    constants: dict[str, Any] = field(default_factory=dict)
    variables: dict[str, Tree] = field(default_factory=dict)
    recent: tuple[tuple[str, int], ...] = ()
    loops: dict[str, Any] = field(default_factory=dict)

    def inside(self, name: str, value: Any) -> Scope:
        loops = {**self.loops, name: value}
        return Scope(self.names, self.constants, self.variables, self.recent, loops)


def evaluate(tree: Tree, scope: Scope) -> Any:
    """The value of a tree; raises Fault."""
    return _KINDS[tree[0]](scope, *tree[1:])


def attempt(tree: Tree, scope: Scope) -> Any:
    """The value, or the Fault itself."""
    try:
        return evaluate(tree, scope)
    except Fault as fault:
        return fault


def _ordered(compare: Callable[[Any, Any], bool]) -> Callable[..., bool]:
    """Order across types is a fault, but for int and double."""

    def ordered(scope: Scope, left: Tree, right: Tree) -> bool:
        one, other = evaluate(left, scope), evaluate(right, scope)
        alike = type(one) is type(other) and isinstance(one, bool | str | Instant | Span)
        if not alike and not (is_number(one) and is_number(other)):
            raise Fault("no order between these")
        return compare(one, other)

    return ordered


def _in_64_bits(number: int) -> int:
    if not -INT_MAX - 1 <= number <= INT_MAX:
        raise Fault("beyond 64 bits")
    return number


def _arithmetic(on_numbers: Callable[[Any, Any], Any]) -> Callable[..., Any]:
    """int with int, double with double; int with double is a fault."""

    def arithmetic(scope: Scope, left: Tree, right: Tree) -> Any:
        one, other = evaluate(left, scope), evaluate(right, scope)
        if on_numbers is operator.sub and isinstance(one, Instant) and isinstance(other, Instant):
            return Span(one.at_us - other.at_us)
        if on_numbers is operator.add and type(one) is type(other) and isinstance(one, str | list):
            return one + other
        if type(one) is not type(other) or not is_number(one):
            raise Fault("no such operation on these")
        value = on_numbers(one, other)
        return _in_64_bits(value) if isinstance(one, int) else value

    return arithmetic


def _divided(one: Any, other: Any) -> Any:
    """Whole numbers towards zero; doubles as IEEE has it."""
    if isinstance(one, float):
        return one / other if other else one * math.inf
    if other == 0:
        raise Fault("division by zero")
    quotient = abs(one) // abs(other)
    return quotient if (one < 0) == (other < 0) else -quotient


def _rest(one: Any, other: Any) -> int:
    if not isinstance(one, int):
        raise Fault("no % of doubles")
    return int(one - other * _divided(one, other))


def _and(scope: Scope, left: Tree, right: Tree) -> bool:
    values = attempt(left, scope), attempt(right, scope)
    if values[0] is False or values[1] is False:
        return False
    if values[0] is True and values[1] is True:
        return True
    raise Fault("&& of something that is no bool")


def _or(scope: Scope, left: Tree, right: Tree) -> bool:
    values = attempt(left, scope), attempt(right, scope)
    if values[0] is True or values[1] is True:
        return True
    if values[0] is False and values[1] is False:
        return False
    raise Fault("|| of something that is no bool")


def _bool(tree: Tree, scope: Scope) -> bool:
    value = evaluate(tree, scope)
    if not isinstance(value, bool):
        raise Fault("no bool")
    return value


def _text(tree: Tree, scope: Scope) -> str:
    value = evaluate(tree, scope)
    if not isinstance(value, str):
        raise Fault("no text")
    return value


def _map(tree: Tree, scope: Scope) -> dict[str, Any]:
    value = evaluate(tree, scope)
    if not isinstance(value, dict):
        raise Fault("no map")
    return value


def _if(scope: Scope, test: Tree, one: Tree, other: Tree) -> Any:
    return evaluate(one if _bool(test, scope) else other, scope)


def _field(scope: Scope, of: Tree, name: str) -> Any:
    members = _map(of, scope)
    if name not in members:
        raise Fault(f"no key {name}")
    return members[name]


def _item(scope: Scope, of: Tree, key: Tree) -> Any:
    value, at = evaluate(of, scope), evaluate(key, scope)
    if isinstance(value, list) and type(at) is int and 0 <= at < len(value):
        return value[at]
    if isinstance(value, dict) and isinstance(at, str) and at in value:
        return value[at]
    raise Fault("no such item")


def _optional(scope: Scope, of: Tree, path: str, other: Tree) -> Any:
    value = evaluate(of, scope)
    for name in path.split("."):
        if not isinstance(value, dict):
            raise Fault("no map")
        if name not in value:
            return evaluate(other, scope)
        value = value[name]
    return value


def _in(scope: Scope, left: Tree, right: Tree) -> bool:
    one, several = evaluate(left, scope), evaluate(right, scope)
    if isinstance(several, list):
        return any(equal(one, each) for each in several)
    if isinstance(several, dict):
        return isinstance(one, str) and one in several
    raise Fault("neither list nor map")


def _size(scope: Scope, of: Tree) -> int:
    value = evaluate(of, scope)
    if not isinstance(value, str | list | dict):
        raise Fault("nothing that has a size")
    return len(value)


def _each(scope: Scope, of: Tree, name: str) -> list[Scope]:
    value = evaluate(of, scope)
    if not isinstance(value, list | dict):
        raise Fault("nothing to go through")
    return [scope.inside(name, one) for one in value]


def _exists(scope: Scope, of: Tree, name: str, body: Tree) -> bool:
    values = [attempt(body, inner) for inner in _each(scope, of, name)]
    if any(value is True for value in values):
        return True
    if all(value is False for value in values):
        return False
    raise Fault("exists() over something that is no bool")


def _all(scope: Scope, of: Tree, name: str, body: Tree) -> bool:
    values = [attempt(body, inner) for inner in _each(scope, of, name)]
    if any(value is False for value in values):
        return False
    if all(value is True for value in values):
        return True
    raise Fault("all() over something that is no bool")


def _filter(scope: Scope, of: Tree, name: str, body: Tree) -> list[Any]:
    return [inner.loops[name] for inner in _each(scope, of, name) if _bool(body, inner)]


def _counted(scope: Scope, tools: str, text: str) -> int:
    since_us = scope.names["now"].at_us - length_us(text)
    return sum(1 for name, at_us in scope.recent if at_us > since_us and glob(name, tools))


def _timestamp(_: Scope, text: str) -> Instant:
    return Instant((datetime.fromisoformat(text) - EPOCH) // timedelta(microseconds=1))


def _hours(scope: Scope, of: Tree, zone: str) -> int:
    return local_time(evaluate(of, scope).at_us, zone).hour


def _weekday(scope: Scope, of: Tree, zone: str) -> int:
    return local_time(evaluate(of, scope).at_us, zone).isoweekday() % 7


def _of_texts(function: Callable[..., Any]) -> Callable[..., Any]:
    return lambda scope, *parts: function(*(_text(part, scope) for part in parts))


_KINDS: dict[str, Callable[..., Any]] = {
    "literal": lambda _, value: value,
    "list": lambda scope, *ones: [evaluate(one, scope) for one in ones],
    "name": lambda scope, name: scope.names[name],
    "constant": lambda scope, name: scope.constants[name],
    "variable": lambda scope, name: evaluate(
        scope.variables[name],
        Scope(scope.names, scope.constants, scope.variables, scope.recent),
    ),
    "loop": lambda scope, name: scope.loops[name],
    "level": lambda _, ranks, name: (RISKS if ranks == "risk" else TRUSTS).index(name),
    "field": _field,
    "item": _item,
    "has": lambda scope, of, name: name in _map(of, scope),
    "optional": _optional,
    "present": lambda scope, of, name: name in _map(of, scope),
    "not": lambda scope, of: not _bool(of, scope),
    "if": _if,
    "and": _and,
    "or": _or,
    "eq": lambda scope, one, other: equal(evaluate(one, scope), evaluate(other, scope)),
    "ne": lambda scope, one, other: not equal(evaluate(one, scope), evaluate(other, scope)),
    "lt": _ordered(operator.lt),
    "le": _ordered(operator.le),
    "gt": _ordered(operator.gt),
    "ge": _ordered(operator.ge),
    "in": _in,
    "add": _arithmetic(operator.add),
    "sub": _arithmetic(operator.sub),
    "mul": _arithmetic(operator.mul),
    "div": _arithmetic(_divided),
    "mod": _arithmetic(_rest),
    "size": _size,
    "exists": _exists,
    "all": _all,
    "filter": _filter,
    "map": lambda scope, of, name, body: [
        evaluate(body, inner) for inner in _each(scope, of, name)
    ],
    "startsWith": _of_texts(str.startswith),
    "endsWith": _of_texts(str.endswith),
    "contains": _of_texts(str.__contains__),
    "lowerAscii": _of_texts(lambda text: "".join(_lower(one) for one in text)),
    "matches": lambda scope, of, pattern: re.search(pattern, _text(of, scope)) is not None,
    "glob": _of_texts(glob),
    "under": _of_texts(under),
    "host": _of_texts(host),
    "inDomain": _of_texts(in_domain),
    "in_network": lambda scope, cidr, of: in_network(_text(of, scope), cidr),
    "timestamp": _timestamp,
    "duration": lambda _, text: Span(length_us(text)),
    "hours": _hours,
    "weekday": _weekday,
    "counted": _counted,
}  # fmt: skip


def _lower(one: str) -> str:
    return one.lower() if "A" <= one <= "Z" else one
