"""Keeps the policy set in force: loads it at start, and again when the files' content changes.

Knows: that a set is swapped by one assignment, so each decision reads one revision; that content
must stand still for two looks before it is loaded; that a broken set never replaces a good one, nor
one whose own tests fail, and no set does that cannot be put on record.
Files are looked at by polling, in a worker thread: watching misses Kubernetes' link swaps.
Must not know: what policies mean, who asks for the set.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Final, Protocol

from sidecar.clock import Clock
from sidecar.counted import counted
from sidecar.errors import ConfigurationError
from sidecar.policy.catalogue import Catalogue
from sidecar.policy.in_force import InForce
from sidecar.policy.index import PolicySet
from sidecar.policy.load import LoadedPolicies, Source, Watching
from sidecar.policy_loading import let_go, load_without_collections
from sidecar.policy_reading import (
    Reading,
    Signature,
    list_files,
    read_sources,
    signature_of,
    take_reading,
)
from sidecar.problems import Position, Problem, errors_only

__all__ = ["SIDECAR", "Load", "PolicyKeeper", "ReadFile", "Reload", "read_sources"]

ReadFile = Callable[[str, str], bytes]


class Load(Protocol):
    """Makes a policy set of sources; `read_file(source name, relative path)` gives the bytes of
    what they name beside them."""

    def __call__(self, sources: Sequence[Source], *, read_file: ReadFile) -> LoadedPolicies:
        """Never raises for what a user can get wrong."""
        ...


class SelfTest(Protocol):
    """Runs the tests that came with a set."""

    def __call__(
        self, files: bytes, loaded: LoadedPolicies, rest: Callable[[], bool]
    ) -> Sequence[Problem]:
        """Why the set is not to be put in force; `files` is the digest of what it was read from.
        `rest` is to be called between pieces of work, which calls wait for; once it gives True,
        nobody waits for an answer."""
        ...


class Records(Protocol):
    """Puts on record which set is in force."""

    async def loaded(self, now: InForce, actor: str, reason: str) -> str:
        """Nothing to do if the record says so already. Why it cannot be put on record, or ""."""
        ...

    async def refused(self, now: InForce, problems: int, actor: str, reason: str) -> None:
        """A broken set was not taken, and `now` stays in force."""
        ...


#: Who acts where nobody asked for it, and why.
SIDECAR: Final = "sidecar"
_CHANGED: Final = "the files changed"
_STANDS: Final = "it is in force, and the record said otherwise"

POLL_S: Final = 1.0
#: Of a file, for whoever looks at it.
TEXT_BYTES_MAX: Final = 1024 * 1024
#: Even if the file system says that nothing changed, content is compared at every so many looks.
LOOKS_PER_FULL_READ: Final = 30
_READS_TO_STAND_STILL: Final = 5
_PROBLEMS_LOGGED: Final = 5
#: For calls, after each piece of a self-test: most of the time is theirs.
REST_S: Final = 0.004
_PROMOTE: Final = "`aegis-sidecar policy promote POLICY/RULE` turns one on"

_log = logging.getLogger("aegis.policy")


@dataclass(frozen=True, slots=True)
class Reload:
    """What came of a forced reload, in a sentence for people."""

    succeeded: bool
    text: str


class PolicyKeeper:
    """`current` is the set in force. All methods are called on the event loop's thread.

    For status and metrics: `problems` of the last attempt, `reload_succeeded`, `loaded_at_us`
    (when the set in force was loaded), `reloads` and `failures` counted since the start; `files`
    and `places` of the set in force: the names of what it was read from, and where rules and tools
    stand in them. `detections` are those loaded with it, whatever they are to whoever knows them.
    """

    current: PolicySet

    def __init__(
        self,
        entries: Sequence[str],
        base: Path,
        load: Load,
        clock: Clock,
        self_test: SelfTest | None = None,
    ) -> None:
        """Without `self_test` nothing is tested."""
        self._entries = tuple(entries)
        self._base = base
        self._load = load
        self._self_test = self_test
        self._clock = clock
        self._turn = asyncio.Lock()
        self._record: Records | None = None
        self._beside: tuple[Path, ...] = ()
        self._attempted = b""
        self._pending = b""
        self._signature: Signature = ()
        self._looks = 0
        self.problems: tuple[Problem, ...] = ()
        self.reload_succeeded = False
        self.loaded_at_us = 0
        self.files: tuple[str, ...] = ()
        self.places: Mapping[str, Position] = {}
        self.detections: Watching | None = None
        self.reloads = 0
        self.failures = 0

    def catalogue(self) -> Catalogue:
        """The one in force."""
        return self.current.catalogue

    def load_first(self) -> PolicySet:
        """Loads at start; raises ConfigurationError with every problem, one per line."""
        reading = self._read_standing()
        loaded = self._loaded(reading, lambda: False)
        self._conclude(reading, loaded)
        if loaded.policy_set is None:
            raise ConfigurationError(
                "the policies cannot be used:\n" + "\n".join(str(p) for p in loaded.problems)
            )
        return loaded.policy_set

    async def record_by(self, record: Records) -> None:
        """From now on what is in force is on record; what is now, as soon as that can be."""
        self._record = record
        why = await self._tell(self.current, self.detections, SIDECAR, _STANDS)
        if why:
            _log.error("which policies are in force is not on record yet", extra={"cause": why})

    async def run(self) -> None:
        """Looks once a second, for ever; cancel it to end it."""
        while True:
            await asyncio.sleep(POLL_S)
            try:
                await self.poll()
            except Exception as error:
                # A fault of ours: it is told at each look, and must not be the last one.
                _log.exception("looking at the policies failed")
                self._fail(f"looking at the files failed inside the sidecar: {_name_of(error)}")

    async def poll(self) -> bool:
        """One look; True if a changed set was put in force.

        Content that differs from what was last tried is loaded once two looks in a row saw the
        same. What was tried and failed is not tried again until it changes; what could only not be
        put on record is.
        """
        async with self._turn:
            reading = await asyncio.to_thread(self._look)
            digest = reading.digest() if reading is not None else self._attempted
            if reading is None or digest == self._attempted:
                self._pending = b""
                if digest:  # nothing waits to be put in force
                    await self._tell(self.current, self.detections, SIDECAR, _STANDS)
                return False
            if digest != self._pending:
                self._pending = digest
                return False
            return await self._attempt(reading, SIDECAR, _CHANGED)

    async def reload(self, actor: str = SIDECAR, reason: str = "a reload was asked for") -> Reload:
        """Loads now what is there, changed or not; the set in force stays if it is broken. `actor`
        is who asked for it, as the record names them."""
        async with self._turn:
            before, watched_before = self.current.revision, self.detections
            reading = await asyncio.to_thread(self._read_standing)
            succeeded = await self._attempt(reading, actor, reason)
        if not succeeded:
            count = len(errors_only(self.problems))
            return Reload(
                False,
                f"{count} problem{'s' if count != 1 else ''}; revision {before} stays in force",
            )
        now = self.current
        if now.revision == before and _watched(self.detections) != _watched(watched_before):
            return Reload(True, f"revision {before} stays in force, beside other detections")
        if now.revision == before:
            return Reload(
                True, f"in force already: revision {before}, {counted(now.rule_count, 'rule')}"
            )
        return Reload(
            True,
            f"revision {now.revision} with {counted(now.rule_count, 'rule')} is in "
            f"force, after {before}",
        )

    # -- in a worker thread ----------------------------------------------------------------

    def text_of(self, name: str) -> str:
        """What stands in one of `files` now, for whoever looks at it. Raises OSError, of a file
        that is gone too."""
        paths, _ = list_files(self._entries, self._base)
        if name not in paths:
            raise FileNotFoundError(name)
        return paths[name].read_bytes()[:TEXT_BYTES_MAX].decode("utf-8", "replace")

    def _look(self) -> Reading | None:
        """A reading if the files may have changed since the last one, None if they cannot."""
        paths, _ = list_files(self._entries, self._base)
        signature = signature_of((*paths.values(), *self._beside))
        self._looks += 1
        is_quiet = signature == self._signature and not self._pending
        self._signature = signature
        if is_quiet and self._looks % LOOKS_PER_FULL_READ:
            return None
        return take_reading(self._entries, self._base, self._beside)

    def _read_standing(self) -> Reading:
        """A reading that two reads in a row agree on; one with a problem if there is none."""
        reading = take_reading(self._entries, self._base, self._beside)
        for _ in range(_READS_TO_STAND_STILL):
            again = take_reading(self._entries, self._base, self._beside)
            if again.digest() == reading.digest():
                return reading
            reading = again
        where = Position(", ".join(self._entries))
        reading.problems.append(Problem(where, "the files keep changing while they are read"))
        reading.is_torn = True
        return reading

    def _loaded(self, reading: Reading, rest: Callable[[], bool]) -> LoadedPolicies:
        """Of a reading with holes only the problems are wanted; of a torn one not even those,
        for they may be between files that were never there together."""
        if reading.is_torn:
            return LoadedPolicies(None, reading.problems)
        try:
            loaded = load_without_collections(
                lambda: self._load(reading.sources, read_file=reading.read_file)
            )
        except Exception as error:
            _log.exception("loading the policies failed")
            problem = Problem(
                Position("policies"), f"loading failed inside the sidecar: {_name_of(error)}"
            )
            loaded = LoadedPolicies(None, [problem])
        problems = [*reading.problems, *loaded.problems]
        if not errors_only(problems):
            problems += self._tested(reading, loaded, rest)
        found = None if errors_only(problems) else loaded.policy_set
        # What it was made of is as much as the set, and is let go here, beside the loop.
        return replace(loaded, policy_set=found, problems=problems, material=None)

    def _tested(
        self, reading: Reading, loaded: LoadedPolicies, rest: Callable[[], bool]
    ) -> Sequence[Problem]:
        """What its own tests say against a set that is whole."""
        if self._self_test is None or loaded.policy_set is None:
            return ()
        try:
            return self._self_test(reading.digest(), loaded, rest)
        except Exception as error:
            _log.exception("testing the policies failed")
            message = f"testing failed inside the sidecar: {_name_of(error)}"
            return [Problem(Position("policies"), message)]

    # -- on the loop -----------------------------------------------------------------------

    async def _attempt(self, reading: Reading, actor: str, reason: str) -> bool:
        discarded = [self.current]
        given_up = threading.Event()
        try:
            rest = partial(given_up.wait, REST_S)
            loaded = await asyncio.to_thread(self._loaded, reading, rest)
        except asyncio.CancelledError:
            given_up.set()  # whoever stops does not wait until the tests are through
            raise
        if loaded.policy_set is not None:
            why = await self._tell(loaded.policy_set, loaded.detections, actor, reason)
            if why:
                self._fail(f"what was loaded cannot be put on record, and is not in force: {why}")
                return False
        self._conclude(reading, loaded)
        if not self.reload_succeeded and self._record is not None:
            now = _in_force(self.current, self.detections)
            await self._record.refused(now, len(errors_only(self.problems)), actor, reason)
        if discarded[0] is not self.current:
            await asyncio.to_thread(let_go, discarded)
        return self.reload_succeeded

    async def _tell(
        self, policy_set: PolicySet, detections: Watching | None, actor: str, reason: str
    ) -> str:
        """Why it cannot be put on record, or ""."""
        if self._record is None:
            return ""
        return await self._record.loaded(_in_force(policy_set, detections), actor, reason)

    def _fail(self, what: str) -> None:
        """It is nothing about the files, so that they are looked at again."""
        self._attempted, self._pending, self._signature = b"", b"", ()
        self.reload_succeeded = False
        self.failures += 1
        self.problems = (Problem(Position("policies"), what),)
        _log.error("policies were not loaded", extra={"cause": what})

    def _conclude(self, reading: Reading, loaded: LoadedPolicies) -> None:
        self._beside = tuple(reading.beside)
        self._attempted, self._pending = reading.digest(), b""
        # The last look may have seen other files than these, and they may come back.
        self._signature = ()
        self.problems = tuple(loaded.problems)
        self.reload_succeeded = loaded.policy_set is not None
        if loaded.policy_set is None:
            self.failures += 1
            wrong = errors_only(self.problems)
            _log.error(
                "policies are broken and were not loaded",
                extra={
                    "problems": [str(problem) for problem in wrong[:_PROBLEMS_LOGGED]],
                    "count": len(wrong),
                },
            )
            return
        self.current = loaded.policy_set
        self.files = tuple(source.name for source in reading.sources)
        self.places = loaded.places
        self.detections = loaded.detections
        self.loaded_at_us = self._clock.now_us()
        self.reloads += 1
        _log.info(
            "policies are in force",
            extra={"revision": loaded.policy_set.revision, "rules": loaded.policy_set.rule_count},
        )
        if loaded.policy_set.shadow_count:
            _log.warning(
                "rules are in shadow: they are judged and recorded, and decide nothing",
                extra={
                    "count": loaded.policy_set.shadow_count,
                    "rules": loaded.policy_set.rule_count,
                    "next_step": _PROMOTE,
                },
            )


def _watched(detections: Watching | None) -> str:
    return detections.revision if detections is not None else ""


def _in_force(policy_set: PolicySet, detections: Watching | None) -> InForce:
    return InForce(policy_set.revision, _watched(detections), policy_set.rule_count)


def _name_of(error: Exception) -> str:
    return type(error).__name__
