"""Alerts and incidents through the API: listed, moved on record, verified, carried away."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from api_setup import Served, key_of

from sidecar.cli.main import main

OPERATOR = key_of("acme", "operator")
INCIDENT = "/v1/incidents/incident-of-acme"
ALERT = "/v1/alerts/alert-of-acme"


async def test_an_incident_is_looked_at_moved_and_proven(
    served_by_each: Served, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    served = served_by_each
    for tenant in ("acme", "rival"):
        await served.recorder.notice(tenant)
    _, alerts, _ = await served.ask("/v1/alerts")
    assert [one["alert_id"] for one in alerts] == ["alert-of-acme"]
    (rests,) = alerts[0]["evidence"]["raised"]
    _, receipt, _ = await served.ask(f"/v1/receipts/{rests['seq']}")
    assert receipt["receipt_hash"] == rests["receipt_hash"]
    assert receipt["call_id"] == rests["call_id"] == "refused-acme"
    for query, count in (
        ("status=open", 1), ("status=closed", 0), ("severity=high", 1), ("severity=low", 0),
        ("agent_id=coder-acme", 1), ("agent_id=coder-rival", 0),
    ):  # fmt: skip
        for name in ("alerts", "incidents"):
            status, body, _ = await served.ask(f"/v1/{name}?{query}")
            assert (status, len(body)) == (200, count), (name, query)
    assert len((await served.ask("/v1/alerts?detection=deny-storm"))[1]) == 1
    assert (await served.ask("/v1/soc/summary"))[1]["risk_posture"] == "high"
    bad = await served.ask("/v1/incidents?status=lost")
    assert (bad[0], bad[1]["parameter"]) == (400, "status")

    async def act(path: str, **body: str) -> tuple[int, dict[str, object]]:
        status, said, _ = await served.ask(path, OPERATOR, method="POST", body=body)
        return status, said

    status, said = await act(f"{ALERT}/acknowledge", reason="mine")
    assert (status, said["state"]) == (200, "acknowledged") and said["seq"]
    status, said = await act(f"{INCIDENT}/acknowledge", reason="looking")
    assert (status, said["status"], said["already_closed"]) == (200, "acknowledged", False)
    status, said = await act(f"{INCIDENT}/note", text="called the team")
    assert (status, len(said["notes"])) == (200, 2)  # type: ignore[arg-type]
    assert (await act(f"{INCIDENT}/note", text=""))[0] == 400
    status, said = await act(f"{INCIDENT}/close", reason="done")
    assert (status, said["status"]) == (200, "closed") and said["closed_at"]
    status, said = await act(f"{INCIDENT}/close")
    assert (status, said["seq"], said["already_closed"]) == (200, None, True)
    status, said = await act(f"{INCIDENT}/acknowledge")
    assert (status, said["code"]) == (409, "wrong_state")
    _, whole, _ = await served.ask(INCIDENT)
    assert [one["state"] for one in whole["alert_list"]] == ["closed"]
    _, told, _ = await served.ask(f"{INCIDENT}/narrate")
    lines = told["narrative"].splitlines()
    assert lines[0].endswith("about agent coder-acme: closed, high.")
    assert "deny-storm (high) noticed: of acme. It rests on receipts" in lines[1]
    assert lines[-1].endswith("person:operator: close. done") and len(lines) == 5
    _, summary, _ = await served.ask("/v1/soc/summary")
    assert summary["alerts_total"] == summary["alerts_high"] == 1
    assert [summary[f"incidents_{one}"] for one in ("total", "open", "closed")] == [1, 0, 1]
    assert (summary["risk_posture"], summary["is_complete"]) == ("none", True)
    assert len(summary["hourly_decisions_24h"]) == 24
    made = [one["count"] for one in summary["hourly_decisions_24h"]]
    assert sum(made) == 4 and sum(one["denies"] for one in summary["hourly_decisions_24h"]) == 1
    assert summary["approvals_pending"] == 2
    actors = {one["actor"] for one in whole["notes"]}
    assert actors == {"person:operator"}
    _, verdict, _ = await served.ask(f"{INCIDENT}/verify")
    assert (verdict["verified"], verdict["faults"]) == (True, [])
    assert verdict["receipts"] == verdict["wanted"] == 6
    _, pack, _ = await served.ask(f"{INCIDENT}/evidence-pack")
    path = tmp_path / "pack.json"
    path.write_text(json.dumps(pack))
    assert main(["soc", "verify", str(path)]) == 0
    assert "6 of 6 receipts" in capsys.readouterr().out
    pack["alerts"][0]["reason"] = "nothing"
    path.write_text(json.dumps(pack))
    assert main(["soc", "verify", str(path)]) == 1
    assert "TAMPERED" in capsys.readouterr().out
    path.write_text("{")
    assert main(["soc", "verify", str(path)]) == 2


async def test_lists_go_on_page_after_page(served: Served) -> None:
    (row,) = await served.store.receipts_of_call("acme", "refused-acme")
    assert row.seq
    await served.recorder.notice("acme")
    found = await served.store.alert("acme", "alert-of-acme")
    incident = await served.store.incident("acme", "incident-of-acme")
    assert found is not None and incident is not None
    rows = [found._replace(alert_id=f"more-{n}", version=1) for n in range(4)]
    others = [incident._replace(incident_id=f"more-{n}", version=1) for n in range(4)]
    assert await served.store.put_rows("acme", [*rows, *others])
    alerts = await served.pages("/v1/alerts?limit=2")
    assert [one["alert_id"] for one in alerts] == [
        "more-3", "more-2", "more-1", "more-0", "alert-of-acme",
    ]  # fmt: skip
    incidents = await served.pages("/v1/incidents?limit=2")
    assert len(incidents) == 5
    _, body, _ = await served.ask("/v1/incidents?offset=3")
    assert [one["incident_id"] for one in body] == ["more-0", "incident-of-acme"]


async def test_a_row_that_was_made_unreadable_is_a_fault_and_no_error(served: Served) -> None:
    await served.recorder.notice("acme")
    found = await served.store.alert("acme", "alert-of-acme")
    assert found is not None
    assert await served.store.put_rows("acme", [found._replace(version=2, evidence="[]")])
    status, verdict, _ = await served.ask(f"{INCIDENT}/verify")
    assert (status, verdict["verified"]) == (200, False)
    assert "cannot be read" in verdict["faults"][0]
    said = await served.ask(f"{INCIDENT}/close", OPERATOR, method="POST", body={})
    assert (said[0], said[1]["code"]) == (409, "unreadable")
