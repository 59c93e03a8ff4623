"""What sinks are told leads to the page where people look at it."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from sidecar.control.console.page import PREFIX
from sidecar.control.console.table import PAGES
from sidecar.control.noticed_links import ALERTS, CONTAINMENTS, INCIDENT, linked
from sidecar.soc.delivering import nothing_more
from storage.watch_rows import DeliveryRow


def told(kind: str, **body: Any) -> DeliveryRow:
    text = orjson.dumps({kind.partition(".")[0]: body}).decode()
    return DeliveryRow("acme", "d", 1, "waiting", "ops", kind, 3, text, 0, 0, "", 0, 0)


@pytest.mark.parametrize(
    ("row", "page"),
    [
        (told("incident.opened", id="i1"), "/console/incidents/i1"),
        (told("alert.opened", id="a1", incident_id="i1"), "/console/incidents/i1"),
        (told("alert.opened", id="a1", incident_id="../x"), "/console/incidents/..%2Fx"),
        (told("alert.opened", id="a1", incident_id="", agent="co"), "/console/alerts?agent_id=co"),
        (told("alert.opened", id="a1", incident_id="", agent=""), "/console/alerts"),
        (told("containment.started", id="c1", incident_id="i1"), "/console/incidents/i1"),
        (told("containment.ended", id="c1", incident_id=None), "/console/containments"),
        (told("test", said="hello"), ""),
        (told("approval.decided", id="p1"), ""),
        (told("alert.opened", id="a1")._replace(body="{"), ""),
        (told("alert.opened", id="a1")._replace(body='{"alert": 5}'), ""),
    ],
)
async def test_it_leads_to_the_page_it_is_seen_on(row: DeliveryRow, page: str) -> None:
    more = await linked(nothing_more, "https://a.io")(row)
    assert more == ({"console_url": f"https://a.io{page}"} if page else {})
    assert await linked(nothing_more, "")(row) == {}, "nobody would answer"


def test_there_are_such_pages() -> None:
    pages = {f"{PREFIX}{page.path}" for page in PAGES}
    assert {ALERTS, CONTAINMENTS, f"{INCIDENT}{{incident_id}}"} <= pages
