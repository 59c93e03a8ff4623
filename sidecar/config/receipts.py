"""`receipts:` of sidecar.yaml: the key that signs the heads of the chains, where they go, and how
long a chain may be silent.

Knows: that the key is an Ed25519 private key in a file which not everybody reads; which places a
signed head can be sent to. Must not know: what is signed, how a place is reached.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit

from sidecar.config.endpoints import is_loopback
from sidecar.config.model import Checkpoints, Group, Receipts, Secret
from sidecar.config.references import References
from sidecar.config.settings import bounds_of, key_of
from sidecar.config.units import duration_s, duration_text
from sidecar.yaml_section import Section

T = TypeVar("T", int, float)

TARGETS_MAX = 8
FILE = "file:"


def read_receipts(top: Section, references: References, folder: Path) -> Receipts:
    """The settings; `file:` paths are relative to `folder`."""
    section = top.sub("receipts")
    section.allow(("key", "heartbeat", "checkpoint"))
    key = None
    if "key" in section.members:
        key = _usable(section, references.pem_text(section, "key", is_private=True))
    elif "checkpoint" in section.members:
        section.report(
            section.members["checkpoint"],
            "receipts.checkpoint: nothing is signed without receipts.key",
            "openssl genpkey -algorithm ed25519 -out KEY.pem && chmod 600 KEY.pem",
            at_key=True,
        )
    heartbeat = _within(Receipts, "heartbeat_s", _heartbeat_s, duration_text)
    return Receipts(
        key=key,
        heartbeat_s=section.read("heartbeat", heartbeat, Receipts().heartbeat_s),
        checkpoint=_checkpoints(section.sub("checkpoint"), folder),
    )


def _heartbeat_s(value: object) -> float:
    found = duration_s(value)
    if 0 < found < 1:
        raise ValueError("must be 0s, or from 1s")
    return found


def _usable(section: Section, key: Secret | None) -> Secret | None:
    from sidecar.signed_note import BadNote, SigningKey  # its library is for those who sign

    if key is None:
        return None
    try:
        SigningKey(key.reveal())
    except BadNote as error:
        section.report(section.members["key"], f"{section.key('key')}: {error}")
        return None
    return key


def _checkpoints(section: Section, folder: Path) -> Checkpoints:
    section.allow([key_of(name) for name in Checkpoints.model_fields])
    usual = Checkpoints()
    return Checkpoints(
        every_s=section.read(
            "every", _within(Checkpoints, "every_s", duration_s, duration_text), usual.every_s
        ),
        receipts=section.read(
            "receipts", _within(Checkpoints, "receipts", _whole, str), usual.receipts
        ),
        to=_targets(section, folder),
    )


def _within(
    model: type[Group], name: str, convert: Callable[[object], T], shown: Callable[[T], str]
) -> Callable[[object], T]:
    low, high = bounds_of(model.model_fields[name])

    def check(value: object) -> T:
        found = convert(value)
        if not low <= found <= high:
            raise ValueError(f"must be from {shown(low)} to {shown(high)}")
        return found

    return check


def _whole(value: object) -> int:
    if type(value) is not int:
        raise ValueError("not a whole number")
    return value


def _targets(section: Section, folder: Path) -> tuple[str, ...]:
    node = section.members.get("to")
    items = [] if node is None else node.value if node.is_list else [node]
    found: list[str] = []
    for item in items:
        try:
            target = _target(item.value, folder)
            if target in found:
                raise ValueError("it is here twice")
            found.append(target)
        except ValueError as error:
            section.report(item, f"{section.key('to')}: {error}")
    if len(found) > TARGETS_MAX:
        section.report(node, f"{section.key('to')}: more than {TARGETS_MAX} places")
    return tuple(found)


def _target(value: object, folder: Path) -> str:
    if not isinstance(value, str) or not value.isprintable() or " " in value:
        raise ValueError("file:PATH or https://HOST/PATH is expected here")
    if value.startswith(FILE):
        path = value.removeprefix(FILE)
        if not path:
            raise ValueError("file: names no file")
        return FILE + os.path.normpath(folder / path)
    return _url(value)


def _url(value: str) -> str:
    parts = urlsplit(value)
    if parts.scheme not in ("https", "http") or not parts.hostname:
        raise ValueError("file:PATH or https://HOST/PATH is expected here")
    if parts.scheme == "http" and not is_loopback(parts.hostname):
        raise ValueError("http is for this machine only: write https://")
    if parts.username is not None or parts.password is not None:
        raise ValueError("credentials have no place in a URL")
    if parts.fragment:
        from sidecar.signed_note import COSIGNATURE, BadNote, read_verifier_key

        try:
            if read_verifier_key(parts.fragment).kind != COSIGNATURE:
                raise BadNote("it is not that of a witness (its type is not 0x04)")
        except BadNote as error:
            raise ValueError(f"the witness's key after #: {error}") from None
    return value
