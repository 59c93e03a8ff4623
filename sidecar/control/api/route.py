"""What a route is: everything about it that is not what it does, as data.

Knows: that the router, the authorisation, the reading of parameters and bodies, and the OpenAPI
document are made from these values and from nothing else, so that they cannot differ.
Must not know: HTTP libraries, the routes there are.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, TypeAdapter

from sidecar.control.api.cursors import Position
from sidecar.control.api.parameters import CURSOR, LIMIT, OFFSET, SEQ_MAX, Parameter
from sidecar.model import Role

if TYPE_CHECKING:
    from sidecar.control.api.rooms import Rooms
    from sidecar.model import Person

KIB: Final = 1024
MIB: Final = 1024 * KIB
BODY_BYTES_MAX: Final = 64 * KIB

#: Whoever has any role may look.
READERS: Final = frozenset(Role)
AUDITORS: Final = frozenset({Role.AUDITOR, Role.ADMIN})
APPROVERS: Final = frozenset({Role.APPROVER, Role.ADMIN})
OPERATORS: Final = frozenset({Role.OPERATOR, Role.ADMIN})
ADMINS: Final = frozenset({Role.ADMIN})


class Body(BaseModel):
    """What a request carries: these members and no others."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Shape(BaseModel):
    """What an answer holds: exactly these members."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def _whole(value: object) -> object:
    """JSON has one kind of number: 5.0 is 5."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


#: Integers of a body: the number of a receipt, or that of the one before it.
Seq = Annotated[int, Field(ge=1, le=SEQ_MAX), BeforeValidator(_whole)]
SeqBefore = Annotated[int, Field(ge=0, le=SEQ_MAX), BeforeValidator(_whole)]
#: JSON has one kind of number; bounds stand before this, where the document sees them.
WHOLE: Final = BeforeValidator(_whole)
#: A text of a body that may be kept: stores take no NUL.
Line = Annotated[str, Field(pattern="^[^\\u0000]*$")]
NAME_PATTERN: Final = "^[a-z0-9][a-z0-9-]{0,62}$"


class Reason(Body):
    """Why something is done, for the record."""

    reason: Line = Field("", max_length=1024)


@dataclass(frozen=True, slots=True)
class Asked:
    """A request that may be answered: who asks, and everything asked for, read and checked."""

    person: Person
    rooms: Rooms
    values: Mapping[str, Any]
    body: Any = None
    #: Where the page before left off; None for the first.
    position: Position | None = None

    @property
    def tenant(self) -> str:
        """Whose things are asked for: never anybody else's."""
        return self.person.tenant

    @property
    def limit(self) -> int:
        """How many at most."""
        return int(self.values["limit"])


@dataclass(frozen=True, slots=True)
class Listed:
    """A page of a list, and where the next one begins; None after the last."""

    items: list[Any]
    next: Position | None = None


@dataclass(frozen=True, slots=True)
class Stream:
    """An answer that is too long to be held: piece by piece."""

    pieces: AsyncIterator[bytes]


#: Raw bytes are an answer in the very form that hashes are taken of.
Answer = Any
Handler = Callable[[Asked], Awaitable[Answer]]


@dataclass(frozen=True, slots=True)
class Route:
    """One thing that may be asked for.

    `answer` is the type of what the handler gives; `statuses` further ones it may give beside 200
    (201 for what was made). `problems` are codes of its own beside those every route has. Of a list
    `pages` says by what parameters it is paged.
    """

    name: str
    method: Literal["GET", "POST", "DELETE"]
    path: str
    summary: str
    roles: frozenset[Role]
    handler: Handler
    answer: Any
    parameters: tuple[Parameter, ...] = ()
    body: type[BaseModel] | None = None
    is_body_optional: bool = False
    body_bytes_max: int = BODY_BYTES_MAX
    status: int = 200
    media_type: str = "application/json"
    problems: tuple[str, ...] = ()
    pages: Literal["", "cursor", "offset"] = ""
    #: How long an answer may take; None for what must not be given up half-way.
    time_limit_s: float | None = None
    room: str = field(default="")

    @property
    def adapter(self) -> TypeAdapter[Any]:
        """What holds answers against their type and writes them; made when first asked for."""
        return _adapter(self.answer)

    @property
    def every_parameter(self) -> tuple[Parameter, ...]:
        """Those of its own, and those of paging."""
        if not self.pages:
            return self.parameters
        paging = (LIMIT, CURSOR) if self.pages == "cursor" else (LIMIT, CURSOR, OFFSET)
        return (*self.parameters, *paging)


@cache
def _adapter(answer: Any) -> TypeAdapter[Any]:
    """One for each type: routes are few, and so are their answers."""
    return TypeAdapter(answer)
