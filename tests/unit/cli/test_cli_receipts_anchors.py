"""`receipts verify` against checkpoints: what is anchored, and every way of not being what was
signed. Cases F1 to F4 of the threat catalogue."""

from __future__ import annotations

import asyncio
import json
import random
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

sys.path.insert(0, str(Path(__file__).parents[1] / "ledger"))

from ledger_checkpoint_setup import key_of, opened, pem_of, record, signed_now
from ledger_tampering import canonical, forged, tampered_with

from sidecar.cli.main import main
from sidecar.ledger.checkpoint import Checkpoint, read_signed, signed
from sidecar.ledger.checkpoint_file import kept_in
from sidecar.ledger.checkpoint_file import line_of as kept_line
from sidecar.signed_note import COSIGNATURE, Note, Signature, VerifierKey, public_pem

PUBLIC = key_of(1).public
WITNESS = "witness.example/w1"


def receipts(*arguments: str | Path) -> int:
    return main(["receipts", *map(str, arguments)])


class Auditor:
    """What an auditor has: exported receipts, heads that were kept elsewhere, a key."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.file = folder / "audit" / "receipts.jsonl"
        self.heads = folder / "worm" / "heads"
        self.pem = folder / "key.pem"

    @property
    def notes(self) -> list[str]:
        return [kept.note.whole for kept in kept_in(self.heads)]

    @property
    def lines(self) -> list[bytes]:
        return self.file.read_bytes().splitlines(keepends=True)

    def verify(self, *arguments: str | Path, lines: list[bytes] | None = None) -> int:
        """The command, over other lines if they are given."""
        if lines is not None:
            self.file.write_bytes(b"".join(lines))
        return receipts("verify", self.file, *arguments)

    def anchored(self, *arguments: str | Path, lines: list[bytes] | None = None) -> int:
        """Against the heads that were kept, by the key."""
        return self.verify("--checkpoint", self.heads, "--key", self.pem, *arguments, lines=lines)


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of 20 receipts, with heads of 8, 13 and 18 of them in a file."""
    folder = tmp_path_factory.mktemp("anchors")
    (folder / "worm").mkdir()
    (folder / "audit").mkdir()
    (folder / "key.pem").write_text(public_pem(PUBLIC))

    async def fill() -> None:
        async with opened(folder) as store:
            for count in (8, 5, 5):
                await record(store, count)
                await signed_now(store, f"file:{folder}/worm/heads")
            await record(store, 2)

    asyncio.run(fill())
    url = f"sqlite:///{folder}/aegis.db"
    assert receipts("export", "--store", url, "--output", folder / "audit/receipts.jsonl") == 0
    return folder


@pytest.fixture
def auditor(kept: Path, tmp_path: Path) -> Auditor:
    shutil.copytree(kept, tmp_path / "copy")
    one = Auditor(tmp_path / "copy")
    beside = one.file.with_name("receipts.jsonl.checkpoints")
    assert [k.checkpoint.size for k in kept_in(beside)] == [8, 13, 18], "the export has them too"
    beside.unlink()
    return one


def test_it_says_up_to_where_and_by_whom(
    auditor: Auditor, capsys: pytest.CaptureFixture[str]
) -> None:
    assert auditor.anchored() == 0
    printed = capsys.readouterr().out
    origin = read_signed(auditor.notes[-1])[0].origin
    key = VerifierKey(origin, PUBLIC).text
    assert printed.startswith(
        f"verified: 20 receipts of tenant 'default', 1 to 20, anchored at 18 by key {key}: "
        "the last 2 are not anchored\n"
    )
    assert "3 checkpoints agree" in printed
    assert "not shown: that nothing was cut or rewritten after receipt 18" in printed
    assert auditor.anchored(lines=auditor.lines[:18]) == 0
    assert "anchored at 18" in (said := capsys.readouterr().out) and ": all of them\n" in said


