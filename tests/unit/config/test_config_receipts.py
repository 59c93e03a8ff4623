"""`receipts:` of sidecar.yaml: the key, when heads are signed, where they go."""

from __future__ import annotations

from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
)

from sidecar.config.load import Loaded, load_config
from sidecar.config.show import show_text


def pem(key: object = None, how: KeySerializationEncryption | None = None) -> str:
    private = key or Ed25519PrivateKey.generate()
    said = private.private_bytes(  # type: ignore[attr-defined]
        Encoding.PEM, PrivateFormat.PKCS8, how or NoEncryption()
    )
    return str(said.decode())


def loaded(folder: Path, receipts: str, environ: dict[str, str] | None = None) -> Loaded:
    (folder / "sidecar.yaml").write_text(
        f"policies: ./policies\nupstreams: {{shop: {{url: 'http://127.0.0.1:9'}}}}\n{receipts}\n"
    )
    return load_config(folder / "sidecar.yaml", environ or {}, [])


def test_everything_and_its_defaults(tmp_path: Path) -> None:
    path = tmp_path / "key.pem"
    path.write_text(pem())
    path.chmod(0o600)
    found = loaded(tmp_path, "receipts: {key: {file: key.pem}}")
    assert found.config is not None, found.problems
    receipts = found.config.receipts
    assert receipts.key is not None and receipts.key.reveal().strip() == path.read_text().strip()
    usual = receipts.checkpoint
    assert (usual.every_s, usual.receipts, usual.to) == (10.0, 1000, ())
    found = loaded(
        tmp_path,
        "receipts: {key: {env: KEY}, checkpoint: {every: 2s, receipts: 5, to: file:heads}}",
        {"KEY": pem()},
    )
    assert found.config is not None, found.problems
    chosen = found.config.receipts.checkpoint
    assert (chosen.every_s, chosen.receipts) == (2.0, 5)
    assert chosen.to == (f"file:{tmp_path}/heads",)
    assert loaded(tmp_path, "").config.receipts.key is None  # type: ignore[union-attr]


def test_g12_a_key_that_everybody_reads_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "key.pem"
    path.write_text(pem())
    path.chmod(0o644)
    found = loaded(tmp_path, "receipts: {key: {file: key.pem}}")
    assert found.config is None
    assert "open to every user" in str(found.problems[0]) and "chmod o-rwx" in str(found.problems)
    path.chmod(0o640)
    assert loaded(tmp_path, "receipts: {key: {file: key.pem}}").config is not None


@pytest.mark.parametrize(
    ("key", "said"),
    [
        (pem(generate_private_key(SECP256R1())), "no Ed25519 key"),
        (pem(how=BestAvailableEncryption(b"pw")), "the key is encrypted"),
        ("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", "no private key"),
    ],
)
def test_f4_another_kind_of_key_is_refused_and_not_shown(
    tmp_path: Path, key: str, said: str
) -> None:
    found = loaded(tmp_path, "receipts: {key: {env: KEY}}", {"KEY": key})
    assert found.config is None
    assert [said in str(problem) for problem in found.problems] == [True]
    assert key.splitlines()[1] not in str(found.problems)


def test_the_key_is_never_shown(tmp_path: Path) -> None:
    key = pem()
    found = loaded(tmp_path, "receipts: {key: {env: KEY}}", {"KEY": key})
    assert found.config is not None
    shown = show_text(found.config, found.origins)
    assert "receipts.key" in shown and key.splitlines()[1] not in shown
    assert key.splitlines()[1] not in repr(found.config)


@pytest.mark.parametrize(
    ("written", "heartbeat_s"),
    [("", 3600.0), ("0s", 0.0), ("1s", 1.0), ("30d", 2_592_000.0),
     ("500ms", None), ("31d", None), ("1h30m", None), ("off", None)],
)  # fmt: skip
def test_a_heartbeat_is_none_or_at_least_a_second(
    tmp_path: Path, written: str, heartbeat_s: float | None
) -> None:
    found = loaded(tmp_path, f"receipts: {{heartbeat: {written}}}" if written else "")
    if heartbeat_s is None:
        assert found.config is None and "receipts.heartbeat: " in str(found.problems[0])
        assert str(found.problems[0]).startswith(f"{tmp_path}/sidecar.yaml:3:23: error")
        return
    assert found.config is not None and found.config.receipts.heartbeat_s == heartbeat_s


@pytest.mark.parametrize(
    "wrong", ["run: yes", "run: 1", "cases: 0", "cases: 1.5", "time: 0s", "time: 2h", "off: true"]
)
def test_a_self_test_is_bounded_or_off_by_a_plain_word(tmp_path: Path, wrong: str) -> None:
    found = loaded(tmp_path, "self_test: {run: false, cases: 7, time: 250ms}")
    assert found.config is not None
    chosen = found.config.self_test
    assert (chosen.run, chosen.cases, chosen.time_s) == (False, 7, 0.25)
    found = loaded(tmp_path, f"self_test: {{{wrong}}}")
    assert found.config is None and "self_test" in str(found.problems[0])
