"""`store erase`: what was kept of a person goes, the chain stays, and tells of it."""

from __future__ import annotations

from pathlib import Path

import pytest
from store_care_setup import call, filled, held, reports, rows, store_command


def peopled(folder: Path) -> Path:
    """Ann calls by two agents, Bob by one; the same names are there in another tenant."""
    return filled(
        folder / "aegis.db",
        *(call(n) for n in range(10, 15)),
        *(call(n, agent_id="agent-2") for n in range(20, 23)),
        *(call(n, agent_id="agent-2", user_id="bob") for n in range(30, 34)),
        *(call(n, "beta") for n in range(40, 42)),
    )


def kept_secrets(path: Path) -> list[int]:
    """The numbers of the calls of which something can be read in the files, by their bytes."""
    data = b"".join(p.read_bytes() for p in path.parent.glob(f"{path.name}*"))
    return [number for number in range(10, 50) if f"secret-{number}-".encode() in data]


@pytest.mark.parametrize(("subject", "tenant", "gone"), [
    (("--user", "ann"), "acme", [*range(10, 15), *range(20, 23)]),
    (("--user", "bob"), "acme", [*range(30, 34)]),
    (("--agent", "agent-2"), "acme", [*range(20, 23), *range(30, 34)]),
    (("--call", "acme-000031"), "acme", [31]),
    (("--agent", "agent-1"), "beta", [40, 41]),
])  # fmt: skip
def test_f7_a_subject_is_erased_to_the_byte_and_every_chain_still_verifies(
    tmp_path: Path,
    subject: tuple[str, str],
    tenant: str,
    gone: list[int],
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = peopled(tmp_path)
    everyone, before = kept_secrets(path), reports(path)
    assert set(gone) < set(everyone) and len(everyone) == 14
    assert store_command("erase", path, "--tenant", tenant, *subject) == 0
    printed = capsys.readouterr().out
    assert f"facts of {len(gone)} calls erased" in printed
    assert kept_secrets(path) == [number for number in everyone if number not in gone]
    for was, now in zip(before, reports(path), strict=True):
        assert now.fault is None
        told = now.tenant_id == tenant
        assert now.last_seq == was.last_seq + told
        assert now.facts == was.facts - (len(gone) if told else 0)
    kind = subject[0].removeprefix("--")
    told_of = rows(path, "SELECT tenant_id, action, resource, agent_id, user_id FROM receipts "
                         "WHERE kind = 'control'")  # fmt: skip
    told = (tenant, "store.erase_facts", f"call_facts of one {kind}: {len(gone)}", None, None)
    assert told_of == [told]


def test_f7_the_check_for_bytes_can_fail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where deleted rows are not overwritten, they can still be read in the file."""
    from storage import retention

    async def leave(self: object) -> bool:
        await self._driver.transaction(  # type: ignore[attr-defined]
            lambda: retention.fetch("PRAGMA secure_delete = OFF")
        )
        return True

    monkeypatch.setattr(retention.Retention, "overwrite_deleted", leave)
    path = peopled(tmp_path)
    assert store_command("erase", path, "--tenant", "acme", "--user", "bob") == 0
    assert reports(path)[0].facts == 8
    assert set(kept_secrets(path)) & set(range(30, 34))


def test_f7_what_is_not_there_leaves_no_trace(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = peopled(tmp_path)
    before = reports(path)
    assert store_command("erase", path, "--tenant", "beta", "--user", "bob") == 0
    assert "facts of 0 calls" in capsys.readouterr().out
    assert store_command("erase", path, "--tenant", "acme", "--user", "ann", "--dry-run") == 0
    assert "facts of 8 calls would go" in capsys.readouterr().out
    assert reports(path) == before
    assert store_command("erase", path, "--user", "ann") == 2
    assert "name a tenant with --tenant; there are: acme, beta" in capsys.readouterr().err
    assert store_command("erase", path, "--tenant", "gamma", "--user", "ann") == 2
    with pytest.raises(SystemExit) as caught:
        store_command("erase", path, "--tenant", "acme")
    assert caught.value.code == 2


def test_f7_twice_erases_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = peopled(tmp_path)
    for said in ("facts of 4 calls erased", "facts of 0 calls"):
        assert store_command("erase", path, "--tenant", "acme", "--user", "bob") == 0
        assert said in capsys.readouterr().out
    assert reports(path)[0].last_seq == 25


def test_no_erasing_under_a_running_sidecar(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = peopled(tmp_path)
    before = reports(path)
    command = ("erase", path, "--tenant", "acme", "--user", "bob")
    assert held(path, lambda: store_command(*command)) == 1
    error = capsys.readouterr().err
    assert "[store_held]" in error and "stop it first" in error
    assert reports(path) == before
    assert store_command(*command) == 0
