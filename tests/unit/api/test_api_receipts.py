"""Receipts: listed, fetched, verified and carried away, in the very form a verifier takes."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import orjson
import pytest
from api_setup import Served, key_of

from sidecar.cli.main import main
from sidecar.clock import Clock
from sidecar.control.api import verifying
from sidecar.ledger.boot_entries import NO_STOP, UNKNOWN, Before, Boot, started
from sidecar.ledger.chain import seal
from sidecar.ledger.merkle import append, frontier_to_hex
from sidecar.ledger.receipt import blank_receipt, receipt_hash
from sidecar.ledger.tiles import leaves
from sidecar.ledger.verify import verify_lines
from storage.records import Entry, RecordedEvent
from storage.retention import Cut, Retention
from storage.watch_reads import WatchReads

AUDITOR = key_of("acme", "auditor")


def lines(receipts: list[dict[str, Any]]) -> list[bytes]:
    return [orjson.dumps(one, option=orjson.OPT_SORT_KEYS) + b"\n" for one in receipts]


async def test_w15_a_list_from_the_beginning_verifies(served_by_each: Served) -> None:
    _, whole, _ = await served_by_each.ask("/v1/receipts?limit=200")
    assert [one["seq"] for one in whole] == list(range(1, 13))
    assert verify_lines(lines(whole)).holds
    paged = await served_by_each.pages("/v1/receipts?limit=5")
    assert paged == whole
    _, after, _ = await served_by_each.ask("/v1/receipts?after=3&limit=4")
    assert after == whole[3:7]
    assert verify_lines(lines(after), first_seq=4).holds
    _, newest, _ = await served_by_each.ask("/v1/receipts?order=newest&limit=3")
    assert newest == whole[:-4:-1]
    assert await served_by_each.pages("/v1/receipts?order=newest&limit=5") == whole[::-1]
    _, beyond, headers = await served_by_each.ask("/v1/receipts?after=999")
    assert (beyond, "X-Next-Cursor" in headers) == ([], False)
    for seq in (1, 7, 12):
        assert (await served_by_each.ask(f"/v1/receipts/{seq}"))[1] == whole[seq - 1]
    _, head, _ = await served_by_each.ask("/v1/receipts/chain-head")
    assert (head["seq"], head["receipt_hash"]) == (12, whole[-1]["receipt_hash"])


@pytest.mark.parametrize("with_facts", ["true", "false"])
async def test_an_export_goes_through_the_offline_verifier(
    served_by_each: Served, tmp_path: Path, with_facts: str, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(verifying, "PAGE_ROWS", 5)
    status, body, headers = await served_by_each.ask(
        f"/v1/receipts/export?facts={with_facts}", AUDITOR
    )
    assert (status, headers["Content-Type"]) == (200, "application/x-ndjson")
    assert (b'"arguments":' in body) == (with_facts == "true")
    path = tmp_path / "receipts.jsonl"
    path.write_bytes(body)
    assert main(["receipts", "verify", str(path)]) == 0
    assert "12 receipts" in capsys.readouterr().out
    path.write_bytes(body.replace(b"coder-acme", b"coder-acne", 1))
    assert main(["receipts", "verify", str(path)]) == 1, "positive control"


async def test_pages_that_end_by_bytes_leave_nothing_out(
    served_by_each: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    export, whole = "/v1/receipts/export?facts=true", await verified_range(served_by_each)
    _, body, _ = await served_by_each.ask(export, AUDITOR)
    pages, recorded_after = list[int](), WatchReads.recorded_after

    async def few(reads: WatchReads, tenant: str, after: int, limit: int) -> list[RecordedEvent]:
        pages.append(len(page := await recorded_after(reads, tenant, after, limit, 200)))
        return page

    monkeypatch.setattr(WatchReads, "recorded_after", few)
    assert await verified_range(served_by_each) == whole
    assert (await served_by_each.ask(export, AUDITOR))[1] == body
    assert sum(pages) == 2 * whole["count"] == 24
    assert len(pages) > 8, "positive control"


async def verified_range(served: Served) -> Any:
    said = await served.ask("/v1/receipts/verify-range", AUDITOR, method="POST", body={})
    assert (said[0], said[1]["verified"]) == (200, True)
    return said[1]


async def test_f1_a_stretch_is_verified_and_the_first_bad_one_named(
    served: Served, tmp_path: Path
) -> None:
    async def verdict(body: Any = None) -> Any:
        said = await served.ask(
            "/v1/receipts/verify-range", AUDITOR, method="POST", body=body or {}
        )
        assert said[0] == 200, said
        return said[1]

    whole = await verdict()
    assert (whole["verified"], whole["count"], whole["links_to"]) == (True, 12, "")
    assert (whole["facts"], whole["unvouched"]) == (4, 0)
    part = await verdict({"from_seq": 4, "to_seq": 6})
    assert (part["verified"], part["count"], part["first_seq"]) == (True, 3, 4)
    assert part["links_to"] == (await served.ask("/v1/receipts/3"))[1]["receipt_hash"]
    assert (await served.ask("/v1/receipts/5/verify", AUDITOR))[1]["verified"]
    with sqlite3.connect(tmp_path / "aegis.db") as raw:
        raw.execute("UPDATE receipts SET agent_id = 'x' WHERE tenant_id = 'acme' AND seq = 5")
    broken = await verdict()
    assert (broken["verified"], broken["count"], broken["last_seq"]) == (False, 4, 4)
    assert "does not match" in broken["error"]
    assert not (await served.ask("/v1/receipts/5/verify", AUDITOR))[1]["verified"]
    after = await verdict({"from_seq": 6})
    assert not after["verified"] and "receipt 5 " in after["error"], "no tree goes over it"
    with sqlite3.connect(tmp_path / "aegis.db") as raw:
        raw.execute("UPDATE call_facts SET arguments = '{}' WHERE tenant_id = 'acme' AND seq = 7")
    edited = await verdict({"from_seq": 6})
    assert "args_commitment" in edited["error"]
    with sqlite3.connect(tmp_path / "aegis.db") as raw:
        raw.execute("UPDATE call_facts SET facts = '{}' WHERE tenant_id = 'acme' AND seq = 3")
    edited = await verdict({"to_seq": 4})
    assert edited["last_seq"] == 2


async def test_f7_a_receipt_is_verified_with_the_facts_beside_it(
    served: Served, tmp_path: Path
) -> None:
    async def verdict(seq: int) -> tuple[bool, str | None, bool | None]:
        said = (await served.ask(f"/v1/receipts/{seq}/verify", AUDITOR))[1]
        return said["verified"], said["error"], said["facts_vouched"]

    assert await verdict(3) == (True, None, True)
    assert await verdict(2) == (True, None, None), "nothing stands beside an outcome"
    with sqlite3.connect(tmp_path / "aegis.db") as raw:
        raw.execute("UPDATE call_facts SET facts = '{}' WHERE tenant_id = 'acme' AND seq = 3")
    assert await verdict(3) == (False, "its facts are not those its salt stands for", None)
    assert await verdict(1) == (True, None, True), "the others hold"


NO_STRETCH = (
    {"from_seq": 0}, {"from_seq": 5, "to_seq": 4}, {"to_seq": 13}, {"from_seq": 13},
    {"from_seq": 2**60}, {"from_seq": "1"}, {"from": 1},
)  # fmt: skip


async def test_f1_an_edited_change_of_state_does_not_hold(served: Served, tmp_path: Path) -> None:
    async def errors() -> list[str | None]:
        path = "/v1/receipts/verify-range"
        _, whole, _ = await served.ask(path, AUDITOR, method="POST", body={})
        _, one, _ = await served.ask(f"/v1/receipts/{seq}/verify", AUDITOR)
        assert (whole["verified"], one["verified"]) == (
            whole["error"] is None,
            one["error"] is None,
        )
        return [whole["error"], one["error"]]

    seq = (await served.ask("/v1/audit/events?limit=1"))[1][0]["seq"]
    assert await errors() == [None, None]
    with sqlite3.connect(tmp_path / "aegis.db") as raw:
        raw.execute("UPDATE audit_event SET actor = 'socket:eve' WHERE seq = ?", (seq,))
    what = f"the audit event {seq} is not what its receipt commits to: its actor"
    assert await errors() == [what, what]


async def test_a_stretch_is_one_that_is_there_and_has_a_limit(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    for body in NO_STRETCH:
        said = await served.ask("/v1/receipts/verify-range", AUDITOR, method="POST", body=body)
        assert said[0] in (400, 404), body
    monkeypatch.setattr(verifying, "VERIFIED_MAX", 5)
    path = "/v1/receipts/verify-range"
    said = await served.ask(path, AUDITOR, method="POST")
    assert (said[1]["first_seq"], said[1]["count"]) == (8, 5), "the last ones up to the head"
    said = await served.ask(path, AUDITOR, method="POST", body={"from_seq": 1})
    assert (said[0], said[1]["parameter"]) == (400, "from_seq")


async def test_receipts_that_are_sent_in_are_verified(served: Served) -> None:
    async def verdict(receipts: list[Any]) -> Any:
        path, body = "/v1/receipts/verify-chain", {"receipts": receipts}
        return (await served.ask(path, AUDITOR, method="POST", body=body))[1]

    whole = (await served.ask("/v1/receipts"))[1]
    assert (await verdict(whole))["verified"] and (await verdict(whole[3:6]))["verified"]
    for bad in (
        [*whole[:3], whole[4]], [whole[1], whole[0]], [{**whole[0], "agent_id": "x"}, *whole[1:]],
        [{"seq": 1}], [{**whole[0], "more": "x"}],
    ):  # fmt: skip
        said = await verdict(bad)
        assert not said["verified"] and said["error"]
    foreign = (await served.ask("/v1/receipts", key_of("rival", "viewer")))[1]
    assert "another tenant" in (await verdict(foreign))["error"]
    for odd in ([], "x", [1], [{"seq": 2**80}]):
        said = await verdict(odd)  # type: ignore[arg-type]
        assert said.get("code") == "invalid_body" or not said["verified"]


async def test_f2_receipts_that_are_sent_in_are_those_that_stand_in_the_store(
    served: Served, tmp_path: Path
) -> None:
    async def verdict(receipts: list[Any]) -> Any:
        path, body = "/v1/receipts/verify-chain", {"receipts": receipts}
        return (await served.ask(path, AUDITOR, method="POST", body=body))[1]

    whole = (await served.ask("/v1/receipts"))[1]
    same = await verdict(whole[3:6])
    assert (same["verified"], same["compared"], same["anchored_at"]) == (True, 3, 12)
    other = [dict(whole[0]), dict(whole[1], agent_id="mallory")]
    del other[1]["receipt_hash"]
    other[1]["receipt_hash"] = receipt_hash(other[1])
    assert verify_lines(lines(other)).holds, "by themselves they hold"
    said = await verdict(other)
    assert (said["verified"], said["compared"]) == (False, 1)
    assert said["error"] == "receipt 2 is another one in the store"
    with sqlite3.connect(tmp_path / "aegis.db") as raw:
        raw.execute("DELETE FROM checkpoint WHERE tenant_id = 'acme'")
    assert (await verdict(whole))["verified"], "positive control"
    with sqlite3.connect(tmp_path / "aegis.db") as raw:
        raw.execute("DELETE FROM receipts WHERE tenant_id = 'acme' AND seq > 9")
        raw.execute("UPDATE chain_head SET seq = 9 WHERE tenant_id = 'acme'")
    said = await verdict(whole)
    assert (said["verified"], said["compared"]) == (False, 9)
    assert said["error"] == "receipt 10 is not in the store, which ends at 9"


async def test_f2_rule_17_a_verdict_says_how_far_signed_heads_vouch_for_it(
    served: Served, tmp_path: Path
) -> None:
    async def asked(path: str, body: Any = None, method: str = "POST") -> tuple[Any, ...]:
        status, said, _ = await served.ask(
            f"/v1/receipts/{path}", AUDITOR, method=method, body=body
        )
        assert status == 200, said
        return said["verified"], said["anchored_at"], said["unanchored_since"], said["error"]

    async def all_asked() -> list[tuple[Any, ...]]:
        return [
            await asked("verify-range"), await asked("verify-range", {"from_seq": 4, "to_seq": 6}),
            await asked("5/verify", method="GET"), await asked("14/verify", method="GET"),
        ]  # fmt: skip

    assert await asked("verify-range") == (True, 12, None, None)
    for number in range(3):
        row = blank_receipt("acme", "control", event_id=f"more-{number}", call_id=None, ts_us=1)
        await served.store.record([Entry(row)], seal)
    assert await all_asked() == [
        (True, 12, 13, None), (True, 12, None, None), (True, 12, None, None), (True, 0, 14, None),
    ]  # fmt: skip
    with sqlite3.connect(tmp_path / "aegis.db") as raw:
        raw.execute(
            "UPDATE checkpoint SET size = 99, note = replace(note, char(10) || '12' || char(10), "
            "char(10) || '99' || char(10)) WHERE tenant_id = 'acme'"
        )
    for verified, at, _, error in await all_asked():
        assert (verified, at) == (False, 0) and "is forged" in error
    with sqlite3.connect(tmp_path / "aegis.db") as raw:
        raw.execute("DELETE FROM checkpoint WHERE tenant_id = 'acme'")
    assert await asked("verify-range") == (True, 0, 1, None)


async def test_f2_a_tail_that_was_cut_is_missed_by_every_verdict(
    served: Served, tmp_path: Path
) -> None:
    with sqlite3.connect(tmp_path / "aegis.db") as raw:
        raw.execute("DELETE FROM receipts WHERE tenant_id = 'acme' AND seq > 9")
        raw.execute("UPDATE chain_head SET seq = 9 WHERE tenant_id = 'acme'")
    for path, method in (("verify-range", "POST"), ("2/verify", "GET")):
        _, said, _ = await served.ask(f"/v1/receipts/{path}", AUDITOR, method=method)
        assert not said["verified"], said
        assert said["error"] == (
            "12 receipts were signed, and there are 9: receipts 10 to 12 are missing"
        )


async def test_no_more_exports_than_so_many_at_once(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(served.api, "_streams", 2)
    said = await served.ask("/v1/receipts/export", AUDITOR)
    assert (said[0], said[1]["code"]) == (503, "too_busy")


async def test_an_export_that_fails_half_way_does_not_seem_whole(
    served: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import aiohttp

    monkeypatch.setattr(verifying, "PAGE_ROWS", 4)
    with sqlite3.connect(tmp_path / "aegis.db") as raw:
        raw.execute("DELETE FROM receipts WHERE tenant_id = 'acme' AND seq = 6")
    with pytest.raises(aiohttp.ClientPayloadError):
        await served.ask("/v1/receipts/export", AUDITOR)


async def test_a_chain_that_was_cut_begins_where_it_was_cut(served_by_each: Served) -> None:
    served = served_by_each
    whole = (await served.ask("/v1/receipts"))[1]
    at, frontier = whole[5], list[bytes]()
    for size, leaf in enumerate(await leaves(served.store, "acme", 0, 6)):
        append(frontier, size, leaf)
    cut = Cut(
        6, at["receipt_hash"], at["ts_us"], frontier_to_hex(frontier), "archive.jsonl", "ab" * 32
    )
    await Retention(served.store).cut_off("acme", cut)
    for query in ("", "?after=2", "?after=6", "?limit=2&after=4"):
        _, listed, _ = await served.ask(f"/v1/receipts{query}")
        assert listed == whole[6 : 6 + len(listed)] and listed, query
    assert await served.pages("/v1/receipts?limit=2") == whole[6:]
    assert await served.pages("/v1/receipts?limit=4&order=newest") == whole[:5:-1]
    assert (await served.ask("/v1/receipts/7"))[1] == whole[6]
    assert (await served.ask("/v1/receipts/6"))[0] == 404
    _, verdict, _ = await served.ask("/v1/receipts/verify-range", AUDITOR, method="POST")
    assert (verdict["verified"], verdict["first_seq"], verdict["count"]) == (True, 7, 6)
    assert verdict["links_to"] == at["receipt_hash"]
    assert (verdict["anchored_at"], verdict["unanchored_since"]) == (12, None)
    assert (await served.ask("/v1/receipts/chain-head"))[1]["first_seq"] == 7
    _, lines_left, _ = await served.ask("/v1/receipts/export", AUDITOR)
    assert len(lines_left.splitlines()) == 6
    assert len(await served.pages("/v1/decisions?limit=1")) == len(
        [one for one in whole[6:] if one["kind"] in ("intent", "refusal")]
    )


HOUR_US = 3_600_000_000


async def boots(served: Served) -> int:
    """A boot that is silent for five hours and does not stop, and the next; when it began."""
    rows = [
        started(Clock(), "acme", Boot("n1", name, HOUR_US), Before(before, ended)).receipt
        for name, before, ended in (("boot-1", "", UNKNOWN), ("boot-2", "boot-1", NO_STOP))
    ]
    begun_us = (await served.store.head("acme")).ts_us + HOUR_US
    for hours, row in enumerate(rows):
        at_us = begun_us + 5 * hours * HOUR_US
        await served.store.record([Entry(row._replace(ts_us=at_us))], seal)
    return begun_us


@pytest.mark.parametrize("page_rows", [1000, 13, 1])
async def test_a_verdict_tells_of_silences_and_of_boots_without_a_stop(
    served_by_each: Served, monkeypatch: pytest.MonkeyPatch, page_rows: int
) -> None:
    monkeypatch.setattr(verifying, "PAGE_ROWS", page_rows)
    nothing = (await verified_range(served_by_each))["alive"]
    assert (nothing["silence_count"], nothing["silences"], nothing["runs"]) == (0, [], None)
    begun_us = await boots(served_by_each)
    ended_us = begun_us + 5 * HOUR_US
    told = (await verified_range(served_by_each))["alive"]
    (silence,) = told.pop("silences")
    assert silence["from_at"].endswith("Z") and silence["until_at"].endswith("Z")
    assert {name: silence[name] for name in silence if not name.endswith("_at")} == {
        "after_seq": 13, "from_us": begun_us, "until_us": ended_us, "heartbeat_us": HOUR_US,
    }  # fmt: skip
    assert told.pop("last_at").endswith("Z")
    assert told == {
        "silence_count": 1, "unstopped_count": 1, "unstopped": [{"seq": 14, "boot": "boot-1"}],
        "runs": True, "heartbeat_us": HOUR_US, "last_us": ended_us,
    }  # fmt: skip
    _, receipts, _ = await served_by_each.ask("/v1/receipts?limit=200")
    path, body = "/v1/receipts/verify-chain", {"receipts": receipts}
    _, sent, _ = await served_by_each.ask(path, AUDITOR, method="POST", body=body)
    assert sent["verified"] and sent["alive"]["silences"] == [silence]
    path, body = "/v1/receipts/verify-range", {"from_seq": 14}
    _, part, _ = await served_by_each.ask(path, AUDITOR, method="POST", body=body)
    assert part["verified"] and part["alive"]["silences"] == [], "what was before is not known"
    assert part["alive"]["unstopped_count"] == 1


async def test_a_verdict_tells_of_silences_in_receipts_that_hold_only(
    served: Served, tmp_path: Path
) -> None:
    await boots(served)
    with sqlite3.connect(tmp_path / "aegis.db") as raw:
        raw.execute("UPDATE receipts SET agent_id = 'x' WHERE tenant_id = 'acme' AND seq = 14")
    path = "/v1/receipts/verify-range"
    _, said, _ = await served.ask(path, AUDITOR, method="POST", body={})
    assert (said["verified"], said["last_seq"]) == (False, 13)
    assert (said["alive"]["silence_count"], said["alive"]["runs"]) == (0, True)


async def test_a_verdict_names_calls_by_a_yes_that_is_not_on_record(
    served_by_each: Served,
) -> None:
    async def spent(number: int, approver: str | None) -> None:
        row = blank_receipt(
            "acme", "intent", event_id=f"forged-{number}", call_id=f"forged-{number}",
            ts_us=Clock().now_us() + 10**9,
        )  # fmt: skip
        row = row._replace(approval_id="ap-forged", approver=approver)
        await served_by_each.store.record([Entry(row)], seal)

    await spent(1, None)
    whole = await verified_range(served_by_each)
    assert (whole["verified"], whole["unsaid_count"], whole["unsaid"]) == (True, 0, [])
    await spent(2, "boss")
    whole = await verified_range(served_by_each)
    named = {"seq": 14, "approval_id": "ap-forged", "names": ["boss"], "is_of_other": False}
    assert (whole["verified"], whole["unsaid_count"], whole["unsaid"]) == (True, 1, [named])
    _, receipts, _ = await served_by_each.ask("/v1/receipts?limit=200")
    path, body = "/v1/receipts/verify-chain", {"receipts": receipts}
    _, sent, _ = await served_by_each.ask(path, AUDITOR, method="POST", body=body)
    assert (sent["verified"], sent["unsaid"]) == (True, [named])
    path, body = "/v1/receipts/verify-range", {"from_seq": 14}
    _, part, _ = await served_by_each.ask(path, AUDITOR, method="POST", body=body)
    assert (part["verified"], part["unsaid"]) == (True, []), "what was asked before is not known"
