"""F7: what alerts quoted of arguments is erased to the byte, wherever it was copied to."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from erasing_scene import WRITTEN, delivery_kinds, hit_of, intent_of, quote, tables_with
from store_care_setup import CLOCK, reports, rows, store_command, tampered, url_of
from test_cli_store_care_erase import kept_secrets, peopled

import storage
from sidecar.cli.main import main
from sidecar.control.erasing import Erasure
from sidecar.counted import counted
from sidecar.soc.model import ERASED
from storage.erasing import ERASING, Erasing

#: Quoted calls: by agent-1 for Ann, by agent-2 for Ann, by agent-2 for Bob.
QUOTED = {12: "agent-1", 21: "agent-2", 31: "agent-2"}


def quoting(folder: Path) -> tuple[Path, dict[int, str]]:
    """The calls of `peopled`, three of which alerts quote; and their incidents."""
    path = peopled(folder)

    async def raise_alerts() -> dict[int, str]:
        store = await storage.open_store(url_of(path), now_us=CLOCK.now_us, node_id="node")
        try:
            hits = [
                hit_of(
                    await intent_of(store, f"acme-{number:06}"), f"secret-{number}-", agent, "acme",
                    detection=f"leak-{number}",
                )
                for number, agent in QUOTED.items()
            ]  # fmt: skip
            found = await quote(store, CLOCK, *hits)
            return {number: one.incident_id for number, one in zip(QUOTED, found, strict=True)}
        finally:
            await store.close()

    return path, asyncio.run(raise_alerts())


def tables(path: Path, text: str) -> set[str]:
    async def look() -> set[str]:
        store = await storage.open_store(url_of(path), now_us=CLOCK.now_us)
        try:
            return await tables_with(store, text)
        finally:
            await store.close()

    return asyncio.run(look())


@pytest.mark.parametrize(("subject", "gone"), [
    (("--user", "ann"), [*range(10, 15), *range(20, 23)]),
    (("--user", "bob"), [*range(30, 34)]),
    (("--agent", "agent-2"), [*range(20, 23), *range(30, 34)]),
    (("--call", "acme-000031"), [31]),
    (("--call", "acme-000030"), [30]),
])  # fmt: skip
def test_f7_what_alerts_quote_is_erased_to_the_byte_and_the_incidents_hold(
    tmp_path: Path,
    subject: tuple[str, str],
    gone: list[int],
    capsys: pytest.CaptureFixture[str],
) -> None:
    path, incidents = quoting(tmp_path)
    everyone = kept_secrets(path)
    for number in QUOTED:
        assert len(tables(path, f"secret-{number}-")) == 7, "positive control"
    quoted = [number for number in gone if number in QUOTED]
    assert store_command("erase", path, "--tenant", "acme", *subject) == 0
    printed = capsys.readouterr().out
    # Of an agent also what stands beside receipts of what was done about it.
    moves = 3 if subject[0] == "--agent" else 0
    assert f"facts of {counted(len(gone) + moves, 'call')} erased" in printed
    assert (f"What {counted(len(quoted), 'alert')} quoted is erased" in printed) == bool(quoted)
    assert ("of the messages had reached nobody yet" in printed) == bool(quoted)
    assert "What people wrote stays" in printed
    assert kept_secrets(path) == [number for number in everyone if number not in gone]
    for number in QUOTED:
        assert len(tables(path, f"secret-{number}-")) == (0 if number in gone else 7)
    assert all(report.fault is None for report in reports(path))
    for number, incident in incidents.items():
        verified = main(["soc", "verify", incident, "--store", url_of(path), "--tenant", "acme"])
        said = capsys.readouterr().out
        assert verified == 0, said
        is_gone = bool(set(quoted) & {
            one for one, name in incidents.items() if name == incident
        })  # fmt: skip
        assert ("said of the call it quotes: that was erased" in said) == is_gone, number
        pack = tmp_path / f"{number}.json"
        taken = ["--store", url_of(path), "--tenant", "acme", "--to", str(pack)]
        assert main(["soc", "pack", incident, *taken]) == 0
        assert f"`soc verify {pack}`" in capsys.readouterr().out, "nobody signed it"
        assert not any(f"secret-{one}-".encode() in pack.read_bytes() for one in gone)
        assert main(["soc", "verify", str(pack)]) == 0
        capsys.readouterr()
    exported = tmp_path / "receipts.jsonl"
    told = ["--store", url_of(path), "--tenant", "acme", "--facts", "--output", str(exported)]
    assert main(["receipts", "export", *told]) == 0
    assert main(["receipts", "verify", str(exported)]) == 0
    assert not any(f"secret-{one}-".encode() in exported.read_bytes() for one in gone)
    assert WRITTEN.encode() in path.read_bytes()
    capsys.readouterr()
    assert store_command("erase", path, "--tenant", "acme", *subject) == 0
    assert "facts of 0 calls, what 0 approvals asked are kept" in capsys.readouterr().out


def test_f7_a_dry_run_says_what_alerts_quote_and_changes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, _ = quoting(tmp_path)
    before = rows(path, "SELECT * FROM alert ORDER BY alert_id")
    told = ("--tenant", "acme", "--user", "ann", "--dry-run")
    assert store_command("erase", path, *told) == 0
    assert "approvals asked, what 2 alerts quoted would go" in capsys.readouterr().out
    assert rows(path, "SELECT * FROM alert ORDER BY alert_id") == before


def test_f7_what_cannot_be_read_stays_and_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, _ = quoting(tmp_path)
    tampered(path, "UPDATE alert SET notes = 'no notes' WHERE detection = 'leak-31'")
    tampered(path, "UPDATE alert SET evidence = '[]' WHERE detection = 'leak-21'")
    assert store_command("erase", path, "--tenant", "acme", "--user", "bob") == 0
    printed = capsys.readouterr().out
    assert "of 1 alert it cannot be told whose call they quote" in printed
    assert "1 row that may quote it cannot be read, and stays" in printed
    assert tables(path, "secret-31-") == {"alert"}


def test_f7_the_alert_itself_is_not_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The check finds a copy that is left, whichever it is."""
    from sidecar.soc import erasing

    for name, left in (
        ("erased_change", "audit_event"),
        ("erased_incident", "incident"),
        ("erased_owed", "watch_memory"),
        ("was_told", "delivery"),
    ):
        folder = tmp_path / name
        folder.mkdir()
        path, _ = quoting(folder)
        with monkeypatch.context() as patched:
            patched.setattr(erasing.Quoting, name, lambda *_: None)
            assert store_command("erase", path, "--tenant", "acme", "--user", "bob") == 0
        assert tables(path, "secret-31-") == {left}
        assert 31 in kept_secrets(path)
        assert store_command("erase", path, "--tenant", "acme", "--user", "bob") == 0
        assert 31 not in kept_secrets(path), "what is left is found again"


