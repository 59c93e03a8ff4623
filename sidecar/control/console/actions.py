"""What a form of the console may do: which routes of the API, from fields to what they are asked.

Knows: that a form's fields are a route's path parameters and the members of its body, by the same
names, and nothing else; that who may do it is the route's to say.
Must not know: HTTP, how a page shows what came of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from pydantic import ValidationError

from sidecar.control.api.parameters import SEQ_MAX, Parameter, Text, Whole
from sidecar.control.api.problems import ApiProblem
from sidecar.control.api.route import Asked, Route
from sidecar.control.console.page import route_of, whole

#: What may be done here, and what is told once it is done; "" shows the whole answer instead, for
#: it holds something that is shown only once, or that was asked for to be read.
ACTIONS: Final[Mapping[str, str]] = {
    "approve": "Your yes is on record.",
    "reject": "Your no is on record.",
    "withdraw": "The question is taken back: nothing goes ahead by it.",
    "freeze_agent": "The agent is frozen: no call of it goes ahead.",
    "unfreeze_agent": "The agent may call again.",
    "quarantine_agent": "The agent is not known any more until it is restored.",
    "restore_agent": "The agent may call again.",
    "revoke_agent": "The agent may not call again, for good.",
    "delete_agent": "The agent is gone, for good; its receipts stay.",
    "contain": "It is contained: every sidecar on this store holds its decisions to it.",
    "undo_containment": "The containment has ended.",
    "acknowledge_incident": "It is on record that you look at it.",
    "note_incident": "Your note is on record.",
    "close_incident": "The incident and its alerts are closed.",
    "acknowledge_alert": "It is on record that you look at it.",
    "close_alert": "The alert is closed.",
    "reset_run": "The agent's run is ended.",
    "accept_tools": "What the server says now is what is trusted from here on.",
    "register_agent": "",
    "rotate_token": "",
    "verify_receipt": "",
    "verify_range": "",
}
#: Fields that every form has.
OURS: Final = ("csrf", "back")


async def done(name: str, fields: Mapping[str, str], asked: Asked) -> dict[str, Any]:
    """What the route answers. Raises ApiProblem, and what the route's handler raises."""
    if name not in ACTIONS:
        raise ApiProblem("not_found", "there is no such form")
    route = route_of(name)
    if not asked.person.roles & route.roles:
        named = ", ".join(sorted(role.value for role in route.roles))
        raise ApiProblem("role_required", f"this takes one of the roles {named}")
    given = {key: value for key, value in fields.items() if key not in OURS}
    values = {
        one.name: one.read(given.pop(one.name, ""))
        for one in route.every_parameter
        if one.place == "path"
    }
    for one in route.every_parameter:
        if one.place == "query":
            text = given.pop(one.name, "")
            values[one.name] = one.read(text) if text else one.default
    said = await route.handler(replace(asked, values=values, body=_body(route, given)))
    answer: dict[str, Any] = whole(name, said)
    return answer


def _body(route: Route, fields: Mapping[str, str]) -> Any:
    """A form's fields as the route's body: texts, but for numbers and lists, one item a line; a
    field that was left empty was left out."""
    if route.body is None:
        if fields:
            raise ApiProblem("malformed_request", "no such field is asked for")
        return None
    kinds = route.body.model_fields
    members: dict[str, Any] = {}
    for name, text in fields.items():
        if name not in kinds:
            raise ApiProblem("invalid_body", f"there is no field {name[:80]!a}")
        if not text:
            continue
        said = str(kinds[name].annotation)
        if "int" in said:
            members[name] = Parameter(name, Whole(0, SEQ_MAX), "").read(text)
        elif "list" in said:
            members[name] = [
                Parameter(name, Text(), "").read(one) for one in text.splitlines() if one
            ]
        else:
            members[name] = text.replace("\r\n", "\n")
    try:
        return route.body.model_validate(members, strict=True)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        raise ApiProblem("invalid_body", f"{place}: {first['msg']}", parameter=place) from None
