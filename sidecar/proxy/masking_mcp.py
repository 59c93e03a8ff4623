"""Masking of MCP messages: what a tool gives back, as a structure and as text.

Knows: where a message has its values: `structuredContent`, texts of `content` (often the same
values once more, as JSON), resources, messages of prompts; the `data` of an error and of what is
logged; `_meta`, and whatever stands beside the members that MCP names, as in the result of a method
of the server's own. Paths of `body.` begin at each of them, and below the only member of a
structure too: so SDKs tell what is no object, some of them to clients of one era alone.
What cannot be read (images, audio, blobs; text that is no JSON where there are paths) cannot be
masked; an error's text that is no JSON has no fields, and only detectors look at it.
Must not know: HTTP, streams.
"""

from __future__ import annotations

from typing import Any, Final

from sidecar.policy.terms import Redaction
from sidecar.proxy.detectors import mask
from sidecar.proxy.masking import NotMaskable, below, masked, read_json, write_json

_UNREADABLE: Final = frozenset({"image", "audio"})
_HOLDERS: Final = ("content", "contents", "messages", "resource")
#: What MCP itself says by these is no value of a tool's, and of another type than a mask.
_OF_RESULTS: Final = frozenset(
    {*_HOLDERS, "structuredContent", "isError", "resultType", "text", "_meta"}
)
_OF_BLOCKS: Final = frozenset(
    {*_HOLDERS, "type", "text", "uri", "mimeType", "name", "title", "description", "size", "icons",
     "annotations", "role", "_meta"}
)  # fmt: skip
_OF_PARAMS: Final = frozenset(
    {"progressToken", "progress", "total", "message", "level", "logger", "data", "requestId",
     "reason", "uri", "messages", "mode", "url", "requestedSchema", "elicitationId", "_meta"}
)  # fmt: skip
_OF_ERRORS: Final = frozenset({"code", "message", "data"})
#: Told by Python itself: documents may stand in the texts of others.
_TOO_DEEP: Final = "nested too deep"


def masked_message(data: bytes | str, redaction: Redaction) -> bytes:
    """A JSON-RPC message masked and written anew. Raises NotMaskable."""
    try:
        return _masked_message(data, redaction)
    except RecursionError:
        raise NotMaskable(_TOO_DEEP) from None


def _masked_message(data: bytes | str, redaction: Redaction) -> bytes:
    message = read_json(data)
    if not isinstance(message, dict):
        raise NotMaskable("no JSON-RPC message")
    result = message.get("result")
    if isinstance(result, dict):
        has_fields = result.get("isError") is not True
        result = _held(result, redaction, _OF_RESULTS, has_fields=has_fields)
        if "structuredContent" in result:
            result["structuredContent"] = _structured(result["structuredContent"], redaction)
        message = {**message, "result": result}
    for name, own in (("error", _OF_ERRORS), ("params", _OF_PARAMS)):
        if isinstance(said := message.get(name), dict):
            message = {**message, name: _said(said, redaction, own)}
    made = masked(message, (), redaction.detectors)
    if "id" in message:  # it says whose answer this is
        made = {**made, "id": message["id"]}
    return write_json(made)


def _structured(value: Any, redaction: Redaction) -> Any:
    """A structure with its fields masked. One of a single member may be no more than a wrapping:
    what is no object, a text or a list, official SDKs give as `{"result": …}`."""
    made = masked(value, below(redaction.paths), ())
    if not isinstance(made, dict) or len(made) != 1:
        return made
    return {name: _wrapped(one, redaction) for name, one in made.items()}


def _wrapped(value: Any, redaction: Redaction) -> Any:
    if isinstance(value, str):  # a plain one stands in `content` too, where it is refused
        return masked_text(value, redaction, has_fields=False)
    if isinstance(value, list):
        return [_wrapped(one, redaction) for one in value]
    return masked(value, below(redaction.paths), ()) if isinstance(value, dict) else value


def _beside(
    holder: dict[str, Any], redaction: Redaction, own: frozenset[str], *roots: str
) -> dict[str, Any]:
    """A copy with the fields masked that stand beside its `own` members, and below `roots`."""
    paths = below(redaction.paths)
    if not paths:
        return dict(holder)
    made = {**holder, **masked({k: v for k, v in holder.items() if k not in own}, paths, ())}
    for root in roots:
        if isinstance(found := made.get(root), dict | list):
            made[root] = masked(found, paths, ())
    return made


def _said(holder: dict[str, Any], redaction: Redaction, own: frozenset[str]) -> dict[str, Any]:
    """An error, or what a notification or request says, with its fields masked; its texts are
    masked as an error's."""
    made = _beside(holder, redaction, own, "data", "_meta")
    for name in ("message", "data"):
        if isinstance(text := made.get(name), str):
            made[name] = masked_text(text, redaction, has_fields=False)
    return made


def _held(
    holder: dict[str, Any], redaction: Redaction, own: frozenset[str], *, has_fields: bool
) -> dict[str, Any]:
    """A copy with the texts of what it holds masked."""
    if holder.get("type") in _UNREADABLE or "blob" in holder:
        raise NotMaskable("an image, audio or other data")
    made = _beside(holder, redaction, own, "_meta", "toolResult")  # the latter: of 2024-10-07

    def below_it(one: Any) -> Any:
        is_held = isinstance(one, dict)
        return _held(one, redaction, _OF_BLOCKS, has_fields=has_fields) if is_held else one

    for name in _HOLDERS:
        found = made.get(name)
        if isinstance(found, dict):
            made[name] = below_it(found)
        elif isinstance(found, list):
            made[name] = [below_it(one) for one in found]
    text = made.get("text")
    if isinstance(text, str):
        made["text"] = masked_text(text, redaction, has_fields=has_fields)
    return made


def masked_text(text: str, redaction: Redaction, *, has_fields: bool) -> str:
    """A text that may be JSON: then its values are masked, whatever escapes they are written with.

    Raises NotMaskable for other texts if there are paths and the text should have fields.
    """
    try:
        value = read_json(text)
    except NotMaskable:
        value = None
    if isinstance(value, dict | list):
        try:
            made = masked(_structured(value, redaction), (), redaction.detectors)
        except RecursionError:
            raise NotMaskable(_TOO_DEEP) from None
        return write_json(made).decode()
    if redaction.paths and has_fields and text.strip():
        raise NotMaskable("a text without fields")
    if isinstance(value, str):  # as JSON it may be written with escapes
        return write_json(mask(value, redaction.detectors)).decode()
    return mask(text, redaction.detectors)
