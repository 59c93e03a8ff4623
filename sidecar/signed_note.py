"""Signed notes (C2SP signed-note v1): a text, and lines that say who signed it.

Knows: the form of a note, of a verifier key, of key names and key ids; Ed25519 signatures (0x01)
and the cosignatures of witnesses (C2SP tlog-cosignature, 0x04). An algorithm that is not known is
no signature. Pure.
The library is asked for where a key is used: most configurations have none.
Must not know: what a text says, whose keys are trusted, files.
"""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass
from hashlib import sha256

NOTE_BYTES_MAX = 64 * 1024
SIGNATURES_MAX = 64

ED25519 = 0x01
COSIGNATURE = 0x04
_KINDS = {ED25519: "Ed25519", COSIGNATURE: "cosignature/v1"}
_PUBLIC_BYTES = 32
_ID_BYTES = 4
_TIME_BYTES = 8
_DASH = "\u2014"
_NAME = re.compile(r"[^\s+]+")
_CONTROLS = re.compile("[\x00-\x09\x0b-\x1f]")


class BadNote(ValueError):
    """A note, a key or a signature is malformed; the message says how."""


@dataclass(frozen=True, slots=True)
class VerifierKey:
    """A public key under the name by which it signs; `kind` is the type of its signatures."""

    name: str
    public: bytes
    kind: int = ED25519

    @property
    def key_id(self) -> bytes:
        """SHA-256(name || 0x0A || type || public key), the first four bytes."""
        return sha256(self.name.encode() + b"\n" + bytes([self.kind]) + self.public).digest()[:4]

    @property
    def text(self) -> str:
        """NAME+ID+KEY, the form in which C2SP tools take it."""
        material = base64.b64encode(bytes([self.kind]) + self.public).decode()
        return f"{self.name}+{self.key_id.hex()}+{material}"

    def verifies(self, text: str, signature: bytes) -> bool:
        """Whether a signature of this kind over the note's text is by this key."""
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

        signed = text.encode()
        if self.kind == COSIGNATURE:
            at_s = int.from_bytes(signature[:_TIME_BYTES], "big")
            signed = f"cosignature/v1\ntime {at_s}\n".encode() + signed
            signature = signature[_TIME_BYTES:]
        try:
            Ed25519PublicKey.from_public_bytes(self.public).verify(signature, signed)
        except (InvalidSignature, ValueError):
            return False
        return True


@dataclass(frozen=True, slots=True)
class Signature:
    """One line of a note: who is said to have signed, and the bytes."""

    name: str
    key_id: bytes
    value: bytes

    @property
    def line(self) -> str:
        """As it stands in a note, without its end."""
        material = base64.b64encode(self.key_id + self.value).decode()
        return f"{_DASH} {self.name} {material}"


@dataclass(frozen=True, slots=True)
class Note:
    """A note that can be read; nothing says that its signatures hold."""

    text: str
    signatures: tuple[Signature, ...]

    @property
    def whole(self) -> str:
        """The note as it is written down."""
        return self.text + "\n" + "".join(f"{one.line}\n" for one in self.signatures)

    def signature_by(self, key: VerifierKey) -> Signature | None:
        """The line that names this key, if there is one. Raises BadNote if it does not hold: then
        the note is somebody's forgery, whoever else signed it."""
        for one in self.signatures:
            if one.name == key.name and one.key_id == key.key_id:
                if not key.verifies(self.text, one.value):
                    raise BadNote(f"the signature of {key.name} does not hold")
                return one
        return None


