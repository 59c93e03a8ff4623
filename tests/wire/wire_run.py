"""The fuzz run with five upstream parsers behind it: what each read is what was decided on.

Knows: which reading belongs to which forwarded request, and which intent was made for it.
Must not know: how parsers are started, how readings are compared.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from fuzz_check import check_arrival
from fuzz_client import Shot
from fuzz_forms import FORM_DATA
from fuzz_ledger import Recorded, check_sent, commits_to, is_of, sent_keys
from fuzz_run import Run
from fuzz_upstream import Arrival
from wire_parsers import AiohttpParser, H11Parser, Parser
from wire_reading import Reading, differs_from_bytes, differs_from_decision
from wire_servers import HaproxyParser, NginxParser, NodeParser
from wire_tap import Tap, Visit

HERE = Path(__file__).resolve().parent
#: An outcome is committed soon after its call, not with it.
OUTCOMES_S = 2.0
FORM_READERS = ("h11", "aiohttp", "node")
ALL = ("h11", "aiohttp", "nginx", "haproxy", "node")


class WireRun(Run):
    """A run before the parsers named in `chosen`."""

    chosen: tuple[str, ...] = ALL

    def __init__(self, folder: Path, chance: random.Random, planted: str | None) -> None:
        self.parsers = [_parser(name, folder) for name in self.chosen]
        self.taps: list[Tap] = []
        self.readings: Counter[str] = Counter()
        self.json_readings: Counter[str] = Counter()
        self.refused_forms: Counter[str] = Counter()
        super().__init__(folder, chance, planted)
        self.sidecar.program = HERE / "wire_planted.py"

    def make_upstreams(self) -> Sequence[Tap]:
        self.taps = [
            Tap(name, self.parsers, self.arrivals, self.report.violations)
            for name in ("up", "tools")
        ]
        return self.taps

    async def start(self) -> None:
        for parser in self.parsers:
            await parser.start()
        await super().start()

    async def stop(self) -> None:
        await super().stop()
        for parser in self.parsers:
            await parser.stop()

    @property
    def refusals(self) -> Counter[str]:
        """How often a parser refused to read what was forwarded: "nginx 400" and the like."""
        forms = Counter({f"{name} form": count for name, count in self.refused_forms.items()})
        return sum((tap.refusals for tap in self.taps), forms)

    def violations_by_parser(self) -> dict[str, int]:
        """How many violations are what a parser read: the differences, apart from all the rest."""
        return {
            name: sum(what.startswith(f"{name} read ") for what in self.report.violations)
            for name in self.chosen
        }

    async def check_settled(self, shots: list[Shot], arrivals: list[Arrival]) -> list[str]:
        """As of every run; and all readings against the bytes and against the decision."""
        wrong = check_sent(sent_keys(shots), arrivals)
        wrong += await self._read_ledger()
        wrong += self.ledger.check_told(self.told)
        left = []
        for visit in [visit for tap in self.taps for visit in tap.visits]:
            readings, problems = self._read(visit)
            wrong += _of(visit, problems)
            if self._take_intent(visit, readings) is None:
                left.append((visit, readings))
        for visit, readings in left:
            wrong += _of(visit, self._disagreement(visit, readings))
        # Nothing is under way: whose call was not answered by now never will be.
        outcomes = self.ledger.outcomes
        self.ledger.unmatched = [
            intent
            for intent in self.ledger.unmatched
            if outcomes.get(intent.call_id, "completed") == "completed"
        ]
        for tap in self.taps:
            tap.visits.clear()
        for parser in self.parsers:
            if isinstance(parser, NginxParser | HaproxyParser):
                wrong += parser.unclear
                parser.unclear.clear()
        return wrong

    def _read(self, visit: Visit) -> tuple[list[Reading], list[str]]:
        """What the parsers read, and what is wrong with it whatever was decided."""
        readings, wrong = self._readings_of(visit)
        for reading in readings:
            wrong += differs_from_bytes(reading, visit.arrival.message)
        return readings, wrong + check_arrival(visit.arrival)

    async def _read_ledger(self) -> list[str]:
        """All that is on record, once every intent's outcome is."""
        wrong = await self.ledger.read_new()
        until = asyncio.get_running_loop().time() + OUTCOMES_S
        while asyncio.get_running_loop().time() < until:
            if all(intent.call_id in self.ledger.outcomes for intent in self.ledger.unmatched):
                break
            await asyncio.sleep(0.02)
            wrong += await self.ledger.read_new()
        return wrong

    def _take_intent(self, visit: Visit, readings: list[Reading]) -> Recorded | None:
        """The one intent that all readings agree with, which then is no other's. Of two that are
        alike, the one whose call was answered: the other's client left, and it may never have
        been sent."""
        outcomes = self.ledger.outcomes
        by_outcome = sorted(
            self.ledger.unmatched, key=lambda intent: outcomes.get(intent.call_id) != "completed"
        )
        for intent in by_outcome:
            if is_of(intent, visit.arrival) and not _differences(readings, intent):
                self.ledger.unmatched.remove(intent)
                return intent
        return None

    def _disagreement(self, visit: Visit, readings: list[Reading]) -> list[str]:
        """The least that stands between the readings and any intent that is left."""
        left = [intent for intent in self.ledger.unmatched if commits_to(intent, visit.arrival)]
        if not left:
            return ["at the upstream without an intent for that body"]
        intent = min(left, key=lambda intent: len(_differences(readings, intent)))
        self.ledger.unmatched.remove(intent)
        return _differences(readings, intent) or ["at the upstream without an intent"]

    def _readings_of(self, visit: Visit) -> tuple[list[Reading], list[str]]:
        readings, wrong = [], []
        for parser in self.parsers:
            if parser.name in visit.refused_by:
                continue
            found = parser.readings.get(visit.ports[parser.name], [])
            if len(found) <= visit.place:
                wrong.append(f"{parser.name} answered and kept no reading")
                continue
            reading = found[visit.place]
            readings.append(reading)
            self.readings[parser.name] += 1
            if (
                reading.form is None
                and reading.media() == FORM_DATA
                and parser.name in FORM_READERS
            ):
                self.refused_forms[parser.name] += 1
            self.json_readings[parser.name] += bool(
                reading.probes or isinstance(reading.json, dict)
            )
        return readings, wrong


def _differences(readings: list[Reading], intent: Recorded) -> list[str]:
    return [what for reading in readings for what in differs_from_decision(reading, intent)]


def _of(visit: Visit, problems: list[str]) -> list[str]:
    message = visit.arrival.message
    what = f"{visit.arrival.mark} {message.method} {message.target} {message.body[:300]!r}"
    return [f"{problem} <- {what}" for problem in problems]


def _parser(name: str, folder: Path) -> Parser:
    match name:
        case "h11":
            return H11Parser()
        case "aiohttp":
            return AiohttpParser()
        case "nginx":
            return NginxParser(folder)
        case "haproxy":
            return HaproxyParser(folder)
        case "node":
            return NodeParser(folder)
    raise ValueError(f"no parser {name}; there are {', '.join(ALL)}")
