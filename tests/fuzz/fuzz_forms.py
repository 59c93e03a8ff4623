"""A multipart form as a lenient server reads it: werkzeug, which Flask and others stand on.

Knows: names, texts and files. Must not know: what the sidecar makes of a form.
"""

from __future__ import annotations

import hashlib
from io import BytesIO
from typing import Any

from werkzeug.formparser import FormDataParser
from werkzeug.http import parse_options_header

FORM_DATA = "multipart/form-data"


def read_form(content_type: str, body: bytes) -> tuple[list[tuple[str, str]], dict[str, Any]]:
    """The fields, and of each file what a rule may know; nothing of what the reader refuses."""
    media, options = parse_options_header(content_type)
    try:
        # As its requests ask it: they have the type in lower case (RFC 9110 section 8.3.1).
        _, fields, files = FormDataParser(silent=False).parse(
            BytesIO(body), media.lower(), len(body), options
        )
    except ValueError:
        return [], {}
    found = {}
    for name, file in files.items(multi=True):
        content = file.stream.read()
        file.close()
        found[name] = {
            "sha256": hashlib.sha256(content).hexdigest(),
            "size": len(content),
            "filename": file.filename,
            "content_type": (file.content_type or "").partition(";")[0].strip().lower(),
        }
    return list(fields.items(multi=True)), found