class SigningKey:
    """An Ed25519 private key. It shows itself as little as a secret does."""

    __slots__ = ("_private", "public")

    def __init__(self, pem: str) -> None:
        """Raises BadNote for what is no Ed25519 private key in PEM form."""
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
        from cryptography.hazmat.primitives.serialization import load_pem_private_key

        try:
            private = load_pem_private_key(pem.encode(), password=None)
        except TypeError:
            raise BadNote("the key is encrypted: give it in the clear") from None
        except Exception:  # the library's own words may quote the key
            raise BadNote("it holds no private key in PEM form") from None
        if not isinstance(private, Ed25519PrivateKey):
            raise BadNote("it is no Ed25519 key: openssl genpkey -algorithm ed25519")
        self._private = private
        self.public = private.public_key().public_bytes_raw()

    def verifier(self, name: str) -> VerifierKey:
        """The public key under a name."""
        return VerifierKey(name, self.public)

    def sign(self, name: str, text: str) -> Signature:
        """Signs a note's text under a name."""
        return Signature(name, self.verifier(name).key_id, self._private.sign(text.encode()))


def public_pem(public: bytes) -> str:
    """A public key in PEM form (SubjectPublicKeyInfo)."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    key = Ed25519PublicKey.from_public_bytes(public)
    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


def read_public_pem(text: str) -> bytes:
    """The 32 bytes of an Ed25519 public key in PEM form. Raises BadNote."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    try:
        key = load_pem_public_key(text.encode())
    except Exception as error:
        raise BadNote("it holds no public key in PEM form") from error
    if not isinstance(key, Ed25519PublicKey):
        raise BadNote("it is no Ed25519 key")
    return key.public_bytes_raw()


def read_verifier_key(text: str) -> VerifierKey:
    """A key in the form NAME+ID+KEY. Raises BadNote, also for an algorithm that is not known."""
    name, _, rest = text.strip().partition("+")
    key_id, _, material = rest.partition("+")
    raw = _base64(material, "the key")
    if not _NAME.fullmatch(name) or len(raw) < 1:
        raise BadNote("it is no key in the form NAME+ID+KEY")
    if raw[0] not in _KINDS or len(raw) != 1 + _PUBLIC_BYTES:
        raise BadNote(f"its algorithm (0x{raw[0]:02x}) is not known: {', '.join(_KINDS.values())}")
    key = VerifierKey(name, raw[1:], raw[0])
    if key.key_id.hex() != key_id:
        raise BadNote(f"its id is {key_id}, and that of its name and key is {key.key_id.hex()}")
    return key


def read_note(text: str) -> Note:
    """A note with all its lines. Raises BadNote for what is none."""
    if len(text.encode("utf-8", "surrogatepass")) > NOTE_BYTES_MAX:
        raise BadNote(f"it is longer than {NOTE_BYTES_MAX} bytes")
    if _CONTROLS.search(text):
        raise BadNote("it holds control characters")
    body, gap, lines = text.rpartition("\n\n")
    if not gap or not lines.endswith("\n"):
        raise BadNote("it is no signed note")
    found = lines.removesuffix("\n").split("\n")
    if len(found) > SIGNATURES_MAX:
        raise BadNote(f"it has more than {SIGNATURES_MAX} signatures")
    return Note(body + "\n", tuple(_signature(line) for line in found))


def read_signatures(text: str) -> tuple[Signature, ...]:
    """Signature lines by themselves, as a witness answers. Raises BadNote."""
    found = text.removesuffix("\n").split("\n")
    if len(found) > SIGNATURES_MAX:
        raise BadNote(f"there are more than {SIGNATURES_MAX} signatures")
    return tuple(_signature(line) for line in found)


def _signature(line: str) -> Signature:
    parts = line.split(" ")
    if len(parts) != 3 or parts[0] != _DASH or not _NAME.fullmatch(parts[1]):
        raise BadNote("a line of it is no signature")
    raw = _base64(parts[2], "a signature")
    if len(raw) <= _ID_BYTES:
        raise BadNote("a signature of it is cut off")
    return Signature(parts[1], raw[:_ID_BYTES], raw[_ID_BYTES:])


def _base64(text: str, what: str) -> bytes:
    try:
        raw = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise BadNote(f"{what} is not in base64") from error
    if base64.b64encode(raw).decode() != text:
        raise BadNote(f"{what} is not in canonical base64")
    return raw
