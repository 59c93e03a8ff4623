"""The forms of values in policy files, and why a value is none.

Knows: globs, methods, networks, windows, reasons, effects, modes, constants.
Must not know: which key of which mapping has which form.
"""

from __future__ import annotations

import re

from sidecar.model import Effect, Mode
from sidecar.policy.fields import Parse, Problems, did_you_mean, name, text
from sidecar.policy.matchers import Glob, IpNetwork, read_network
from sidecar.policy.reasons import BadReason, Reason, parse_reason
from sidecar.policy.sizes import Unreadable, size_of
from sidecar.policy.windows import BadWindow, Window, parse_window
from sidecar.problems import Position
from sidecar.yaml_reader import Node

_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,62}")
#: Several tools as a shell or a regular expression names them.
_BRACES = re.compile(r"([^(){}]*)[({]([^(){}]*)[)}]([^(){}]*)")
_IN_NO_NAME = re.compile(r"[^a-z0-9*-]")
_METHOD = re.compile(r"[A-Z][A-Z-]{0,31}")
_EFFECTS = {effect.value: effect for effect in Effect}
#: What effects are called elsewhere.
_MEANT = {
    "allow": ("accept", "grant", "pass", "permit"),
    "deny": ("block", "drop", "forbid", "refuse", "reject"),
    "require_approval": ("approval", "approve", "ask", "confirm", "escalate", "hold", "review"),
}
_CEL_WORD = re.compile(
    "as|break|const|continue|else|false|for|function|if|import|in|let|loop|namespace|null|package"
    "|return|true|var|void|while"
)


def glob(node: Node, problems: Problems) -> Glob | None:
    """A glob."""
    value = text(node, problems)
    return None if value is None else Glob(value)


def caller_glob(node: Node, problems: Problems) -> Glob | None:
    """Globs over names of the configuration; numbers are accepted as the text they are."""
    if isinstance(node.value, int) and not isinstance(node.value, bool):
        return Glob(str(node.value))
    return glob(node, problems)


def named_glob(node: Node, problems: Problems) -> Glob | None:
    """A glob over agents or tenants, whose names have one form; a word on one that fits none."""
    found = caller_glob(node, problems)
    if found is not None and _IN_NO_NAME.search(found.pattern):
        problems.warning(
            node.position,
            f'"{found.pattern}" fits nobody: names are a-z, 0-9 and -',
            several_hint(found.pattern) or did_you_mean(found.pattern, [found.pattern.lower()]),
        )
    return found


def several_hint(pattern: str) -> str:
    """For who wrote several in one text, or ""."""
    if braces := _BRACES.fullmatch(pattern):
        before, inside, after = braces.groups()
        pattern = ",".join(f"{before}{one.strip()}{after}" for one in re.split("[,|]", inside))
    several = [part.strip() for part in pattern.split(",")]
    return f"several are a list: [{', '.join(several)}]" if len(several) > 1 else ""


def http_method(node: Node, problems: Problems) -> str | None:
    """An HTTP method."""
    value = text(node, problems)
    if value is not None and not _METHOD.fullmatch(value):
        problems.error(node.position, f'"{value}" is not an HTTP method', "in capitals, e.g. GET")
        return None
    return value


def network(node: Node, problems: Problems) -> IpNetwork | None:
    """A CIDR."""
    value = text(node, problems)
    if value is None:
        return None
    try:
        return read_network(value)
    except ValueError as error:
        problems.error(node.position, str(error), "a CIDR, e.g. 10.0.0.0/8")
        return None


def window(node: Node, problems: Problems) -> Window | None:
    """A time window."""
    value = text(node, problems)
    if value is None:
        return None
    try:
        return parse_window(value)
    except BadWindow as error:
        problems.error(node.position, str(error), error.hint)
        return None


def reason_text(node: Node, problems: Problems) -> tuple[Reason, Position] | None:
    """A reason, with the place of its text."""
    value = text(node, problems)
    if value is None:
        return None
    try:
        return parse_reason(value), node.position
    except BadReason as error:
        for message, hint in error.problems:
            problems.error(node.position, f"reason: {message}", hint)
        return None


def rule_effect(node: Node, problems: Problems) -> Effect | None:
    """allow, deny or require_approval."""
    if isinstance(node.value, str) and node.value in _EFFECTS:
        return _EFFECTS[node.value]
    given = str(node.plain()).lower()
    meant = next((effect for effect, words in _MEANT.items() if given in words), "")
    hint = f'did you mean "{meant}"?' if meant else did_you_mean(given, _EFFECTS)
    problems.error(node.position, "effect is allow, deny or require_approval", hint)
    return None


def rule_mode(node: Node, problems: Problems) -> Mode | None:
    """enforce or shadow."""
    modes = [Mode.ENFORCE.value, Mode.SHADOW.value]
    if node.value in modes:
        return Mode(node.value)
    hint = did_you_mean(str(node.plain()), modes)
    if node.value == Mode.OBSERVE.value:
        hint = "observe is for `default:` of sidecar.yaml; here it is called shadow"
    problems.error(node.position, "mode is enforce or shadow", hint)
    return None


def condition_text(node: Node, problems: Problems) -> Node | None:
    """The text of a condition, as a node."""
    if isinstance(node.value, bool):
        return Node(str(node.value).lower(), node.position, node.key_position, True)
    return node if text(node, problems) is not None else None


def named_values(parse: Parse, what: str) -> Parse:
    """A mapping whose keys can be read as `{what}.NAME` in CEL."""

    def read(node: Node, problems: Problems) -> dict[str, Node] | None:
        if not node.is_mapping:
            problems.error(node.position, f"{what} must be a mapping, not {node.kind}")
            return None
        usable = {}
        for key, member in node.value.items():
            place = member.key_position or member.position
            if not _IDENTIFIER.fullmatch(key) or _CEL_WORD.fullmatch(key):
                problems.error(place, f'"{key}" cannot be read as {what}.{key}', "use a-z, 0-9, _")
                continue
            parsed = parse(member, problems)
            if parsed is not None:
                usable[key] = parsed
        return usable

    return read


def constant(node: Node, problems: Problems) -> Node:
    """A value that CEL can be given."""
    try:
        size_of(node.plain())
    except Unreadable as error:
        problems.error(node.position, f"it {error}, which no condition can be given")
    return node


def imported(node: Node, problems: Problems) -> tuple[str, Position] | None:
    """The name of a policy, with its place."""
    value = name(node, problems)
    return None if value is None else (value, node.position)
