"""Random conditions that type-check: trees of a wanted type over names that a rule may read.

What arguments hold at run time is not known here: conditions go wrong on calls, not at load.

Knows: which type each name has, and how to compare. Must not know: what a tree is worth.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from generated_facts import EQUAL, ORDER, FactConditions
from generated_vocabulary import (
    ARGUMENTS,
    DOMAINS,
    TOOL_GLOBS,
    WORDS,
)
from twin_tree import Tree

ARGS: Tree = ("name", "args")
PATTERNS = ("^a", "b$", "^(web|main)$", "[0-9]+", "(?i)AGENT", "^agent/.*$")


@dataclass
class Conditions:
    """Makes conditions for one rule, one variable or one sum. `arguments` may be read; those in
    `typed` are compared with values of their own type only, the others with anything. `labels`
    are carried by some tool."""

    chance: random.Random
    arguments: Collection[str]
    typed: Collection[str]
    labels: Sequence[str] = ()
    constants: Mapping[str, Any] = field(default_factory=dict)
    variables: Mapping[str, str] = field(default_factory=dict)
    facts: FactConditions = field(init=False)

    def __post_init__(self) -> None:
        self.facts = FactConditions(self.chance, self.labels)

    def truth(self, depth: int = 2) -> Tree:
        """A condition."""
        chance = self.chance.random()
        if depth > 0 and chance < 0.5:
            return self._joined(depth - 1)
        makers: list[tuple[int, Callable[[], Tree]]] = [
            (16, self._argument_compared), (6, self._presence), (8, self._with_default),
            (8, self._of_text), (9, self._of_list), (9, self._counted), (6, self.facts.ranks),
            (5, self.facts.carried), (5, self.facts.who), (4, self.facts.http),
            (5, self.facts.time), (5, self.facts.run), (3, self.facts.claims),
            (2, self.facts.network), (3, self._place), (1, self._settled),
        ]  # fmt: skip
        named = [name for name, kind in self.variables.items() if kind == "bool"]
        named_constants = [name for name, one in self.constants.items() if isinstance(one, bool)]
        if named:
            makers.append((12, lambda: ("variable", self.chance.choice(named))))
        if named_constants:
            makers.append((3, lambda: ("constant", self.chance.choice(sorted(named_constants)))))
        weights, choices = zip(*makers, strict=True)
        maker: Callable[[], Tree] = self.chance.choices(choices, weights)[0]
        return maker()

    def number(self, depth: int = 1) -> Tree:
        """A number that is an int as far as the type check can tell."""
        if depth > 0 and self.chance.random() < 0.4:
            kind = self.chance.choice(["add", "sub", "mul", "div", "mod"])
            return kind, self.number(depth - 1), self.number(depth - 1)
        names = self._arguments("int")
        makers: list[Callable[[], Tree]] = [
            lambda: ("literal", self.chance.choice([0, 1, 2, 3, 10, 4096])),
            lambda: ("name", "run.calls"),
            lambda: ("size", ("name", "tool.labels")),
        ]
        if names:
            makers += [lambda: self._argument(self.chance.choice(names))] * 4
            makers.append(lambda: self._or_else(self.chance.choice(names), 2))
        makers += [lambda: ("constant", "small")] * ("small" in self.constants)
        makers += [lambda: ("variable", "much")] * ("much" in self.variables)
        return self.chance.choice(makers)()

    def text(self, depth: int = 1) -> Tree:
        """A text as far as the type check can tell."""
        if depth > 0 and self.chance.random() < 0.15:
            return "add", self.text(0), self.text(0)
        if depth > 0 and self.chance.random() < 0.15:
            return "lowerAscii", self.text(0)
        names = self._arguments("string")
        makers: list[Callable[[], Tree]] = [
            lambda: ("name", self.chance.choice(["agent.name", "tool.operation", "http.method"]))
        ]
        if names:
            makers += [lambda: self._argument(self.chance.choice(names))] * 4
            makers.append(lambda: self._or_else(self.chance.choice(names), "main"))
        makers += [lambda: ("constant", "word")] * ("word" in self.constants)
        makers += [lambda: ("variable", "branch")] * ("branch" in self.variables)
        return self.chance.choice(makers)()

    def texts(self) -> Tree:
        """A list of texts as far as the type check can tell."""
        names = self._arguments("strings")
        makers: list[Callable[[], Tree]] = [
            lambda: ("name", self.chance.choice(["tool.labels", "run.labels"]))
        ]
        if names:
            makers += [lambda: self._argument(self.chance.choice(names))] * 3
            makers.append(lambda: self._or_else(self.chance.choice(names), ["a"]))
        makers += [lambda: ("constant", "names")] * ("names" in self.constants)
        makers += [lambda: ("variable", "paths")] * ("paths" in self.variables)
        return self.chance.choice(makers)()

    def _joined(self, depth: int) -> Tree:
        kind = self.chance.choice(["and", "and", "or", "or", "or", "not", "if"])
        if kind == "not":
            return "not", self.truth(depth)
        if kind == "if":
            return "if", self.truth(depth), self.truth(depth), self.truth(depth)
        return kind, self.truth(depth), self.truth(depth)

    def _arguments(self, kind: str) -> list[str]:
        """Arguments that are of a type, or might be of any."""
        return [
            name for name in self.arguments if ARGUMENTS[name] == kind or name not in self.typed
        ]  # fmt: skip

    def _argument(self, name: str) -> Tree:
        if self.chance.random() < 0.2:
            return "item", ARGS, ("literal", name)
        return "field", ARGS, name

    def _or_else(self, name: str, value: Any) -> Tree:
        return "optional", ARGS, name, ("literal", value)

    def _value(self, name: str) -> Any:
        """A value to compare an argument with."""
        kind = ARGUMENTS[name]
        if kind == "any" or (name not in self.typed and self.chance.random() < 0.2):
            return self.chance.choice(
                [None, True, False, 0, 1, 2, 1.0, 1.5, "1", "a", "true", ["a"]]
            )
        return {
            "int": self.chance.choice([0, 1, 2, 3, 100]),
            "number": self.chance.choice([0, 1, 1.0, 1.5, 2, 2.5]),
            "bool": self.chance.choice([True, False]),
            "strings": self.chance.choice([["a"], ["a", "b"], ["web"]]),
        }.get(kind, self.chance.choice(WORDS))

    def _argument_compared(self) -> Tree:
        if not self.arguments:
            return self.facts.ranks()
        name = self.chance.choice(sorted(self.arguments))
        kind, roll = ARGUMENTS[name], self.chance.random()
        if kind == "map":
            return self._of_map(name)
        if kind == "bool" and roll < 0.4:
            return self._argument(name)
        if kind == "strings" and roll < 0.7:
            return self._of_list()
        if roll < 0.2 and kind in ("int", "string"):
            values = [self._value(name) for _ in range(2)]
            return "in", self._argument(name), ("list", *(("literal", one) for one in values))
        if roll < 0.35:
            others = [one for one in self._arguments(kind) if one not in self.typed] + [name]
            return self.chance.choice(EQUAL), self._argument(name), self._argument(
                self.chance.choice(others)
            )  # fmt: skip
        value, kinds = self._value(name), EQUAL
        if not isinstance(value, bool | list | None) and roll > 0.5:
            kinds = ORDER
        if value is None and name in self.typed and kind != "any":
            value = self.chance.choice(WORDS)
        return self.chance.choice(kinds), self._argument(name), ("literal", value)

    def _of_map(self, name: str) -> Tree:
        key, roll = self.chance.choice(["a", "b"]), self.chance.random()
        whole = self._argument(name)
        if roll < 0.2:
            return "has", whole, key
        if roll < 0.4:
            return "eq", ("optional", ARGS, f"{name}.{key}", ("literal", 1)), ("literal", 1)
        if roll < 0.55:
            return "in", ("literal", key), whole
        if roll < 0.7:
            return "exists", whole, "k", ("eq", ("loop", "k"), ("literal", key))
        value = self.chance.choice([1, "a", True])
        return "eq", ("field", whole, key), ("literal", value)

    def _presence(self) -> Tree:
        if not self.arguments:
            return self.facts.who()
        name = self.chance.choice(sorted(self.arguments))
        found: Tree = (self.chance.choice(["has", "has", "present"]), ARGS, name)
        if self.chance.random() < 0.15:
            found = ("in", ("literal", name), ARGS)
        return ("not", found) if self.chance.random() < 0.4 else found

    def _with_default(self) -> Tree:
        names = [name for name in sorted(self.arguments) if ARGUMENTS[name] != "map"]
        if not names:
            return self.facts.who()
        name = self.chance.choice(names)
        value, other = self._value(name), self._value(name)
        if value is None or other is None or ARGUMENTS[name] == "number":
            value = other = self.chance.choice([1, 2])
        if type(value) is not type(other):
            other = value
        kind = self.chance.choice(ORDER if type(value) in (int, str) else EQUAL)
        return kind, self._or_else(name, value), ("literal", other)

    def _of_text(self) -> Tree:
        kind = self.chance.choice(["startsWith", "endsWith", "contains", "matches", "glob", "size"])
        text = self.text()
        if kind == "glob":
            return "glob", text, ("literal", self.chance.choice(["agent/*", "*a*", "web", "*"]))
        if kind == "matches":
            return "matches", text, self.chance.choice(PATTERNS)
        if kind == "size":
            return (
                self.chance.choice(ORDER),
                ("size", text),
                ("literal", self.chance.choice([1, 4])),
            )
        return kind, text, ("literal", self.chance.choice(["a", "agent/", "b", "main", ""]))

    def _of_list(self) -> Tree:
        texts, one, roll = self.texts(), ("loop", "t"), self.chance.random()
        word: Tree = ("literal", self.chance.choice(WORDS))
        if roll < 0.25:
            # A label that is looked for must be carried by some tool.
            return ("in", word, texts) if texts[0] != "name" else self.facts.carried()
        test = self.chance.choice(
            [
                ("eq", one, word),
                ("startsWith", one, ("literal", "a")),
                ("gt", ("size", one), ("literal", 2)),
            ]
        )
        if roll < 0.65:
            return self.chance.choice(["exists", "all"]), texts, "t", test
        if roll < 0.8:
            return (
                "gt",
                ("size", ("filter", texts, "t", test)),
                ("literal", self.chance.choice([0, 1])),
            )
        if roll < 0.93:
            sizes = ("map", texts, "t", ("size", one))
            return "exists", sizes, "n", ("ge", ("loop", "n"), ("literal", 2))
        return "eq", ("item", texts, ("literal", self.chance.choice([0, 1]))), word

    def _counted(self) -> Tree:
        return self.chance.choice(ORDER), self.number(), self.number(0)

    def _place(self) -> Tree:
        if "url" in self.arguments and self.chance.random() < 0.6:
            domain = ("literal", self.chance.choice(DOMAINS))
            return "inDomain", ("host", self._argument("url")), domain
        if "path" in self.arguments:
            roots = ["/srv/work", "/srv", "/"]
            return "under", self._argument("path"), ("literal", self.chance.choice(roots))
        return "glob", ("name", "tool.name"), ("literal", self.chance.choice(TOOL_GLOBS))

    def _settled(self) -> Tree:
        return "literal", self.chance.random() < 0.5
