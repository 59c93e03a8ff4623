"""Every error a server, or the way to it, can give: its kind, and what the operator can do."""

from __future__ import annotations

import ssl
from collections import defaultdict
from collections.abc import Mapping

import pytest

from storage.driver import UnfitRow
from storage.errors import (
    StoreBusy,
    StoreCorrupt,
    StoreError,
    StoreFull,
    StoreReadOnly,
    StoreUnavailable,
    UniqueViolation,
    UnsupportedStore,
)
from storage.postgres_connect import Servers, ServerState
from storage.postgres_errors import (
    could_not_connect,
    is_certainly_not_committed,
    is_distrustful,
    translated,
)

#: Steps that only make sense for a file.
OF_FILES = ("Close other programs", "its folder writable", "sqlite:///", "Read the log")


class Said(Exception):
    """What a driver raises: a text and the server's code."""

    def __init__(self, sqlstate: str, text: str = "as the server put it") -> None:
        super().__init__(text)
        self.sqlstate = sqlstate


@pytest.mark.parametrize(("code", "kind"), [
    ("23505", UniqueViolation), ("23514", UnfitRow), ("22P05", UnfitRow),
    ("25006", StoreReadOnly), ("42501", StoreReadOnly),
    ("40001", StoreBusy), ("40P01", StoreBusy), ("55P03", StoreBusy), ("57014", StoreBusy),
    ("53100", StoreFull), ("53300", StoreUnavailable), ("53200", StoreUnavailable),
    ("08006", StoreUnavailable), ("57P01", StoreUnavailable), ("57P03", StoreUnavailable),
    ("28P01", UnsupportedStore), ("28000", UnsupportedStore), ("3D000", UnsupportedStore),
    ("42704", UnsupportedStore), ("3F000", UnsupportedStore),
    ("42P01", StoreUnavailable), ("42703", StoreUnavailable),
    ("XX001", StoreCorrupt), ("XX002", StoreCorrupt),
])  # fmt: skip
def test_a_code_of_the_server_becomes_a_kind_with_a_step(code: str, kind: type[StoreError]) -> None:
    for translate in (translated, could_not_connect):
        error = translate(Said(code))
        assert type(error) is kind
        assert str(error) == f"{code} as the server put it"
        if kind not in (UnfitRow, UniqueViolation):
            assert len(error.next_step) > 20
            assert not any(words in error.next_step for words in OF_FILES), error.next_step
    assert StoreFull.next_step.startswith("Free disk space. A sidecar that runs"), "untouched"


@pytest.mark.parametrize(("error", "kind", "said"), [
    (ConnectionRefusedError(111, "Connection refused"), StoreUnavailable, "Connection refused"),
    (OSError(111, "Connect call failed ('127.0.0.1', 5)"), StoreUnavailable, "Connection refused"),
    (ConnectionError("unexpected connection_lost() call"), StoreUnavailable,
     "the connection was closed before the server had answered"),
    (TimeoutError("no answer in 2 s"), StoreUnavailable, "no answer in 2 s"),
    (ssl.SSLError(1, "wrong version number"), UnsupportedStore, "no secure connection: wrong"),
    (ConnectionError("PostgreSQL server at x rejected SSL upgrade"), UnsupportedStore,
     "the server offers no TLS"),
    (FileNotFoundError(2, "No such file or directory", "/etc/ca.pem"), UnsupportedStore,
     "/etc/ca.pem: No such file or directory"),
    (PermissionError(13, "Permission denied", "/etc/c.key"), UnsupportedStore, "/etc/c.key: "),
    (ValueError("invalid port"), UnsupportedStore, "invalid port"),
])  # fmt: skip
def test_what_stands_in_the_way_of_a_connection_is_told_from_what_will_pass(
    error: Exception, kind: type[StoreError], said: str
) -> None:
    told = could_not_connect(error)
    assert type(told) is kind
    assert said in str(told) and "Errno" not in str(told)
    assert not any(words in told.next_step for words in OF_FILES)
    # Within a statement the same mistake of a value is the row's.
    if type(error) is ValueError:
        assert type(translated(error)) is UnfitRow


