"""Canaries over every output: a secret that comes in by any way comes out by none.

`canary_sources` are the ways in; what must not hold them is all a sidecar writes, prints, answers
and sends. Kept by design, and so found: what nobody called a secret.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from pathlib import Path

import canary_stage
import postgres_server
import pytest
from canaries import Canary, leaks
from canary_policies import RULES
from canary_sources import SOURCES, Keeper
from canary_stage import Seen

#: Outputs by the beginnings of their names.
GROUPS = {
    "store": ("file aegis.db", "file archive", "file backup", "table "),
    "other files": ("file heads", "file trend", "file aegis.db.lock"),
    "log": ("file log", "server log"),
    "listeners": ("/",),
    "export": ("receipts export",),
    "explain": ("policy explain",),
    "replay": ("policy replay",),
    "configuration": ("config", "policy check"),
    "care": ("store", "status", "runs", "health", "reload", "agents", "keys"),
}
ENGINES = ("sqlite", "postgres")
DIGESTS = {one.name for one in SOURCES if one.keeper is Keeper.DIGEST}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("canary")


@pytest.fixture(scope="module", params=ENGINES)
def seen(request: pytest.FixtureRequest, folder: Path) -> Iterator[Seen]:
    if request.param == "sqlite":
        yield canary_stage.perform(folder / "sqlite", SOURCES)
        return
    with postgres_server.new_cluster() as cluster:
        cluster.initialise()
        # What the server can be made to say of statements is no concern of the sidecar's.
        cluster.start("fsync=off", "full_page_writes=off")
        url = asyncio.run(postgres_server.new_database(cluster.dsn()))
        found = canary_stage.perform(folder / "postgres", SOURCES, store=url)
        found.outputs["server log"] = (cluster.folder / "server.log").read_bytes()
        password = Canary("the store's password", postgres_server.PASSWORD)
        found.credentials["store"] = password
        yield found


def kept(seen: Seen) -> list[Canary]:
    return [seen.planted[one.name] for one in SOURCES if one.keeper is Keeper.NOTHING]


def forbidden(seen: Seen) -> list[Canary]:
    known = kept(seen)
    every = (*seen.planted.values(), *seen.credentials.values(), *seen.held.values())
    return [one for one in every if one not in known]


def of_group(seen: Seen, group: str) -> dict[str, bytes]:
    return {name: o for name, o in seen.outputs.items() if name.startswith(GROUPS[group])}


def found(canaries: Iterable[Canary], outputs: dict[str, bytes]) -> list[str]:
    """Which is where, in which form; not the digest of what is kept as a digest."""
    suspects = [one for one in canaries if one.found_in(b"\n".join(outputs.values()))]
    return [
        f"{name} ({form}) in {output}"
        for output, content in outputs.items()
        for name, forms in leaks(suspects, content).items()
        for form in forms
        if not (name in DIGESTS and form == "SHA-256 in hex")
    ]


def test_every_source_gets_as_far_as_it_should(seen: Seen) -> None:
    wanted = {one.name: one.status for one in SOURCES}
    assert {name: seen.statuses[name] for name in wanted} == wanted
    received = b"".join(seen.received.values())
    arrived = {one.name: bool(seen.planted[one.name].found_in(received)) for one in SOURCES}
    assert arrived == {one.name: one.arrives for one in SOURCES}


def test_credentials_of_agents_count_where_they_should(seen: Seen) -> None:
    for name in ("agent", "made for an agent", "made for an agent again"):
        assert seen.statuses[f"{name} as token"] == seen.statuses[f"{name} as bearer"] == 200, name
        assert seen.statuses[f"{name} as token, wrongly"] == 401
    for name in ("person", "made for a person"):
        assert seen.statuses[f"{name} as token"] == 401, "a person's key makes no agent"


def test_g5_every_output_belongs_to_a_group(seen: Seen) -> None:
    every = [name for group in GROUPS for name in of_group(seen, group)]
    assert sorted(set(every)) == sorted(seen.outputs)


@pytest.mark.parametrize("group", GROUPS)
def test_g5_no_secret_is_in(seen: Seen, group: str) -> None:
    outputs = of_group(seen, group)
    assert any(outputs.values())
    assert found(forbidden(seen), outputs) == []


def test_what_nobody_called_a_secret_is_found_where_it_is_kept(seen: Seen) -> None:
    stored = b"".join(of_group(seen, "store").values())
    exported = b"".join(of_group(seen, "export").values())
    for canary in kept(seen):
        assert canary.found_in(stored), canary
        assert canary.found_in(exported), canary
    explained = b"".join(of_group(seen, "explain").values())
    assert seen.planted["kept: a reason"].found_in(explained)


def test_the_log_is_as_talkative_as_it_can_be(seen: Seen) -> None:
    log = next(content for name, content in seen.outputs.items() if name.startswith("file log"))
    for said in (b'"level": "debug"', b'"exception": "TooMuch"', b'"room": "library"', b"asyncio"):
        assert said in log, said


def test_g5_agents_are_told_no_secret_but_their_own(seen: Seen) -> None:
    """An upstream that repeats its credentials is repeated: its answers pass unless a rule masks
    them. All the rest an agent gets is free of them, and of what other requests held."""
    own = {one.name: seen.planted[one.name] for one in SOURCES}
    said = {}
    for name, reply in seen.replies.items():
        upstream, _, kind = name.partition(" answers ")
        others = [one for one in own.values() if one.name != name]
        if upstream in seen.credentials and kind in ("echo", "cut-off"):
            secrets = [one for key, one in seen.credentials.items() if key != upstream]
        else:
            secrets = list(seen.credentials.values())
        if upstream not in seen.credentials:
            secrets += seen.held.values()
        if where := found([*others, *secrets], {name: reply}):
            said[name] = where
    assert said == {}
    echoed = seen.credentials["shop"].found_in(seen.replies["shop answers echo"])
    assert echoed, "an upstream did repeat its credentials"
    passed = seen.replies["shop answers masked"]
    assert all(one.found_in(passed) for one in seen.held.values()), "and answers held secrets"


def test_g5_upstreams_get_no_credentials_but_their_own(seen: Seen) -> None:
    for name, received in seen.received.items():
        others = [one for key, one in seen.credentials.items() if key != name]
        assert found(others, {name: received}) == []
    for name in ("shop", "bank", "keyed"):
        assert seen.credentials[name].found_in(seen.received[name]), name


def test_planted_without_redaction_the_search_finds_what_was_masked(folder: Path) -> None:
    """Nothing is a secret by name and nothing is masked: then names and obligations keep nothing,
    and what is kept out by never being read stays out."""
    open_stage = canary_stage.perform(
        folder / "open", SOURCES, secrets=["nothing"], rules=RULES, asks=False
    )
    stored = of_group(open_stage, "store")
    is_there = {name: bool(found([one], stored)) for name, one in open_stage.planted.items()}
    unmasked = (Keeper.NAME, Keeper.OBLIGATION, Keeper.NOTHING)
    assert is_there == {one.name: one.is_read and one.keeper in unmasked for one in SOURCES}
