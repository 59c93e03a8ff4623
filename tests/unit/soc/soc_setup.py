"""What the tests of detections share: files read as the product reads them, events made by hand."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from sidecar.policy.fields import Problems
from sidecar.policy.load import LoadedPolicies, Source
from sidecar.problems import Problem
from sidecar.soc.detection import Detections
from sidecar.soc.detection_testing import DetectionTests, read_detection_tests
from sidecar.soc.loading import detections_of, load_all
from sidecar.soc.model import Event, EventKind, Evidence

CASES = Path(__file__).parents[2] / "cases" / "detections"
MINUTE_US = 60_000_000
HOUR_US = 60 * MINUTE_US
DAY_US = 24 * HOUR_US
#: 2026-01-05T10:00:00Z.
START_US = 1_767_607_200_000_000
_PART = re.compile(r"^### (\S+)\n", re.MULTILINE)


def no_file(source: str, path: str) -> bytes:
    raise FileNotFoundError(2, "No such file or directory")


def parts_of(path: Path) -> dict[str, str]:
    """The files of a case by name; `problems` is what is said of them."""
    pieces = _PART.split(path.read_text())[1:]
    return dict(zip(pieces[::2], pieces[1::2], strict=True))


def load(files: Mapping[str, str], upstreams: Mapping[str, str] | None = None) -> LoadedPolicies:
    sources = [Source(name, text.encode()) for name, text in files.items()]
    return load_all(
        sources,
        upstreams={"crm": "mcp"} if upstreams is None else upstreams,
        default="deny",
        read_file=no_file,
    )


def compiled(*texts: str) -> Detections:
    """The detections of these texts, which load."""
    loaded = load({f"{number}.yaml": text for number, text in enumerate(texts)})
    assert loaded.policy_set is not None, [str(one) for one in loaded.problems]
    return detections_of(loaded)


def tried(files: Mapping[str, str]) -> tuple[DetectionTests, list[Problem]]:
    """The tests among files, run where they can be."""
    problems = Problems()
    sources = [Source(name, text.encode()) for name, text in files.items()]
    tests = read_detection_tests(sources, no_file, problems)
    tests.run(problems, lambda args: args)
    return tests, sorted(set(problems.found))


def event(
    seq: int,
    at_us: int,
    *,
    agent: str = "coder",
    tool: str = "mail/send",
    effect: str = "deny",
    code: str = "policy_deny",
    kind: EventKind = EventKind.DECISION,
    run: str = "",
) -> Event:
    evidence = Evidence(seq, f"{seq:064x}", f"call{seq}", at_us)
    upstream = tool.partition("/")[0]
    return Event(kind, "acme", evidence, agent, run, upstream, tool, effect, code, "enforce")