def test_a_server_that_says_nothing_is_told_in_words() -> None:
    assert str(translated(TimeoutError())) == "the server did not answer in time"


@pytest.mark.parametrize(("code", "distrusted", "undone"), [
    ("08006", True, False), ("57P01", True, False), ("57014", False, True),
    ("25006", True, True), ("53100", False, True), ("55P03", False, True),
    ("23505", False, True), ("40001", False, True), ("XX000", True, False), ("", True, False),
])  # fmt: skip
def test_what_a_code_says_of_the_connection_and_of_a_commit(
    code: str, distrusted: bool, undone: bool
) -> None:
    assert is_distrustful(Said(code)) == distrusted
    assert is_certainly_not_committed(Said(code)) == undone


STATE = ServerState("17.2", 170002, False, False, "on", True, "00000001", False, "UTF8")
#: What is asked of a new connection, without a word.
NO_TEXTS: Mapping[str, str] = defaultdict(str)
GOOD = "postgresql://aegis@127.0.0.1:1,127.0.0.1:2,127.0.0.1:3/aegis"


class Answering:
    """A connection that has no settings of its own, of which only `server_state` is asked."""

    def __init__(self, state: ServerState) -> None:
        self.state = state
        self.is_ended = False

    async def fetchrow(self, _: str) -> ServerState:
        return self.state

    async def fetch(self, _: str, __: str) -> list[tuple[str, str]]:
        return []

    async def execute(self, _: str) -> None:
        """What it is told is nothing that it says something to."""

    def terminate(self) -> None:
        self.is_ended = True


@pytest.mark.parametrize(("answers", "kind"), [
    ("refused refused refused", StoreUnavailable),
    ("password refused password", StoreUnavailable),
    ("password password password", UnsupportedStore),
    ("refused standby refused", StoreReadOnly),
    ("old old old", UnsupportedStore),
    ("off off off", UnsupportedStore),
])  # fmt: skip
async def test_of_several_servers_each_says_why_and_waiting_is_given_up_only_if_it_is_vain(
    answers: str, kind: type[StoreError]
) -> None:
    names = answers.split()
    ended: list[Answering] = []

    async def open_one(url: str, _: float, __: object) -> Answering:
        name = names[int(url.partition("127.0.0.1:")[2][0]) - 1]
        if name == "refused":
            raise ConnectionRefusedError(111, "Connection refused")
        if name == "password":
            raise Said("28P01", "no")
        changes = {
            "standby": {"is_standby": True},
            "old": {"number": 120000},
            "off": {"durability": "off"},
            "good": {},
        }
        ended.append(Answering(STATE._replace(**changes[name])))  # type: ignore[arg-type]
        return ended[-1]

    servers = Servers(GOOD, NO_TEXTS, open_one)
    with pytest.raises(StoreError) as caught:
        await servers.connect({})
    assert type(caught.value) is kind
    for number in (1, 2, 3):
        assert f"127.0.0.1:{number}: " in str(caught.value)
    assert all(one.is_ended for one in ended), "nothing is held"
    names[2] = "good"
    connection = await servers.connect({})
    assert not connection.is_ended
    names[:2] = ["standby", "standby"]
    before = len(ended)
    await servers.connect({})
    assert len(ended) == before + 1, "the primary of last time is asked first"
    assert ended[-1] is not connection


@pytest.mark.parametrize("change", [
    {"keeps_promises": False}, {"is_above_row_security": True}, {"open_schemas": "public"}, {},
])  # fmt: skip
async def test_what_the_operator_should_know_is_said(change: dict[str, bool | str]) -> None:
    async def open_one(_: str, __: float, ___: object) -> Answering:
        return Answering(STATE._replace(**change))  # type: ignore[arg-type]

    servers = Servers(GOOD, NO_TEXTS, open_one)
    await servers.connect({})
    assert len(servers.warnings()) == len(change)
