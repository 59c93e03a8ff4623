"""Drafts become rules: scopes with constants, variables and imports; conditions compiled; hashes.

Knows: what a policy's conditions may read, where a problem inside a text stands in the file, and
what a rule's hash covers (the rule, its file's narrowing, the constants and variables it reads).
Must not know: tools, how rules are judged.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, NamedTuple

from sidecar.model import Effect, RuleMatch
from sidecar.policy.abilities import Abilities, lacks
from sidecar.policy.canonical import canonical_hash
from sidecar.policy.cel_checks import BadExpression, Finding, Reading
from sidecar.policy.fields import Problems, did_you_mean
from sidecar.policy.limits import Limit, limit_key
from sidecar.policy.reasons import Reason
from sidecar.policy.rule import Rule
from sidecar.policy.rules import PolicyFile, RuleDraft
from sidecar.policy.terms import ApprovalTerms
from sidecar.policy.text_places import Place, Texts
from sidecar.problems import Position
from sidecar.yaml_reader import Node

if TYPE_CHECKING:
    from sidecar.policy.conditions import Condition, Scope


@dataclass(frozen=True, slots=True)
class Expression:
    """A `when` or a `sum` with its text; `place` tells where a character of it stands."""

    what: str
    text: str
    condition: Condition
    place: Callable[[int], Position]


class VariableText(NamedTuple):
    """The text of a variable; `place` tells where a character of it stands."""

    text: str
    place: Callable[[int], Position]


@dataclass(slots=True)
class CompiledRule:
    """A rule with the draft it came from, its expressions, the arguments it reads, by name and
    place, and the texts of the variables that its policy can read."""

    rule: Rule
    draft: RuleDraft
    is_pack: bool
    arguments: dict[str, Place] = field(default_factory=dict)
    expressions: list[Expression] = field(default_factory=list)
    variables: Mapping[str, VariableText] = field(default_factory=dict)

    def readings(self) -> Iterator[tuple[str, Reading, Callable[[int], Position]]]:
        """Of every expression and of the variables it needs: what it is, what it reads, and where
        a character of it stands."""
        for one in self.expressions:
            yield one.what, one.condition.reading, one.place
            for needed in one.condition.variables:
                yield needed.name, needed.reading, self.variables[needed.name].place


def compile_rules(
    files: Sequence[PolicyFile], texts: Texts, problems: Problems, has: Abilities
) -> list[CompiledRule]:
    """Every rule of every policy, in order of (policy, id); problems are noted, and what a rule
    needs that the sidecar does not have."""
    by_name: dict[str, PolicyFile] = {}
    for file in files:
        if file.name in by_name:
            problems.error(
                file.position,
                f'there are two policies "{file.name}"',
                f"first at {by_name[file.name].position}",
            )
        else:
            by_name[file.name] = file
    compiled: list[CompiledRule] = []
    read_of: dict[str, set[str]] = {name: set() for name in by_name}
    broken: set[str] = set()
    for file in by_name.values():
        compiler = _PolicyCompiler(file, by_name, texts, problems, has)
        compiled += compiler.compile()
        for name in compiler.lenders:
            read_of[name] |= compiler.used
        broken |= set() if compiler.is_whole else set(compiler.lenders)
    for name, file in by_name.items():
        if name not in broken:
            _warn_of_unused(file, read_of[name], problems)
    return sorted(compiled, key=lambda one: one.rule.order)


class _PolicyCompiler:
    """Compiles one policy in the scope of its own and its imported names."""

    def __init__(
        self,
        file: PolicyFile,
        by_name: Mapping[str, PolicyFile],
        texts: Texts,
        problems: Problems,
        has: Abilities,
    ) -> None:
        self._has = has
        self._file = file
        self._texts = texts
        self._problems = problems
        self._constants: dict[str, Node] = {}
        self._variables: dict[str, Node] = {}
        self.used: set[str] = set()
        #: Conditions by what they are for and their text: many rules say the same.
        self._compiled: dict[tuple[str, str], Condition] = {}
        self._variable_texts: dict[str, VariableText] = {}
        self.is_whole = all(draft.is_sound for draft in file.rules)
        lending = _with_imports(file, by_name, problems)
        #: The policies whose names it can read: itself and what it imports.
        self.lenders = [one.name for one in lending]
        for one in lending:
            self._take("constant", one.constants, self._constants)
            self._take("variable", one.variables, self._variables)

    def _take(self, what: str, own: Mapping[str, Node], taken: dict[str, Node]) -> None:
        for name, node in own.items():
            if name in taken:
                place = node.key_position or node.position
                first = taken[name].key_position or taken[name].position
                self._problems.error(
                    place,
                    f'the {what} "{name}" is in "{self._file.name}" twice',
                    f"first at {first}",
                )
            else:
                taken[name] = node

    def compile(self) -> list[CompiledRule]:
        constants = {name: node.plain() for name, node in self._constants.items()}
        self._compile_variables()
        texts = [
            node.value
            for draft in self._file.rules
            for node in (draft.when, *(limit.sum for limit in draft.limits))
            if node is not None
        ]
        if texts:
            self._scope.prepare(texts)
        return [
            one
            for draft in self._file.rules
            if (one := self._compile_rule(draft, constants)) is not None
        ]

    @cached_property
    def _scope(self) -> Scope:
        """Made with the first expression, which also loads the CEL library: it is 11 MB of memory
        to whoever has none."""
        from sidecar.policy.conditions import Scope

        return Scope({name: node.plain() for name, node in self._constants.items()})

    def _compile_variables(self) -> None:
        """In any order they can stand in: one that reads another waits for it."""
        waiting = dict(self._variables)
        needs = {name: _mentioned(node) for name, node in waiting.items()}
        while waiting:
            ready = [name for name in waiting if needs[name].isdisjoint(waiting)]
            for name in ready:
                self._compile_variable(name, waiting.pop(name))
            if not ready:
                self.is_whole = False
                for name, node in waiting.items():
                    self._problems.error(
                        node.key_position or node.position,
                        f"variables.{name} reads itself, in a circle",
                    )
                return

    def _compile_variable(self, name: str, node: Node) -> None:
        try:
            reading = self._scope.add_variable(name, node.value)
        except BadExpression as error:
            self.is_whole = False
            self._note(f"variables.{name}", node, error.findings, Effect.DENY)
        else:
            text = VariableText(node.value, partial(self._texts.place, node))
            self._variable_texts[f"variables.{name}"] = text
            self.used |= reading.names
            self._note(f"variables.{name}", node, reading.findings, Effect.DENY)

    def _compile_rule(self, draft: RuleDraft, constants: Mapping[str, Any]) -> CompiledRule | None:
        found: list[Expression] = []
        try:
            condition = self._expression("when", draft.when, draft, found)
            sums = [self._expression("sum", one.sum, draft, found) for one in draft.limits]
        except BadExpression:
            return None
        if not draft.is_sound or self._lacks(draft, condition, sums):
            return None
        rule = _rule(self._file, draft, condition, sums, constants, self._variables)
        arguments = _arguments(draft, found)
        return CompiledRule(rule, draft, self._file.is_pack, arguments, found, self._variable_texts)

    def _expression(
        self,
        what: str,
        node: Node | None,
        draft: RuleDraft,
        found: list[Expression],
    ) -> Condition | None:
        """A `when` or a `sum`; raises BadExpression after noting why."""
        if node is None:
            return None
        try:
            condition = self._compiled.get((what, node.value))
            if condition is None:
                compile_text = self._scope.condition if what == "when" else self._scope.number
                condition = self._compiled[what, node.value] = compile_text(node.value)
        except BadExpression as error:
            self.is_whole = False
            self._note(what, node, error.findings, draft.effect)
            raise
        self.used |= condition.reading.names
        self._note(what, node, condition.reading.findings, draft.effect)
        found.append(Expression(what, node.value, condition, partial(self._texts.place, node)))
        for one in condition.asserted() if draft.effect is Effect.ALLOW else ():
            asserted = [finding for finding in one.reading.findings if finding.only_in_allow]
            self._note(
                one.name, self._variables[one.name.partition(".")[2]], asserted, Effect.ALLOW
            )
        return condition

    def _lacks(
        self, draft: RuleDraft, condition: Condition | None, sums: Sequence[Condition | None]
    ) -> bool:
        """Notes what keeps the rule from being carried out; whether there is anything."""
        found = list(lacks(draft, condition, sums, self._has))
        for one in found:
            place = draft.places[one.key]
            if one.key == "when" and draft.when is not None:
                place = self._texts.place(draft.when, one.offset or 0)
            if one.key == "reason" and draft.reason_position is not None:
                place = draft.reason_position
            self._problems.error(place, f"{one.what} is not carried out by this version")
        return bool(found)

    def _note(
        self, what: str, node: Node, findings: Sequence[Finding], effect: Effect | None
    ) -> None:
        is_own = node.position.source == self._file.position.source
        for finding in findings:
            if not is_own or (finding.only_in_allow and effect is not Effect.ALLOW):
                continue
            self._problems.note(
                self._texts.place(node, finding.offset),
                f"{what}: {finding.message}",
                finding.hint,
                is_warning=finding.is_warning,
            )


def _warn_of_unused(file: PolicyFile, used: set[str], problems: Problems) -> None:
    """A name nobody reads, here or where it is imported, is often a misspelt one; a file without
    rules is there to lend."""
    if not file.rules:
        return
    for kind, names in (("constants", file.constants), ("variables", file.variables)):
        for name, node in names.items():
            if f"{kind}.{name}" not in used:
                place = node.key_position or node.position
                problems.warning(place, f'no condition here reads "{kind}.{name}"')


def _arguments(draft: RuleDraft, expressions: Sequence[Expression]) -> dict[str, Place]:
    """The arguments a rule reads anywhere, each with the first place where it does."""
    found: dict[str, Place] = {}
    for one in expressions:
        for name, offset in one.condition.reading.arguments.items():
            found.setdefault(name, partial(one.place, offset))
    if draft.reason is not None and draft.reason_position is not None:
        for name in draft.reason.arguments:
            found.setdefault(name, partial(_there, draft.reason_position))
    for limit in draft.limits:
        for name in limit.per:
            if name.startswith("args."):
                where = partial(_there, limit.position)
                found.setdefault(name.removeprefix("args."), where)
    if draft.obligations is not None:
        for path in draft.obligations.request.paths:
            if path[0] == "args":
                found.setdefault(path[1], partial(_there, draft.places["obligations"]))
    return found


def _there(position: Position) -> Position:
    return position


def _mentioned(node: Node) -> frozenset[str]:
    return frozenset(re.findall(r"\bvariables\.(\w+)", node.value))


def _with_imports(
    file: PolicyFile, by_name: Mapping[str, PolicyFile], problems: Problems
) -> list[PolicyFile]:
    """The file and all it imports, each once; unknown names are noted."""
    found = {file.name: file}
    pending = [file]
    while pending:
        one = pending.pop()
        for name, position in one.imports:
            imported = by_name.get(name)
            if imported is None and one is file:
                problems.error(
                    position, f'there is no policy "{name}"', did_you_mean(name, by_name)
                )
            elif imported is not None and name not in found:
                found[name] = imported
                pending.append(imported)
    return list(found.values())


def _rule(
    file: PolicyFile,
    draft: RuleDraft,
    condition: Condition | None,
    sums: Sequence[Condition | None],
    constants: Mapping[str, Any],
    variables: Mapping[str, Node],
) -> Rule:
    rule_id = f"{file.name}/{draft.id}"
    expressions = [one for one in (condition, *sums) if one is not None]
    read_constants = {name for one in expressions for name in one.constants}
    read_variables = {variable.name for one in expressions for variable in one.variables}
    content = {
        "policy": file.name,
        "mode": draft.mode.value,
        "file": {
            key: value
            for key, value in file.plain.items()
            if key in ("agents", "teams", "environments", "tenants")
        },
        "rule": draft.plain,
        "constants": {name: constants[name.removeprefix("constants.")] for name in read_constants},
        "variables": {
            name: variables[name.removeprefix("variables.")].value for name in read_variables
        },
    }
    return Rule(
        rule_id,
        (file.name, draft.id),
        draft.effect,
        draft.mode,
        draft.tools,
        draft.callers,
        draft.methods,
        draft.sources,
        draft.during,
        draft.outside,
        condition,
        draft.reason or Reason((rule_id,)),
        RuleMatch(rule_id, canonical_hash(content), draft.effect, draft.mode),
        draft.run,
        tuple(
            Limit(key, one.per, one.max, one.window_us, total, one.is_shared)
            for key, one, total in zip(_limit_keys(rule_id, draft), draft.limits, sums, strict=True)
        ),
        _approval(rule_id, draft),
        draft.obligations,
        draft.is_policy_in_shadow,
    )  # fmt: skip


def _limit_keys(rule_id: str, draft: RuleDraft) -> list[str]:
    """Names of the limits: another `max` is the same limit, another number among equal ones not."""
    keys = [
        limit_key(rule_id, one.per, one.sum.value if one.sum else None, one.window_us)
        for one in draft.limits
    ]
    return [
        f"{key} {before}" if (before := keys[:number].count(key)) else key
        for number, key in enumerate(keys)
    ]


def _approval(rule_id: str, draft: RuleDraft) -> ApprovalTerms | None:
    """What the rule asks for, if it asks for approval; without terms of its own, the usual."""
    if draft.effect is not Effect.REQUIRE_APPROVAL:
        return None
    return replace(draft.approval or ApprovalTerms(), rule_id=rule_id)
