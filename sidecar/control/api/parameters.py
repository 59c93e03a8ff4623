"""Parameters of the API: what each may be, how its text is read, how the document describes it.

Knows: one object for each kind, which both reads and describes, so that the two cannot differ.
Strict: a name nobody asked for, a name twice, a value out of bounds are refused by name.
Must not know: routes, HTTP libraries, what a value is used for.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, Literal, Protocol
from urllib.parse import unquote_to_bytes

from sidecar.control.api.problems import ApiProblem

TEXT_CHARACTERS_MAX: Final = 256
CURSOR_CHARACTERS_MAX: Final = 512
LIMIT_MAX: Final = 200
LIMIT_USUAL: Final = 50
OFFSET_MAX: Final = 1_000
SEQ_MAX: Final = 2**53 - 1
#: Parameters that one request may have, before they are looked at.
PARAMETERS_MAX: Final = 64

#: RFC 3339 section 5.6, without leap seconds.
_MOMENT: Final = re.compile(
    r"\d{4}-\d\d-\d\d[Tt]([01]\d|2[0-3]):\d\d:\d\d(\.\d{1,9})?([Zz]|[+-]\d\d:\d\d)", re.ASCII
)
#: No control characters, for which no name has a use and which databases refuse.
_PLAIN: Final = r"^[^\u0000-\u001f\u007f]*$"


class Kind(Protocol):
    """What a value may be."""

    def read(self, text: str) -> Any:
        """The value a text stands for; raises ValueError with what is wrong."""
        ...

    def schema(self) -> dict[str, Any]:
        """The same in JSON Schema."""
        ...


@dataclass(frozen=True, slots=True)
class Text:
    """A name or an id, taken as it is."""

    characters_max: int = TEXT_CHARACTERS_MAX
    characters_min: int = 1

    def read(self, text: str) -> str:
        """See `Kind.read`."""
        if not self.characters_min <= len(text) <= self.characters_max:
            raise ValueError(f"has {self.characters_min} to {self.characters_max} characters")
        if not re.match(_PLAIN, text) or "\n" in text:
            raise ValueError("has no control characters")
        return text

    def schema(self) -> dict[str, Any]:
        """See `Kind.schema`."""
        return {
            "type": "string",
            "minLength": self.characters_min,
            "maxLength": self.characters_max,
            "pattern": _PLAIN,
        }


@dataclass(frozen=True, slots=True)
class Choice:
    """One of a few words."""

    words: tuple[str, ...]

    def read(self, text: str) -> str:
        """See `Kind.read`."""
        if text not in self.words:
            raise ValueError(f"is one of {', '.join(self.words)}")
        return text

    def schema(self) -> dict[str, Any]:
        """See `Kind.schema`."""
        return {"type": "string", "enum": list(self.words)}


@dataclass(frozen=True, slots=True)
class Whole:
    """An integer within bounds, written without sign or leading zeros."""

    low: int
    high: int

    def read(self, text: str) -> int:
        """See `Kind.read`."""
        if not re.fullmatch("0|[1-9][0-9]{0,15}", text) or not self.low <= int(text) <= self.high:
            raise ValueError(f"is an integer from {self.low} to {self.high}")
        return int(text)

    def schema(self) -> dict[str, Any]:
        """See `Kind.schema`."""
        return {"type": "integer", "minimum": self.low, "maximum": self.high}


@dataclass(frozen=True, slots=True)
class Flag:
    """true or false."""

    def read(self, text: str) -> bool:
        """See `Kind.read`."""
        if text not in ("true", "false"):
            raise ValueError("is true or false")
        return text == "true"

    def schema(self) -> dict[str, Any]:
        """See `Kind.schema`."""
        return {"type": "boolean"}


@dataclass(frozen=True, slots=True)
class Moment:
    """A time with its zone (RFC 3339), read as microseconds since 1970."""

    def read(self, text: str) -> int:
        """See `Kind.read`."""
        said = "is a time with its zone, e.g. 2026-11-23T10:00:00Z"
        if not _MOMENT.fullmatch(text):
            raise ValueError(said)
        try:
            # Python reads up to six digits of a second; what is finer is cut.
            at = datetime.fromisoformat(re.sub(r"(\.\d{6})\d+", r"\1", text.upper()))
            since = at - datetime(1970, 1, 1, tzinfo=UTC)
        except (ValueError, OverflowError):
            raise ValueError(said) from None
        return max(0, (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds)

    def schema(self) -> dict[str, Any]:
        """See `Kind.schema`."""
        return {"type": "string", "format": "date-time"}


@dataclass(frozen=True, slots=True)
class Parameter:
    """A parameter of a route. A path parameter is always there; a query parameter that is left
    out has its default."""

    name: str
    kind: Kind
    summary: str
    default: Any = None
    place: Literal["query", "path"] = "query"
    is_required: bool = False

    def read(self, text: str) -> Any:
        """The value; raises ApiProblem."""
        try:
            return self.kind.read(text)
        except ValueError as error:
            raise ApiProblem(
                "invalid_parameter", f"{self.name} {error}", parameter=self.name
            ) from None

    def described(self) -> dict[str, Any]:
        """The parameter as OpenAPI 3.1 describes one."""
        schema = self.kind.schema()
        if self.default not in (None, ""):
            schema["default"] = self.default
        return {
            "name": self.name,
            "in": self.place,
            "description": self.summary,
            "required": self.is_required or self.place == "path",
            "schema": schema,
        }


def in_path(name: str, summary: str, kind: Kind | None = None) -> Parameter:
    """A parameter that stands in the path."""
    return Parameter(name, kind or Text(), summary, place="path", is_required=True)


LIMIT: Final = Parameter("limit", Whole(1, LIMIT_MAX), "how many at most", LIMIT_USUAL)
CURSOR: Final = Parameter(
    "cursor", Text(CURSOR_CHARACTERS_MAX), "where the page before left off: its `X-Next-Cursor`", ""
)
OFFSET: Final = Parameter(
    "offset", Whole(0, OFFSET_MAX), "how many to pass over; for more, follow `cursor`", 0
)
SINCE: Final = Parameter("from", Moment(), "not before this time")
UNTIL: Final = Parameter("to", Moment(), "before this time")


def read_query(raw: str, parameters: Iterable[Parameter]) -> dict[str, Any]:
    """Values by name of a raw query string. Raises ApiProblem for what nobody asked for, what
    stands twice, what is no UTF-8 and what is out of bounds."""
    known = {one.name: one for one in parameters if one.place == "query"}
    given: dict[str, Any] = {}
    pairs = raw.split("&") if raw else []
    if len(pairs) > PARAMETERS_MAX:
        raise ApiProblem("malformed_request", f"more than {PARAMETERS_MAX} parameters")
    for pair in pairs:
        name, _, value = (_decoded(part) for part in pair.partition("="))
        parameter = known.get(name)
        if parameter is None:
            raise ApiProblem("unknown_parameter", f"there is no parameter {name[:80]!a}",
                             parameter=name[:80])  # fmt: skip
        if name in given:
            raise ApiProblem("invalid_parameter", f"{name} stands twice", parameter=name)
        given[name] = parameter.read(value)
    for name, parameter in known.items():
        if parameter.is_required and name not in given:
            raise ApiProblem("invalid_parameter", f"{name} is missing", parameter=name)
    return {name: given.get(name, one.default) for name, one in known.items()}


def read_path(match: Mapping[str, str], parameters: Iterable[Parameter]) -> dict[str, Any]:
    """Values by name of the segments of a path. Raises ApiProblem: what cannot be an id is not
    there."""
    return {one.name: one.read(match[one.name]) for one in parameters if one.place == "path"}


def _decoded(text: str) -> str:
    try:
        return unquote_to_bytes(text.replace("+", " ")).decode()
    except UnicodeDecodeError:
        raise ApiProblem("malformed_request", "the query is not UTF-8") from None
