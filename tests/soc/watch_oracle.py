"""What should have been noticed in a store, worked out in one go over its whole record.

An engine that is shown every receipt once, from the first to the last, tells how often each
detection hits. Every hit either raises an alert or joins one, which counts it: so the hits of all
alerts of a detection must add up to that, whatever befell the processes meanwhile. More is a
doubled alert, less a lost one.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import storage
from sidecar.policy.load import Source
from sidecar.soc.detection import Detections
from sidecar.soc.engine import Engine
from sidecar.soc.events import event_of
from sidecar.soc.loading import detections_of, load_all
from sidecar.soc.watch_lease import WATCHER

TENANT = "default"
CATALOGUE = "catalogue: up\ntools: {do: POST /do, never: POST /never}\n"
POLICY = """\
policy: watched
rules:
  - {id: do, effect: allow, tools: up/do}
  - {id: never, effect: deny, tools: up/never}
"""
DETECTIONS = {
    "each": "severity: low\nwhere: {effect: deny}\nquiet: 1s\n",
    "storm": "severity: high\nwhere: {effect: deny}\nat_least: 5\nwithin: 2s\nquiet: 1s\n",
    "fresh": "severity: info\nfirst: args.kind\nquiet: 1s\n",
    "pair": (
        "severity: medium\nsequence: [{tools: up/do}, {tools: up/never}]\nwithin: 1s\nquiet: 1s\n"
    ),
}
FILES = {
    "tools.yaml": CATALOGUE,
    "policy.yaml": POLICY,
    **{f"{name}.yaml": f"detection: {name}\n{text}" for name, text in DETECTIONS.items()},
}


def loaded_detections() -> Detections:
    """As the sidecar loads them."""
    sources = [Source(name, text.encode()) for name, text in FILES.items()]
    loaded = load_all(sources, upstreams={"up": "rest"}, default="deny", read_file=lambda *_: b"")
    assert loaded.policy_set is not None, loaded.problems
    return detections_of(loaded)


async def expected_of(
    reader: storage.SqlReader, detections: Detections
) -> tuple[Counter[str], int]:
    """Hits by detection, and of how many events."""
    engine, found, after, events = Engine(detections, TENANT), Counter[str](), 0, 0
    while rows := await reader.recorded_after(TENANT, after, 1000):
        for row in rows:
            event = event_of(row)
            if event is not None:
                events += 1
                found.update(hit.detection for hit in engine.see(event))
        after = rows[-1].receipt.seq
    return found, events


async def noticed_hits(reader: storage.SqlReader) -> Counter[str]:
    """By detection, as alerts count them."""
    found, before = Counter[str](), "z"
    while rows := await reader.alerts_before(TENANT, before, 500):
        for row in rows:
            found[row.detection] += row.hits
        before = rows[-1].alert_id
    return found


async def is_caught_up(reader: storage.SqlReader) -> bool:
    """Whether a watcher has looked at all that it may still find something in."""
    mark, head = await reader.watch_mark(TENANT, WATCHER), await reader.head(TENANT)
    if mark is None:
        return False
    left = await reader.receipts(TENANT, mark.seq, 1000)
    return all(row.kind == "control" for row in left) and head.seq - mark.seq < 1000


async def differences(url: str) -> list[str]:
    """What was lost or doubled, in words; empty if nothing was."""
    reader = await storage.open_reader(url)
    try:
        expected, _ = await expected_of(reader, loaded_detections())
        noticed = await noticed_hits(reader)
    finally:
        await reader.close()
    return [
        f"{name}: {noticed[name]} hits in alerts, {expected[name]} in the record"
        for name in DETECTIONS
        if noticed[name] != expected[name]
    ]


def write_policies(folder: Path) -> None:
    """The files of a policy folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in FILES.items():
        (folder / name).write_text(text)