def test_f7_what_sinks_were_told_of_others_stays(tmp_path: Path) -> None:
    path, _ = quoting(tmp_path)

    async def kinds() -> list[str]:
        store = await storage.open_store(url_of(path), now_us=CLOCK.now_us)
        try:
            return await delivery_kinds(store)
        finally:
            await store.close()

    before = asyncio.run(kinds())
    assert store_command("erase", path, "--tenant", "acme", "--call", "acme-000012") == 0
    after = asyncio.run(kinds())
    assert before.count("alert.opened") - after.count("alert.opened") == 1
    assert before.count("containment.started") - after.count("containment.started") == 1
    assert before.count("incident.opened") - after.count("incident.opened") == 1
    assert rows(path, f"SELECT count(*) FROM alert WHERE reason = '{ERASED}'") == [(1,)]


def test_f7_an_interrupted_erasure_is_said_and_ended_by_the_next_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, _ = quoting(tmp_path)

    async def mark() -> None:
        store = await storage.open_store(url_of(path), now_us=CLOCK.now_us)
        try:
            ann = await Erasure(store, CLOCK).about("acme", "user", "ann")
            assert await Erasing(store).begin(ann.text()) == ann.text()
        finally:
            await store.close()

    asyncio.run(mark())
    before = kept_secrets(path)
    assert store_command("erase", path, "--tenant", "beta", "--call", "none", "--dry-run") == 0
    assert "was interrupted, and would be finished first" in capsys.readouterr().out
    assert kept_secrets(path) == before
    assert store_command("erase", path, "--tenant", "beta", "--call", "none") == 0
    printed = capsys.readouterr().out
    assert "user 'ann' of tenant 'acme': an erasure that was interrupted is finished" in printed
    assert "call 'none' of tenant 'beta': facts of 0 calls" in printed
    assert kept_secrets(path) == [*range(30, 34), 40, 41]
    tampered(path, "INSERT INTO store_state VALUES (?, 'no mark')", ERASING)
    assert store_command("erase", path, "--tenant", "acme", "--user", "bob") == 1
    assert "the mark of an erasure cannot be read" in capsys.readouterr().err