def test_every_form_of_naming_heads_and_keys(
    auditor: Auditor, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    note, folder = tmp_path / "one.note", tmp_path / "folder"
    note.write_text(auditor.notes[1])
    origin = read_signed(auditor.notes[1])[0].origin
    key = VerifierKey(origin, PUBLIC).text
    (tmp_path / "vkey").write_text(f"# our log\n{key}\n")
    folder.mkdir()
    shutil.copy(auditor.heads, folder / "a.checkpoints")
    shutil.copy(note, folder / "b.note")
    for place, at in ((note, 13), (folder, 18), (auditor.heads, 18)):
        for named in (key, auditor.pem, tmp_path / "vkey"):
            assert auditor.verify("--checkpoint", place, "--key", named, "--json") == 0
            said = json.loads(capsys.readouterr().out)
            assert (said["is_anchored"], said["anchors"]["size"]) == (True, at)
            assert said["anchors"]["key"] == key


def test_f2_heads_beside_the_file_are_found_by_themselves(
    auditor: Auditor, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copy(auditor.heads, auditor.file.with_name("default.checkpoints"))
    assert auditor.verify("--key", auditor.pem) == 0
    assert "anchored at 18" in capsys.readouterr().out
    assert auditor.verify() == 0
    printed = capsys.readouterr().out
    assert "1 to 20, not anchored" in printed
    assert "3 checkpoints agree, and nothing says who signed them" in printed
    assert auditor.verify(lines=auditor.lines[:17]) == 1, "and no key is needed to see a cut"
    assert "CUT: receipt 18: 18 receipts were signed, and there are 17" in capsys.readouterr().out


def test_f2_a_cut_tail(auditor: Auditor, capsys: pytest.CaptureFixture[str]) -> None:
    lines = auditor.lines
    for left, said in ((17, "receipt 18 is missing"), (10, "receipts 11 to 13 are missing")):
        assert auditor.anchored(lines=lines[:left]) == 1
        printed = capsys.readouterr().out
        assert printed.startswith(f"CUT: receipt {left + 1}: ") and said in printed
        assert "verified" not in printed and "evidence:" in printed
    assert "receipts 1 to 8 are anchored" in printed


def test_f2_cut_and_appended_to_again(auditor: Auditor, capsys: pytest.CaptureFixture[str]) -> None:
    def edit(bodies: list[dict[str, object]]) -> None:
        for body in bodies[15:]:
            body["agent_id"] = "somebody else"

    assert auditor.anchored(lines=forged(auditor.lines, edit)) == 1
    printed = capsys.readouterr().out
    assert "TAMPERED: receipt 14: receipts 14 to 18 are not what was signed" in printed
    assert "receipts 1 to 13 are anchored" in printed
    assert auditor.verify() == 0, "positive control: without heads it is not seen"


def test_f2_a_chain_that_owns_up_to_a_restore_is_cut_all_the_same_and_its_words_are_shown(
    auditor: Auditor, capsys: pytest.CaptureFixture[str]
) -> None:
    words = "receipt 18 (5e) is lost; the chain goes on from 15 (5f)"

    def edit(bodies: list[dict[str, object]]) -> None:
        bodies[15].update(kind="control", action="store.rollback", resource=words)
        del bodies[16:]

    whole = auditor.lines
    assert auditor.anchored(lines=forged(whole, edit)) == 1
    printed = capsys.readouterr().out
    assert printed.startswith("CUT: ")
    assert f"a rollback is recorded at 16: {words}" in printed and "proves nothing" in printed
    assert auditor.anchored(lines=whole[:17]) == 1
    assert "rollback" not in capsys.readouterr().out, "control"


def test_f2_rewritten_as_a_whole(auditor: Auditor, capsys: pytest.CaptureFixture[str]) -> None:
    lines = forged(auditor.lines, lambda bodies: bodies[0].update(agent_id="x"))
    assert auditor.anchored(lines=lines) == 1
    printed = capsys.readouterr().out
    assert "TAMPERED: receipt 1: receipts 1 to 8 are not what was signed" in printed
    assert "no receipt is anchored" in printed


def test_f3_two_heads_of_one_size_are_kept_as_evidence(
    auditor: Auditor, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint, _ = read_signed(auditor.notes[1])
    other = signed(Checkpoint(checkpoint.origin, checkpoint.size, b"\x07" * 32), key_of(1))
    with auditor.heads.open("ab") as handle:
        handle.write(kept_line(other, 7))
    assert auditor.anchored() == 1
    printed = capsys.readouterr().out
    assert "FORKED: receipt 9: there are 2 checkpoints of 13 receipts" in printed
    for note in (auditor.notes[1], other):
        assert note.split("\n")[2] in printed, "both are shown"
    assert auditor.anchored("--json") == 1
    said = json.loads(capsys.readouterr().out)
    assert said["anchors"]["fault"]["kind"] == "fork" and not said["holds"]
    assert set(said["anchors"]["fault"]["notes"]) == {auditor.notes[1], other}


@pytest.mark.parametrize(
    ("spoil", "kind"),
    [
        (lambda note: signed(read_signed(note)[0], key_of(2)), "unknown_key"),
        (lambda note: note.replace("\n13\n", "\n12\n"), "forged"),
        (lambda note: _as_algorithm(note, 0x07), "unknown_key"),
        (lambda note: _without_bytes(note), "forged"),
    ],
)
def test_f4_an_unknown_key_or_algorithm_or_none_fails(
    auditor: Auditor,
    tmp_path: Path,
    spoil: Callable[[str], str],
    kind: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    note = tmp_path / "one.note"
    note.write_text(spoil(auditor.notes[1]))
    assert auditor.verify("--checkpoint", note, "--key", auditor.pem, "--json") == 1
    said = json.loads(capsys.readouterr().out)
    assert said["anchors"]["fault"]["kind"] == kind and not said["is_anchored"]
    note.write_text(auditor.notes[1])
    assert auditor.verify("--checkpoint", note, "--key", auditor.pem) == 0, "positive control"


def _as_algorithm(note: str, kind: int) -> str:
    """Signed as before, and said to be of another algorithm."""
    text, old = read_signed(note)[1].text, read_signed(note)[1].signatures[0]
    named = VerifierKey(old.name, PUBLIC, kind)
    return Note(text, (Signature(old.name, named.key_id, old.value),)).whole


def _without_bytes(note: str) -> str:
    """alg=none: the right name and id, and as good as no signature."""
    text, old = read_signed(note)[1].text, read_signed(note)[1].signatures[0]
    return Note(text, (Signature(old.name, old.key_id, b"\0"),)).whole


def _cosigned(note: str, witness: Ed25519PrivateKey, *, last: int = 0) -> str:
    """As a witness gives it back; `last` spoils the signature's last byte."""
    signature = (7).to_bytes(8, "big") + witness.sign(
        b"cosignature/v1\ntime 7\n" + read_signed(note)[1].text.encode()
    )
    key_id = _witness_key(witness).key_id
    line = Signature(WITNESS, key_id, signature[:-1] + bytes([signature[-1] ^ last]))
    return note + line.line + "\n"


def _witness_key(witness: Ed25519PrivateKey) -> VerifierKey:
    return VerifierKey(WITNESS, witness.public_key().public_bytes_raw(), COSIGNATURE)


def test_f3_it_says_how_far_a_named_witness_saw_the_history(
    auditor: Auditor, capsys: pytest.CaptureFixture[str]
) -> None:
    witness = Ed25519PrivateKey.from_private_bytes(b"\x09" * 32)
    named = ("--key", _witness_key(witness).text)
    assert auditor.anchored(*named) == 0
    assert (
        f"not shown: that {WITNESS} saw this history: it cosigned none" in capsys.readouterr().out
    )
    older, newest = auditor.notes[1:]
    with auditor.heads.open("ab") as handle:
        handle.write(kept_line(_cosigned(older, witness), 7))
    assert auditor.anchored(*named) == 0
    printed = capsys.readouterr().out
    assert f"not shown: that {WITNESS} saw this history after receipt 13: it" in printed
    assert "Not shown: that the holder signed no other history" in printed
    whole = auditor.heads.read_bytes()
    # The same head stands there bare and cosigned, in either order.
    with_newest = kept_line(_cosigned(newest, witness), 7)
    for heads in (whole + with_newest, with_newest + whole):
        auditor.heads.write_bytes(heads)
        assert auditor.anchored(*named) == 0
        printed = capsys.readouterr().out
        assert f"cosigned by {WITNESS} at 1970-01-01T00:00:07" in printed
        assert (
            "the witness saw no other history up to there" in printed and "saw this" not in printed
        )


def test_f4_a_forged_cosignature_of_a_named_witness_is_a_forgery(
    auditor: Auditor, capsys: pytest.CaptureFixture[str]
) -> None:
    witness = Ed25519PrivateKey.from_private_bytes(b"\x09" * 32)
    with auditor.heads.open("ab") as handle:
        handle.write(kept_line(_cosigned(auditor.notes[2], witness, last=1), 7))
    assert auditor.anchored() == 0, "of a witness that nobody named it is somebody else's line"
    capsys.readouterr()
    assert auditor.anchored("--key", _witness_key(witness).text, "--json") == 1
    said = json.loads(capsys.readouterr().out)
    assert said["anchors"]["fault"]["kind"] == "forged"


@pytest.mark.parametrize("damage", [b"", b'{"at_us": 7, "nota": ""}', b'{"at_us": 7, "no'])
def test_f2_a_damaged_head_is_said_for_it_may_have_vouched_for_more(
    auditor: Auditor, damage: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    heads = auditor.heads.read_bytes().splitlines(keepends=True)
    assert auditor.anchored(lines=auditor.lines[:13]) == 1, "the tail was cut"
    auditor.heads.write_bytes(b"".join([*heads[:2], damage + b"\n"]))
    capsys.readouterr()
    assert auditor.anchored() == 0
    told = capsys.readouterr()
    assert "anchored at 13" in told.out
    assert "heads: 1 line holds no checkpoint that can be read" in told.err
    auditor.heads.write_bytes(b"".join(heads[:2]))
    assert auditor.anchored() == 0
    assert capsys.readouterr().err == "", "positive control"


@pytest.mark.parametrize("named", ["none.note", "receipts.jsonl", "empty"])
def test_what_holds_no_checkpoint_is_unreadable(
    auditor: Auditor, named: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (auditor.file.parent / "empty").mkdir()
    assert auditor.verify("--checkpoint", auditor.file.with_name(named)) == 2
    assert "cannot be read" in capsys.readouterr().err


@pytest.mark.parametrize(
    "key", ["nothing", "a+b+c", "log+00000000+AQ==", f"log+ffffffff+{'B' * 44}"]
)
def test_f4_a_key_that_is_none_is_unreadable(
    auditor: Auditor, key: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert auditor.verify("--key", key) == 2
    assert "the key" in capsys.readouterr().err


def test_heads_of_other_tenants_are_passed_over(
    auditor: Auditor, capsys: pytest.CaptureFixture[str]
) -> None:
    other = signed(Checkpoint("aegis-sidecar/rival/00", 99, b"\x07" * 32), key_of(1))
    with auditor.heads.open("ab") as handle:
        handle.write(kept_line(other, 7))
    assert auditor.anchored("--json") == 0
    assert json.loads(capsys.readouterr().out)["anchors"]["others"] == 1
    auditor.heads.write_bytes(kept_line(other, 7))
    assert auditor.anchored() == 0
    said = "unanchored: 1 checkpoint is of other tenants, and none is of this one. Receipts"
    assert said in capsys.readouterr().out, "somebody gave the receipts of another tenant"


def test_a_part_of_a_chain_says_why_it_is_not_anchored(
    auditor: Auditor, capsys: pytest.CaptureFixture[str]
) -> None:
    assert auditor.anchored("--first-seq", "10", lines=auditor.lines[9:]) == 0
    assert "a part has no root of its own" in capsys.readouterr().out


def test_f2_of_a_part_that_ends_before_a_signed_head_that_is_said(
    auditor: Auditor, capsys: pytest.CaptureFixture[str]
) -> None:
    stranger = auditor.folder / "stranger.pem"
    stranger.write_text(public_pem(key_of(2).public))
    part, said = ("--first-seq", "10", "--checkpoint", auditor.heads), "18 receipts were signed"
    for lines, key, is_said in (
        (auditor.lines[9:17], auditor.pem, True), (auditor.lines[9:18], auditor.pem, False),
        (auditor.lines[9:17], stranger, False),
    ):  # fmt: skip
        assert auditor.verify(*part, "--key", key, lines=lines) == 0
        assert (said in capsys.readouterr().out) == is_said


def test_f1_a_thousand_tamperings_are_all_found(auditor: Auditor) -> None:
    """Also by the second verifier, of those that are chains by themselves."""
    tampered_with(auditor.lines, list(kept_in(auditor.heads)), PUBLIC, 1000)


# -- one receipt, keys, heads ------------------------------------------------------------------


def test_a_receipt_is_shown_to_somebody_who_has_only_the_key(
    auditor: Auditor, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    url, proof = f"sqlite:///{auditor.folder}/aegis.db", tmp_path / "7.tlog-proof"
    assert receipts("prove", "7", "--store", url, "--output", proof) == 0
    assert receipts("prove", "7", "--store", url, "--output", proof) == 1, "nothing is overwritten"
    capsys.readouterr()
    assert receipts("verify-proof", proof, "--key", auditor.pem) == 0
    printed = capsys.readouterr().out
    assert "receipt 7 of tenant 'default' is among the 18 that were signed by key" in printed
    assert "not shown: anything of the receipts around it" in printed
    assert receipts("prove", "19", "--store", url) == 1
    assert "[no_proof]" in capsys.readouterr().err
    from ledger_tree_reference import proof_parts, root_of_path, signed_head

    index, hashes, extra, note = proof_parts(proof.read_text())
    from hashlib import sha256

    leaf = sha256(b"\x00" + canonical(extra)).digest()
    _, size, root = signed_head(note, PUBLIC) or ("", 0, b"")
    assert (index, size) == (6, 18) and root_of_path(leaf, index, size, hashes) == root


def test_a_proof_that_was_touched_does_not_hold(
    auditor: Auditor, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    url, proof = f"sqlite:///{auditor.folder}/aegis.db", tmp_path / "7.tlog-proof"
    assert receipts("prove", "7", "--store", url, "--output", proof) == 0
    text, other = proof.read_text(), tmp_path / "other"
    (tmp_path / "key2.pem").write_text(public_pem(key_of(2).public))
    assert receipts("verify-proof", proof, "--key", tmp_path / "key2.pem") == 1
    lines = text.split("\n")
    chance = random.Random(5)
    codes = set()
    for _ in range(300):
        number = chance.randrange(len(lines) - 1)
        if not lines[number]:
            continue
        at = chance.randrange(len(lines[number]))
        changed = chance.choice("Aaz09+/ ")
        bad = lines[number][:at] + changed + lines[number][at + 1 :]
        if bad == lines[number]:
            continue
        other.write_text("\n".join([*lines[:number], bad, *lines[number + 1 :]]))
        codes.add(code := receipts("verify-proof", other, "--key", auditor.pem))
        assert code != 0, (number, bad)
    assert codes == {1, 2}
    capsys.readouterr()
    assert receipts("verify-proof", proof, "--key", auditor.pem) == 0, "positive control"


def test_the_latest_head_and_the_list(
    auditor: Auditor, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    url = f"sqlite:///{auditor.folder}/aegis.db"
    assert receipts("checkpoint", "--store", url) == 0
    printed = capsys.readouterr()
    assert printed.out == auditor.notes[-1] and "2 came after it" in printed.err
    assert receipts("checkpoint", "--store", url, "--output", tmp_path / "a.note") == 0
    assert (tmp_path / "a.note").read_text() == auditor.notes[-1]
    capsys.readouterr()
    assert receipts("checkpoint", "--store", url, "--list", "2") == 0
    sizes = [int(line.split()[0]) for line in capsys.readouterr().out.splitlines()]
    assert sizes == [18, 13]
    assert receipts("checkpoint", "--store", url, "--list", "0") == 2


def configured(folder: Path, key: int = 1) -> Path:
    for number in (1, 2, 3):
        path = folder / f"{number}.pem"
        path.write_text(pem_of(number))
        path.chmod(0o600)
    config = folder / "sidecar.yaml"
    config.write_text(
        "policies: ./policies\nupstreams: {up: {url: 'http://127.0.0.1:9'}}\n"
        f"receipts: {{key: {{file: {key}.pem}}}}\n"
    )
    (folder / "policies").mkdir(exist_ok=True)
    return config


def test_f4_the_key_is_changed_on_record_and_old_heads_stay_valid(
    auditor: Auditor, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config, folder = configured(auditor.folder), auditor.folder
    place = f"file:{auditor.heads}"
    keys = (f"file:{folder}/1.pem", f"file:{folder}/2.pem", f"file:{folder}/3.pem")
    wrong = ("--config", config, "--old", keys[1], "--new", keys[2])
    assert receipts("rotate-key", *wrong) == 2
    assert "not the key that signed the last head" in capsys.readouterr().err
    assert receipts("rotate-key", "--config", config, "--old", keys[0], "--new", keys[1]) == 0
    assert "receipt 21 says so, signed by both keys" in capsys.readouterr().out
    _more(folder, place, 2)
    assert receipts("rotate-key", "--config", config, "--old", keys[1], "--new", keys[2]) == 0
    _more(folder, place, 3)
    url = f"sqlite:///{folder}/aegis.db"
    assert receipts("export", "--store", url, "--output", auditor.file) == 0
    capsys.readouterr()
    for number in (1, 2, 3):
        (pem := tmp_path / f"{number}.pub").write_text(public_pem(key_of(number).public))
        assert auditor.verify("--checkpoint", auditor.heads, "--key", pem, "--json") == 0
        said = json.loads(capsys.readouterr().out)["anchors"]
        assert (said["agreeing"], said["rotations"]) == (5, 2)
        assert said["size"] == 24
        assert VerifierKey(said["key"].split("+")[0], key_of(3).public).text == said["key"]
    (pem := tmp_path / "4.pub").write_text(public_pem(key_of(4).public))
    assert auditor.verify("--checkpoint", auditor.heads, "--key", pem) == 1
    late = signed(read_signed(auditor.notes[-1])[0], key_of(1))
    (tmp_path / "late.note").write_text(late)
    capsys.readouterr()
    assert auditor.verify("--checkpoint", tmp_path / "late.note", "--key", auditor.pem) == 1
    assert "by a key that was replaced at receipt 21" in capsys.readouterr().out


def test_f4_a_change_of_keys_that_only_one_key_signed_is_found(
    auditor: Auditor, capsys: pytest.CaptureFixture[str]
) -> None:
    config, folder = configured(auditor.folder), auditor.folder
    keys = (f"file:{folder}/1.pem", f"file:{folder}/2.pem")
    assert receipts("rotate-key", "--config", config, "--old", keys[0], "--new", keys[1]) == 0
    url = f"sqlite:///{folder}/aegis.db"
    assert receipts("export", "--store", url, "--output", auditor.file) == 0
    assert auditor.verify("--checkpoint", auditor.heads, "--key", auditor.pem) == 0

    def edit(bodies: list[dict[str, object]]) -> None:
        text = str(bodies[20]["resource"]).rstrip("\n")
        bodies[20]["resource"] = text.rpartition("\n")[0] + "\n"

    capsys.readouterr()
    lines = forged(auditor.lines, edit)
    assert auditor.verify("--checkpoint", auditor.heads, "--key", auditor.pem, lines=lines) == 1
    assert "receipt 21 says that the key was changed" in capsys.readouterr().out


def _more(folder: Path, place: str, key: int) -> None:
    async def fill() -> None:
        async with opened(folder) as store:
            await record(store, 1)
            await signed_now(store, place, key=key_of(key))

    asyncio.run(fill())


def test_the_public_key_is_shown_as_verifiers_take_it(
    auditor: Auditor, capsys: pytest.CaptureFixture[str]
) -> None:
    config = configured(auditor.folder)
    assert receipts("keys", "--config", config) == 0
    key, pem = capsys.readouterr().out.split("\n", 1)
    assert pem == public_pem(PUBLIC)
    assert auditor.verify("--checkpoint", auditor.heads, "--key", key) == 0
    assert receipts("keys", "--config", config, "--pem") == 0
    config.write_text(config.read_text().partition("receipts:")[0])
    assert receipts("keys", "--config", config) == 2
    assert "names no key" in capsys.readouterr().err


@pytest.mark.parametrize("reference", ["1.pem", "env:NOT_SET", "file:none.pem", "file:", "x:y"])
def test_a_key_is_named_and_never_given_on_the_command_line(
    auditor: Auditor, reference: str, capsys: pytest.CaptureFixture[str]
) -> None:
    config = configured(auditor.folder)
    new = f"file:{auditor.folder}/2.pem"
    assert receipts("rotate-key", "--config", config, "--old", reference, "--new", new) == 2
