"""G10: whoever takes care of a store while no sidecar runs is on record: in the receipt, and by an
audit event in its transaction. What each says is data. No command that writes to a store is
forgotten here; what is asked of a running sidecar is in tests/unit/api/test_api_audited.py."""

from __future__ import annotations

import ast
import asyncio
import json
import os
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import storage

sys.path.insert(0, str(Path(__file__).parents[1] / "ledger"))

from ledger_checkpoint_setup import pem_of
from store_care_setup import CLOCK, call, filled, reports, rows, store_command, url_of

from sidecar import cli
from sidecar.cli.main import main
from sidecar.ledger.witness import Witness
from sidecar.local_users import user_name
from storage.driver import execute_many
from storage.known_heads import Seen
from storage.marks import FenceMark, Marks
from storage.standing import PinRow

#: What opens a store, or a part of it, for writing.
OPENS = {"open_store", "open_marks", "open_side"}
#: Commands that do, and leave no event, with the reason.
EXCEPTIONS = {
    "store_salvage": "it fills a new file; putting that in place is a restore, which is told",
}
ME = f"cli:{user_name(os.geteuid())}"
REASON = "Ann moved the disk"
SEEN_HASH = "5e" * 32


def erase(path: Path) -> int:
    return store_command("erase", path, "--agent", "agent-1")


def prune_facts(path: Path) -> int:
    return store_command("prune", path, "call_facts", "--older-than", "90d")


def prune_receipts(path: Path) -> int:
    archive = path.with_name("archive.jsonl")
    return store_command("prune", path, "receipts", "--older-than", "90d", "--archive", archive)


def restore(path: Path) -> int:
    backup = path.with_name("backup.db")
    assert store_command("backup", path, backup) == 0
    return store_command("restore", path, backup, "--replace")


def accept_rollback(path: Path) -> int:
    """Something was seen that is not there."""
    where = ("--store", url_of(path), "--data-dir", str(path.parent))
    Witness(path.parent, url_of(path), lambda: 5).write({"acme": Seen(9, SEEN_HASH)})
    return main(["store", "accept-rollback", *where, "--reason", REASON])


def unfence(path: Path) -> int:
    """The sidecar was stopped behind its fence."""

    async def fence() -> None:
        store = await storage.open_store(url_of(path), now_us=CLOCK.now_us, node_id="node")
        await Marks(store).put_fence(FenceMark("f1", "elsewhere", "node", "store move", 1))
        await store.close()

    asyncio.run(fence())
    nowhere = str(path.parent / "nowhere")
    return main(["store", "unfence", "--store", url_of(path), "--data-dir", nowhere])


def move(path: Path) -> int:
    """To the name beside it; what is looked at afterwards stands in its place."""
    target = path.with_name("moved.db")
    code = main(["store", "move", "--from", url_of(path), "--to", url_of(target)])
    target.replace(path)
    return code


def accept_tools(path: Path) -> int:
    """A definition that drifted is accepted where no process answers."""
    pin = PinRow("acme", "calc", "add", 1, "{}", "ab" * 32, 1, "{ }", "cd" * 32, 2)

    async def drift() -> None:
        store = await storage.open_store(url_of(path), now_us=CLOCK.now_us, node_id="node")
        await store._driver.transaction(partial(execute_many, store._sql["put_tool_pin"], [pin]))
        await store.close()

    asyncio.run(drift())
    return main(["tools", "accept", "calc", "add", "--data-dir", str(path.parent)])


def forget_tools(path: Path) -> int:
    """A tool is forgotten where no process answers."""
    pin = PinRow("acme", "calc", "add", 1, "{}", "ab" * 32, 1)

    async def put() -> None:
        store = await storage.open_store(url_of(path), now_us=CLOCK.now_us, node_id="node")
        await store._driver.transaction(partial(execute_many, store._sql["put_tool_pin"], [pin]))
        await store.close()

    asyncio.run(put())
    return main(["tools", "forget", "calc", "add", "--data-dir", str(path.parent)])


def rotate_key(path: Path) -> int:
    keys = []
    for number in (1, 2):
        (pem := path.with_name(f"{number}.pem")).write_text(pem_of(number))
        pem.chmod(0o600)
        keys.append(f"file:{pem}")
    (config := path.with_name("sidecar.yaml")).write_text(
        f"store: {url_of(path)}\npolicies: ./policies\nupstreams: {{up: {{url: 'http://127.0.0.1:9'}}}}\n"
    )
    return main(
        ["receipts", "rotate-key", "--config", str(config), "--old", keys[0], "--new", keys[1]]
    )


