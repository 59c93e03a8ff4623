"""The fields of a form, read of a request: bounded, each once.

Knows: that a browser names the Origin of a form, and how a form is written.
Must not know: which forms there are, who sends them.
"""

from __future__ import annotations

import asyncio
from typing import Final
from urllib.parse import parse_qsl

from aiohttp import web

from sidecar.control.api.problems import ApiProblem
from sidecar.control.continuing import invite

FORM_BYTES_MAX: Final = 64 * 1024
FORM_FIELDS_MAX: Final = 64
FORM_WAIT_S: Final = 30.0


async def read_form(request: web.Request) -> dict[str, str]:
    """The fields of a form that one of our pages sent; what another site's page sends was refused
    before, by its Origin. Raises ApiProblem."""
    if "Origin" not in request.headers:
        raise ApiProblem("form_not_ours", "a browser names the Origin of a form")
    if request.content_type != "application/x-www-form-urlencoded":
        raise ApiProblem("unsupported_media_type", "send a form")
    pieces = bytearray()
    too_large = ApiProblem("body_too_large", f"at most {FORM_BYTES_MAX} bytes")
    if (request.content_length or 0) > FORM_BYTES_MAX:
        raise too_large
    await invite(request)
    try:
        async with asyncio.timeout(FORM_WAIT_S):
            async for piece in request.content.iter_any():
                pieces += piece
                if len(pieces) > FORM_BYTES_MAX:
                    raise too_large
    except TimeoutError:
        raise ApiProblem("request_timeout") from None
    except ConnectionError:  # nobody is there to be told, and nothing of ours has failed
        raise ApiProblem("malformed_request", "the form broke off") from None
    try:
        pairs = parse_qsl(
            pieces.decode("ascii"), keep_blank_values=True, strict_parsing=bool(pieces),
            errors="strict", max_num_fields=FORM_FIELDS_MAX,
        )  # fmt: skip
    except ValueError:
        raise ApiProblem("invalid_body", "the form cannot be read") from None
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise ApiProblem("invalid_body", "a field stands twice")
    return fields
