"""multipart/form-data as Python's own `email` reads it: the mail parser that old servers used.

Knows: fields and files, and how both are told as texts. Must not know: the sidecar.
"""

from __future__ import annotations

import email
import email.policy
import hashlib
from email.message import Message


def file_text(filename: str, content: bytes) -> str:
    """How a file is told among texts: its name, size and digest."""
    return f"file:{filename}:{len(content)}:{hashlib.sha256(content).hexdigest()}"


def read_form_data(content_type: str, body: bytes) -> list[tuple[str, str]]:
    """Names and values in their order; of a file its name, size and digest. Never raises."""
    head = f"Content-Type: {content_type}\r\n\r\n".encode("latin-1", "replace")
    message = email.message_from_bytes(head + body, policy=email.policy.HTTP)
    parts = message.get_payload() if message.is_multipart() else []
    return [_pair(part) for part in parts if isinstance(part, Message)]


def _pair(part: Message) -> tuple[str, str]:
    name = part.get_param("name", "", "content-disposition")
    payload = part.get_payload(decode=True)
    content = payload if isinstance(payload, bytes) else b""
    filename = part.get_filename()
    if filename is not None:
        return str(name), file_text(filename, content)
    return str(name), content.decode("utf-8", "replace")