def expected(path: Path, verb: Callable[[Path], int]) -> tuple[str, str, Any, Any]:
    """Action, subject, before and after, by the hashes of a chain of four receipts."""
    hashes = [row[0] for row in rows(path, "SELECT receipt_hash FROM receipts ORDER BY seq")]
    facts = {"of": "one agent", "call_facts": 2, "approvals": 0, "alerts": 0}
    cut = {"until_seq": 2, "receipt_hash": hashes[1]}
    end = {"seq": 4, "receipt_hash": hashes[3]}
    stands = {"fenced": True, "fence_id": "f1", "node": "node", "target": "elsewhere"}
    moved = {"store": url_of(path), "seq": 4}
    return {
        unfence: ("store.unfence", "store", stands, {"fenced": False}),
        move: ("store.move", "store", moved, moved | {"store": url_of(path.with_name("moved.db"))}),
        accept_tools: ("tools.accepted", "upstream:calc", {"add": "ab" * 32}, {"add": "cd" * 32}),
        forget_tools: ("tools.forgotten", "upstream:calc", {"add": "ab" * 32}, {"add": None}),
        erase: ("store.erase_facts", "store", facts, facts | {"call_facts": 0}),
        prune_facts: (
            "store.prune_facts", "store",
            {"until_seq": 2, "call_facts": 1}, {"until_seq": 2, "call_facts": 0},
        ),
        prune_receipts: ("store.prune_receipts", "store", cut, cut),
        restore: ("store.restore", "store", None, end),
        accept_rollback: (
            "store.rollback", "store", {"seq": 9, "receipt_hash": SEEN_HASH}, end,
        ),
        rotate_key: ("receipts.rotate_key", "receipts.key", {}, {}),
    }[verb]  # fmt: skip


#: Every command that writes to a store itself: what is tried of it, by the module it stands in.
VERBS: dict[str, tuple[Callable[[Path], int], ...]] = {
    "store_erase": (erase,),
    "store_prune": (prune_facts, prune_receipts),
    "store_restore": (restore,),
    "store_accept_rollback": (accept_rollback,),
    "store_unfence": (unfence,),
    "store_move": (move,),
    "receipts_rotate_key": (rotate_key,),
    "tools_pins_store": (accept_tools, forget_tools),
}


def test_g10_no_command_that_writes_to_a_store_is_forgotten() -> None:
    found = set()
    for path in sorted((Path(cli.__file__).parent).glob("*.py")):
        names = {
            node.attr if isinstance(node, ast.Attribute) else node.id
            for node in ast.walk(ast.parse(path.read_text("utf-8")))
            if isinstance(node, ast.Attribute | ast.Name)
        }
        found |= {path.stem} if names & OPENS else set()
    assert found == VERBS.keys() | EXCEPTIONS.keys()
    assert not VERBS.keys() & EXCEPTIONS.keys()


@pytest.mark.parametrize("verb", [one for some in VERBS.values() for one in some])
def test_g10_care_of_a_stopped_store_names_who_did_it(
    tmp_path: Path, verb: Callable[[Path], int]
) -> None:
    path = filled(tmp_path / "aegis.db", call(1, age_days=100), call(2))
    action, subject, before, after = expected(path, verb)
    assert rows(path, "SELECT count(*) FROM audit_event") == [(0,)], "positive control"
    assert verb(path) == 0
    (receipt,) = rows(
        path, "SELECT seq, action, approver, resource, agent_id FROM receipts WHERE kind='control'"
    )
    assert receipt[:3] == (5, action, ME) and receipt[4] is None
    (event,) = rows(
        path,
        "SELECT tenant_id, seq, actor, action, subject, before_state, after_state, reason "
        "FROM audit_event",
    )
    assert event[:5] == ("acme", 5, ME, action, subject)
    was, became = (json.loads(one) if one else None for one in event[5:7])
    if verb is rotate_key:
        # The receipt has both keys, signed by both; the event has what verifies, and no more.
        assert was["key"] in receipt[3] and became["key"] in receipt[3]
        assert was["key"] != became["key"]
    elif verb is prune_receipts:
        digest = became.pop("archive_sha256")
        assert digest in receipt[3] and was.pop("archive_sha256") == ""
        assert (was, became) == (before, after)
    else:
        assert (was, became) == (before, after)
    # What may name somebody is not put where nothing is erased.
    assert event[7] == "" and REASON not in event[5] + event[6]
    assert [one.fault for one in reports(path)] == [None]
