"""The ways to spoil a request: its head, framing, path, JSON, MCP, or just its bytes.

Knows: mutators, and the shapes in which a client can send what they leave. All chance comes from
one Random, so that a seed gives the same requests again.
Must not know: what the sidecar should say to any of it.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from copy import deepcopy
from itertools import pairwise

from fuzz_client import Shot
from fuzz_seeds import PLACE, Cases, Draft

# -- mutators: each takes a draft it may change ----------------------------------------------

Mutator = Callable[["Mutation", Draft], None]


class Mutation:
    """Chance, and the words to spoil with."""

    def __init__(self, chance: random.Random, cases: Cases) -> None:
        self.chance, self.cases = chance, cases
        self.plain = [seed for seed in cases.seeds if seed.expect == "forwarded"]

    def word(self, kind: str) -> bytes:
        return self.chance.choice(self.cases.words[kind]).encode("utf-8", "surrogatepass")

    def shot(self, mark: str) -> Shot:
        """One spoilt request, in one of the shapes a client can send it."""
        chance = self.chance
        pool = self.plain if chance.random() < 0.7 else self.cases.seeds
        draft = deepcopy(chance.choice(pool))
        names = [draft.name]
        for _ in range(chance.choice((1, 1, 1, 2, 3))):
            if draft.raw is None:
                mutator = chance.choice(STRUCTURED)
                mutator(self, draft)
                names.append(mutator.__name__)
        data = draft.render(mark)
        if draft.raw is not None or chance.random() < 0.2:
            for _ in range(chance.choice((1, 1, 2, 4))):
                data = self.spoil_bytes(data)
            names.append("bytes")
        return self._shaped(data, mark, " ".join(names))

    def _shaped(self, data: bytes, mark: str, label: str) -> Shot:
        chance = self.chance
        shape = chance.random()
        if shape < 0.04:
            data = data[: chance.randrange(1, max(2, len(data)))]
            return Shot([data], leaves=chance.random() < 0.7, label=label + " cut")
        if shape < 0.14:
            follower = chance.choice(self.cases.seeds).render(mark + "p")
            return Shot([data + follower], label=label + " pipelined")
        if shape < 0.18:
            keeping = data.replace(b"Connection: close\r\n", b"")
            return Shot([keeping, chance.choice(self.plain).render(mark + "k")], label=label)
        if shape < 0.24 and len(data) > 4:
            at = sorted(chance.randrange(1, len(data)) for _ in range(chance.choice((1, 2, 5))))
            edges = [0, *at, len(data)]
            pieces = [data[a:b] for a, b in pairwise(edges) if a < b]
            return Shot(pieces, label=label + " in pieces")
        return Shot([data], label=label)

    def spoil_bytes(self, data: bytes) -> bytes:
        chance = self.chance
        at = chance.randrange(len(data)) if data else 0
        to = min(len(data), at + chance.choice((1, 1, 2, 5, 20)))
        kind = chance.randrange(6)
        if kind == 0:
            return data[:at] + bytes([chance.randrange(256)]) + data[at + 1 :]
        if kind == 1 and data:
            return data[:at] + bytes([data[at] ^ (1 << chance.randrange(8))]) + data[at + 1 :]
        if kind == 2:
            return data[:at] + data[to:] or b"\r\n"
        if kind == 3:
            return data[:to] + data[at:to] + data[to:]
        if kind == 4:
            return data[:at] + self.word("bytes") + data[at:]
        other = chance.choice(self.cases.seeds).render("spliced")
        return data[:at] + other[chance.randrange(len(other)) :]


def header_twice(m: Mutation, draft: Draft) -> None:
    name, value = m.chance.choice(draft.headers)
    value = m.chance.choice((value, b"x", b"", m.word("values")))
    draft.headers.insert(m.chance.randrange(len(draft.headers) + 1), (name, value))


def header_case(m: Mutation, draft: Draft) -> None:
    at = m.chance.randrange(len(draft.headers))
    name, value = draft.headers[at]
    draft.headers[at] = (m.chance.choice((name.upper(), name.lower(), name.swapcase())), value)


def header_blanks(m: Mutation, draft: Draft) -> None:
    at = m.chance.randrange(len(draft.headers))
    name, value = draft.headers[at]
    bare = name.rstrip(b": ")
    names = (bare + b" : ", bare + b":", bare + b":\t \t", b" " + name, bare + b":\r\n ", bare)
    draft.headers[at] = (m.chance.choice(names), value + m.chance.choice((b"", b" ", b"\t")))


def header_lost(m: Mutation, draft: Draft) -> None:
    del draft.headers[m.chance.randrange(len(draft.headers))]
    if not draft.headers:
        draft.headers.append((b"X-Mark: ", PLACE.encode()))


def header_odd(m: Mutation, draft: Draft) -> None:
    name, _, value = m.word("headers").partition(b": ")
    draft.headers.insert(m.chance.randrange(len(draft.headers) + 1), (name + b": ", value))


def header_value(m: Mutation, draft: Draft) -> None:
    at = m.chance.randrange(len(draft.headers))
    name, value = draft.headers[at]
    draft.headers[at] = (name, m.chance.choice((value + b"," + value, m.word("values"))))


def header_flood(m: Mutation, draft: Draft) -> None:
    count, size = m.chance.choice(((70, 1), (130, 10), (2, 9000), (40, 1000), (20, 3)))
    draft.headers += [(b"X-%d: " % number, b"v" * size) for number in range(count)]


def framing_length(m: Mutation, draft: Draft) -> None:
    size = len(draft.body.replace(PLACE.encode(), b"m-0000000"))
    lengths = [b"%d" % size, b"%d" % (size + 1), b"%d" % max(0, size - 1), b"%d, %d" % (size, size),
               b"+%d" % size, b"0x%x" % size, b"-1", b"", b"0", b"0%d" % size, b"9" * 20,
               b"%d " % size, b"\t%d" % size, b"1_0", b"2000000"]  # fmt: skip
    draft.is_framed = True
    for _ in range(m.chance.choice((1, 1, 2))):
        draft.headers.append((b"Content-Length: ", m.chance.choice(lengths)))


def framing_chunked(m: Mutation, draft: Draft) -> None:
    draft.is_framed = True
    encoding = b"chunked" if m.chance.random() < 0.6 else m.word("encodings")
    draft.headers.append((b"Transfer-Encoding: ", encoding))
    if m.chance.random() < 0.2:
        draft.headers.append((b"Content-Length: ", b"%d" % len(draft.body)))
    if m.chance.random() < 0.1:
        draft.version = b"HTTP/1.0"
    draft.body = _chunks(m, draft.body)


def _chunks(m: Mutation, body: bytes) -> bytes:
    chance = m.chance
    size = chance.choice((1, 3, 16, 1 << 20))
    pieces = [body[at : at + size] for at in range(0, len(body), size)]
    odd = chance.random() < 0.6
    spoilt = chance.randrange(len(pieces)) if pieces and odd else -1
    parts = []
    for number, piece in enumerate(pieces):
        line, end = b"%x" % len(piece), b"\r\n"
        if number == spoilt:
            line, end = chance.choice((
                (b"0x" + line, end), (line + b";a=b", end), (line + b";a=\n", end),
                (line + b" ", end), (b"000" + line, end), (line, b"\n"), (line, b""),
                (b"%x" % (len(piece) + 1), end), (b"-" + line, end), (b"ffffffffffffffff1", end),
                (line + b"\n", end), (line.upper() + b";" + b"e" * 5000, end), (b"", end),
            ))  # fmt: skip
        parts += [line, b"\r\n", piece, end]
    last = b"0\r\n\r\n"
    if chance.random() < 0.3:
        last = b"0\r\n" + m.word("trailers") + b"\r\n\r\n"
    elif chance.random() < 0.1:
        last = chance.choice((b"0\r\n", b"", b"0\n\n", b"00\r\n\r\n", b"0;x\r\n\r\n"))
    return b"".join([*parts, last])


def path_trick(m: Mutation, draft: Draft) -> None:
    target = draft.target
    at = m.chance.randrange(len(target) + 1)
    if m.chance.random() < 0.5:
        slashes = [spot.end() for spot in re.finditer(rb"/", target)] or [0]
        at = m.chance.choice(slashes)
    draft.target = target[:at] + m.word("paths") + target[at:]


def path_escape(m: Mutation, draft: Draft) -> None:
    at = m.chance.randrange(len(draft.target))
    code = draft.target[at]
    form = m.chance.choice((b"%%%02x", b"%%%02X", b"%%25%02x", b"%%u00%02x", b"%%%x"))
    draft.target = draft.target[:at] + form % code + draft.target[at + 1 :]


def path_other(m: Mutation, draft: Draft) -> None:
    draft.target = m.word("targets")


def query_trick(m: Mutation, draft: Draft) -> None:
    joint = b"&" if b"?" in draft.target else b"?"
    draft.target += joint + m.word("queries")


def method_other(m: Mutation, draft: Draft) -> None:
    draft.method = m.word("methods")


def version_other(m: Mutation, draft: Draft) -> None:
    draft.version = m.word("versions")


def form_parts(m: Mutation, draft: Draft) -> None:
    """Puts something among the delimiters, headers and contents of a multipart form."""
    if draft.body[:2] == b"--":
        at = m.chance.choice([one.start() for one in re.finditer(rb"\r\n|--|[\";=]", draft.body)])
        cut = at + m.chance.choice((0, 0, 1, 2))
        draft.body = draft.body[:at] + m.word("form_parts") + draft.body[cut:]


def json_name_twice(m: Mutation, draft: Draft) -> None:
    members = list(re.finditer(rb'"((?:[^"\\]|\\.)*)"\s*:', draft.body))
    if members:
        member = m.chance.choice(members)
        name = member.group(1)
        if m.chance.random() < 0.3 and name:
            name = b"\\u%04x" % name[0] + name[1:] if name[:1] != b"\\" else name
        elif m.chance.random() < 0.3:
            name = name.swapcase()
        extra = b'"' + name + b'":' + m.word("json_values") + b","
        draft.body = draft.body[: member.start()] + extra + draft.body[member.start() :]


def json_value(m: Mutation, draft: Draft) -> None:
    """Takes the place of any number, string or word that is a value."""
    values = list(re.finditer(rb'(?<=:)\s*("(?:[^"\\]|\\.)*"|-?[0-9.eE+]+|true|null)', draft.body))
    if values:
        spot = m.chance.choice(values)
        draft.body = draft.body[: spot.start()] + m.word("json_values") + draft.body[spot.end() :]


def json_in_text(m: Mutation, draft: Draft) -> None:
    texts = list(re.finditer(rb'"((?:[^"\\]|\\.)*)"', draft.body))
    if texts:
        spot = m.chance.choice(texts)
        at = m.chance.randrange(spot.start(1), spot.end(1) + 1)
        draft.body = draft.body[:at] + m.word("json_texts") + draft.body[at:]


def json_deep(m: Mutation, draft: Draft) -> None:
    depth = m.chance.choice((3, 62, 63, 64, 65, 1000, 100_000))
    opening, closing = m.chance.choice(((b"[", b"]"), (b'{"a":', b"}")))
    draft.body = draft.body.replace(
        b"{", b'{"deep":' + opening * depth + b"1" + closing * depth + b",", 1
    )


def json_around(m: Mutation, draft: Draft) -> None:
    body = draft.body
    draft.body = m.chance.choice((
        b"[" + body + b"]", b"[" + body + b"," + body + b"]", b"\xef\xbb\xbf" + body, body + body,
        b" \t\r\n" + body + b"\n", body + b"\0", body + b"//x", b"/**/" + body, body[:-1],
        body.decode("latin-1").encode("utf-16"), body.decode("latin-1").encode("utf-32"),
        b"\x1e" + body, body + b",",
        body.replace(b'"', b"'"), body.replace(b":", b": ").replace(b",", b" ,\n"), b"[]", b"{}",
        body.replace(b"e", b"\\u0065"), body.replace(b"}", b",}"), b")]}'\n" + body,
    ))  # fmt: skip


def mcp_header(m: Mutation, draft: Draft) -> None:
    name, _, value = m.word("mcp_headers").partition(b": ")
    draft.headers.append((name + b": ", value))


def mcp_method(m: Mutation, draft: Draft) -> None:
    draft.body = re.sub(
        rb'"method": ?"[^"]*"', lambda _: b'"method": "' + m.word("mcp_methods") + b'"', draft.body
    )


def mcp_name(m: Mutation, draft: Draft) -> None:
    draft.body = re.sub(
        rb'"name": ?"[^"]*"', lambda _: b'"name": "' + m.word("mcp_names") + b'"', draft.body
    )


def mcp_id(m: Mutation, draft: Draft) -> None:
    draft.body = re.sub(
        rb'"id": ?[^,}]*', lambda _: b'"id": ' + m.word("json_values"), draft.body, count=1
    )


STRUCTURED: tuple[Mutator, ...] = (
    header_twice, header_case, header_blanks, header_lost, header_odd, header_odd, header_value,
    header_flood, framing_length, framing_length, framing_chunked, framing_chunked, path_trick,
    path_trick, path_trick, path_escape, path_other, query_trick, form_parts, form_parts,
    method_other, version_other,
    json_name_twice, json_name_twice, json_value, json_value, json_in_text, json_deep, json_around,
    json_around, mcp_header, mcp_header, mcp_method, mcp_name, mcp_id,
)  # fmt: skip
