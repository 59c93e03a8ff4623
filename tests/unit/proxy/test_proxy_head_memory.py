"""What a connection remembers of its last head changes nothing of what the next one says."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.errors import Refused
from sidecar.proxy import head_memory
from sidecar.proxy.head import HeadRules, RequestHead, read_head
from sidecar.proxy.head_memory import HeadMemory

RULES = HeadRules(
    hosts=frozenset({"localhost"}),
    by_host={"api.example": "up"},
    decode={"up": ("gzip",)},
)
PLAIN = [
    (b"Host", b"localhost"),
    (b"Content-Type", b"application/json"),
    (b"Content-Length", b"12"),
    (b"Traceparent", b"00-0"),
    (b"X-Own", b"1"),
]

Raw = list[tuple[bytes, bytes]]
Asked = tuple[str, str, tuple[int, int], Raw]
Answer = RequestHead | tuple[str, str]


def once(asked: Asked) -> Answer:
    try:
        return read_head(*asked, "127.0.0.1", RULES)
    except Refused as refused:
        return refused.code, refused.reason


def again(memory: HeadMemory, asked: Asked) -> Answer:
    try:
        return memory.read(*asked, "127.0.0.1", RULES)
    except Refused as refused:
        return refused.code, refused.reason


def post(raw: Raw, target: str = "/up/a") -> Asked:
    return "POST", target, (1, 1), raw


def with_value(name: bytes, value: bytes) -> Raw:
    return [(one, value if one == name else said) for one, said in PLAIN]


_FIELDS = st.sampled_from(
    [
        *((b"Host", value) for value in (b"localhost", b"api.example", b"evil.example", b"a:b:c")),
        *((b"Origin", value) for value in (b"http://localhost", b"http://evil.example")),
        *((b"Content-Length", value) for value in (b"1", b"200", b"\xff")),
        *((b"content-length", value) for value in (b"1", b"3")),
        *((b"Authorization", value) for value in (b"Bearer a", b"Bearer b", b"\xc3\xa9")),
        *((b"Content-Encoding", value) for value in (b"gzip", b"br", b"identity")),
        *((b"Transfer-Encoding", value) for value in (b"chunked", b"gzip")),
        *((b"Connection", value) for value in (b"keep-alive", b"X-Own", b"authorization")),
        *((b"Expect", value) for value in (b"100-continue", b"a cake")),
        *((b"Upgrade", value) for value in (b"websocket", b"h2c")),
        *((b"X-Own", value) for value in (b"1", b"2")),
        *((b"Mcp-Name", value) for value in (b"a", b"b")),
        (b"X_Own", b"1"),
    ]
)
_RAW = st.lists(_FIELDS, max_size=5).map(lambda more: [(b"Host", b"localhost"), *more])
_ASKED = st.tuples(
    st.sampled_from(["POST", "POST", "GET", "TRACE"]),
    st.sampled_from(["/up/a", "/up/a", "/up/b?x=1", "/up/../b"]),
    st.sampled_from([(1, 1), (1, 1), (1, 0)]),
    _RAW,
)


@given(st.lists(_ASKED, min_size=1, max_size=6), st.data())
def test_a_head_is_read_alike_whatever_was_read_before(
    asked: list[Asked], data: st.DataObject
) -> None:
    memory = HeadMemory()
    for one in asked:
        assert again(memory, one) == once(one)
        method, target, version, raw = one
        at = data.draw(st.integers(0, len(raw) - 1))
        other = [*raw[:at], data.draw(_FIELDS), *raw[at + 1 :]]
        near = method, target, version, other
        assert again(memory, near) == once(near)


def test_the_same_head_is_the_same_object() -> None:
    memory = HeadMemory()
    first = again(memory, post(PLAIN))
    assert again(memory, post([*PLAIN])) is first
    assert again(memory, post(PLAIN, "/up/b")) == once(post(PLAIN, "/up/b"))


@pytest.mark.parametrize(
    ("name", "value", "is_known"),
    [
        (b"Content-Length", b"7", True),
        (b"Traceparent", b"7", True),
        (b"Content-Type", b"7", True),
        (b"Host", b"evil.example", False),
        (b"X-Own", b"2", False),
        (b"Content-Length", b"\xff", False),
    ],
)
def test_b23_only_a_value_by_itself_leaves_the_other_fields_known(
    name: bytes, value: bytes, is_known: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory = HeadMemory()
    again(memory, post(PLAIN))
    fields = []

    def read(*given: object) -> RequestHead:
        fields.append(given[-1])
        return read_head(*given)  # type: ignore[arg-type]

    monkeypatch.setattr(head_memory, "read_head", read)
    changed = post(with_value(name, value))
    assert again(memory, changed) == once(changed)
    assert [known is not None for known in fields] == [is_known]


def test_a_refused_head_leaves_the_last_good_one() -> None:
    memory = HeadMemory()
    first = again(memory, post(PLAIN))
    assert isinstance(again(memory, post(with_value(b"Host", b"evil.example"))), tuple)
    assert again(memory, post(PLAIN)) is first


def test_c17_a_large_head_is_forgotten_with_its_request() -> None:
    memory = HeadMemory()
    small = again(memory, post(PLAIN))
    just = with_value(b"X-Own", b"a" * (head_memory.REMEMBERED_BYTES_MAX - 200))
    assert again(memory, post(just)) is again(memory, post([*just])), "positive control"
    large = with_value(b"X-Own", b"a" * head_memory.REMEMBERED_BYTES_MAX)
    head = again(memory, post(large))
    assert head == once(post(large))
    assert again(memory, post([*large])) is not head
    assert memory._raw == () and memory._head is None
    assert again(memory, post(PLAIN)) == small
