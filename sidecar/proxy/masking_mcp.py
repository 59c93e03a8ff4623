"""Masking of MCP messages: what a tool gives back, as a structure and as text.

Knows: where a result has its values: `structuredContent`, texts of `content` (often the same
values once more, as JSON), resources, messages of prompts. Paths of `body.` begin at each of them,
and below `result` too where that is all a structure has: so SDKs tell what is no object, some of
them to clients of one era alone.
What cannot be read (images, audio, blobs; text that is no JSON where there are paths) cannot be
masked; an error's text has no fields, and only detectors look at it.
Must not know: HTTP, streams.
"""

from __future__ import annotations

from typing import Any, Final

from sidecar.policy.terms import Redaction
from sidecar.proxy.detectors import mask
from sidecar.proxy.masking import NotMaskable, below, masked, read_json, write_json

_UNREADABLE: Final = frozenset({"image", "audio"})
_WRAPPED: Final = "result"
_HOLDERS: Final = ("content", "contents", "messages", "resource")


def masked_message(data: bytes | str, redaction: Redaction) -> bytes:
    """A JSON-RPC message masked and written anew. Raises NotMaskable."""
    message = read_json(data)
    if not isinstance(message, dict):
        raise NotMaskable("no JSON-RPC message")
    result = message.get("result")
    if isinstance(result, dict):
        result = _held(result, redaction, has_fields=result.get("isError") is not True)
        if "structuredContent" in result:
            structure = result["structuredContent"]
            result["structuredContent"] = _structure(structure, below(redaction.paths))
        message = {**message, "result": result}
    made = masked(message, (), redaction.detectors)
    if "id" in message:  # it says whose answer this is
        made = {**made, "id": message["id"]}
    return write_json(made)


def _structure(value: Any, paths: tuple[tuple[str, ...], ...]) -> Any:
    made = masked(value, paths, ())
    if isinstance(made, dict) and made.keys() == {_WRAPPED}:
        return {_WRAPPED: masked(made[_WRAPPED], paths, ())}
    return made


def _held(holder: dict[str, Any], redaction: Redaction, *, has_fields: bool) -> dict[str, Any]:
    """A copy with the texts of what it holds masked."""
    if holder.get("type") in _UNREADABLE or "blob" in holder:
        raise NotMaskable("an image, audio or other data")
    made = dict(holder)
    for name in _HOLDERS:
        found = made.get(name)
        if isinstance(found, dict):
            made[name] = _held(found, redaction, has_fields=has_fields)
        elif isinstance(found, list):
            made[name] = [
                _held(one, redaction, has_fields=has_fields) if isinstance(one, dict) else one
                for one in found
            ]
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
        made = masked(_structure(value, below(redaction.paths)), (), redaction.detectors)
        return write_json(made).decode()
    if redaction.paths and has_fields and text.strip():
        raise NotMaskable("a text without fields")
    if isinstance(value, str):  # as JSON it may be written with escapes
        return write_json(mask(value, redaction.detectors)).decode()
    return mask(text, redaction.detectors)
