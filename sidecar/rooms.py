"""Makes the rooms that every composition has in the same way: policies, the way of a call, tasks.

Knows: which settings each of them takes. Part of the composition root; nothing here needs HTTP, so
that a composition without listeners starts without its libraries.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import sys
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from sidecar.approvals.changes import Changes, Tells
from sidecar.approvals.service import Approvals
from sidecar.approvals.sweeping import sweep
from sidecar.bell import Bell
from sidecar.clock import Clock
from sidecar.config.model import Config
from sidecar.config.store_url import store_password
from sidecar.identity import containment_sweep
from sidecar.identity.callers import Callers
from sidecar.ledger.bucket_care import forget_idle_buckets
from sidecar.ledger.fence import Fence
from sidecar.ledger.pin_keeper import PinKeeper
from sidecar.ledger.recorder import Recorder
from sidecar.ledger.run_keeper import RunKeeper
from sidecar.ledger.said_care import forget_what_was_said
from sidecar.policy.load import SECRETS, LoadedPolicies, Source
from sidecar.policy_files import Load, PolicyKeeper, ReadFile, SelfTest
from sidecar.policy_tested import LastTested
from sidecar.problems import Problem
from sidecar.proxy.dialects import DIALECTS
from sidecar.proxy.held_answers import HeldAnswers
from sidecar.proxy.held_bodies import HeldBodies
from sidecar.proxy.holding import Holding
from sidecar.proxy.judging import Judging
from sidecar.proxy.masked_calls import Masking
from sidecar.proxy.mcp_answers import McpAnswers
from sidecar.proxy.mcp_sessions import McpSessions
from sidecar.proxy.open_streams import OpenStreams
from sidecar.proxy.pinned_tools import PinnedTools
from sidecar.proxy.pipeline import Pipeline
from sidecar.proxy.places import Places
from sidecar.proxy.rates import Rates
from sidecar.proxy.redaction import Redactor
from sidecar.proxy.relisting import Relisting
from sidecar.proxy.server_requests import ServerRequests
from sidecar.proxy.tool_lists import ToolLists
from sidecar.proxy.upstream import UpstreamLeg
from sidecar.soc.loading import load_all
from sidecar.telemetry.counters import Counters
from sidecar.telemetry.opentelemetry_spans import spans_of
from sidecar.telemetry.spans import Spans
from storage import SqlStore, hints_of
from storage.write_queue import WriteQueue

if TYPE_CHECKING:
    from sidecar.ledger.checkpointer import Checkpointer

_log = logging.getLogger("aegis.app")

#: How long the writer's thread may wait for its turn while the event loop computes.
SWITCH_INTERVAL_S = 0.0005
#: New objects before a young collection; what start-up made is frozen out of it.
GC_THRESHOLD = 50_000


def secrets_of(config: Config) -> list[str]:
    """Values that must not reach a log, whatever a library says."""
    upstreams = config.upstreams.values()
    secrets = [u.auth.header_value.reveal() for u in upstreams if u.auth is not None]
    parts = [part for u in upstreams for part in u.query if part.is_secret]
    secrets += [text for part in parts for text in (part.value.reveal(), part.sent_value)]
    for tenant in config.tenants.values():
        owned = [agent.token for agent in tenant.agents.values()]
        owned += [person.key for person in tenant.people.values()]
        secrets += [secret.reveal() for secret in owned if secret is not None]
    for sink in config.sinks.values():
        secrets += [secret.reveal() for secret in (sink.url, sink.secret) if secret is not None]
    password = store_password(config.store)
    return [*secrets, password] if password else secrets


class Upkept(Protocol):
    """Who tells others of what happened."""

    bell: Bell

    def upkeep(self, approvals: Approvals) -> Mapping[str, Coroutine[Any, Any, None]]:
        """What runs beside the way of calls, by name."""
        ...


def made_bodies(config: Config, counters: Counters) -> HeldBodies:
    """What counts the request bodies that are held, whichever way they came."""
    return HeldBodies(config.limits.bodies_bytes, counters, shares_tenants=len(config.tenants) > 1)


def made_masking(stack: AsyncExitStack) -> Masking:
    """The one thread for masks of large calls, whichever way they come; ended with the stack."""
    masking = Masking()
    stack.callback(masking.close)
    return masking


def made_pipeline(
    config: Config,
    clock: Clock,
    policies: PolicyKeeper,
    recorder: Recorder,
    callers: Callers,
    runs: RunKeeper,
    pins: PinKeeper,
    leg: UpstreamLeg,
    counters: Counters,
    fence: Fence,
    approvals: Approvals,
    sessions: McpSessions,
    masking: Masking,
    rates: Rates | None = None,
    spans: Spans | None = None,
) -> Pipeline:
    """The way of a call over these rooms."""
    # Upstreams that have a server; to others nothing can be forwarded.
    with_server = {name: one for name, one in config.upstreams.items() if one.kind in DIALECTS}
    places = Places(with_server, are_shared=len(config.tenants) > 1)
    holding = Holding(
        approvals,
        config.approvals,
        pins=pins,
        places=places,
        clock=clock,
        redact=Redactor(config.record.secrets).arguments,
        keeps_arguments=config.record.arguments == "redacted",
        masking=masking,
    )
    judging = Judging(
        recorder=recorder, registry=callers.registry, runs=runs, counters=counters, clock=clock,
        fence=fence, holding=holding, masking=masking, rates=rates,
    )  # fmt: skip
    requests = ServerRequests(
        policies=policies, judging=judging, recorder=recorder, clock=clock, counters=counters,
        announced=pins.announced, values_max=config.limits.message_values,
    )  # fmt: skip
    answers = McpAnswers(sessions, requests, leg, message_bytes_max=config.limits.message_bytes)
    lists = ToolLists(policies, pins)
    return Pipeline(
        config=config, policies=policies, judging=judging, lists=lists,
        relisting=Relisting(
            leg=leg, lists=lists, requests=requests, announced=pins.announced, policies=policies,
            judging=judging, recorder=recorder, counters=counters, clock=clock,
        ),
        authenticator=callers.authenticator, recorder=recorder, leg=leg, places=places,
        pinned=PinnedTools(pins, config.upstreams), answers=answers,
        streams=OpenStreams(callers.registry, counters), counters=counters, clock=clock,
        spans=spans,
        bodies=made_bodies(config, counters), held=HeldAnswers(config.limits.held_bytes, counters),
    )  # fmt: skip


def made_spans(stack: AsyncExitStack, environ: Mapping[str, str]) -> Spans | None:
    """Where spans of calls go, closed with the stack; None where nobody asked for any."""
    spans = spans_of(environ)
    if spans is not None:
        stack.push_async_callback(asyncio.to_thread, spans.close)
    return spans


def made_approvals(
    config: Config,
    clock: Clock,
    store: SqlStore,
    queue: WriteQueue,
    fence: Fence,
    tells: Tells | None = None,
    *,
    has_listeners: bool = True,
) -> Approvals:
    """What waits for people; without listeners there is no address to send them to."""
    changes = Changes(queue=queue, clock=clock, fence=fence, tells=tells)
    url = config.approvals.url if has_listeners else ""
    return Approvals(config.approvals, changes, store, store, clock, url=url)


def start_upkeep(
    config: Config,
    tasks: Tasks,
    store: SqlStore,
    clock: Clock,
    fence: Fence,
    callers: Callers,
    approvals: Approvals,
    checkpoints: Checkpointer | None,
    telling: Upkept,
) -> None:
    """What is over is forgotten or ended, and what other processes change is heard of."""
    is_alone = not store.has_leases
    tasks.start(forget_idle_buckets(store, clock, fence), "limits")
    tasks.start(forget_what_was_said(store, clock, fence), "repeats")
    tasks.start(sweep(approvals.changes, store, is_alone=is_alone), "approvals")
    tasks.start(containment_sweep.sweep(callers.containing, clock), "containments")
    if checkpoints is not None:
        tasks.start(checkpoints.run(), "checkpoints")
    for name, work in telling.upkeep(approvals).items():
        tasks.start(work, name)
    if not is_alone:
        tasks.start(callers.registry.watch(), "registry")
        tasks.start(approvals.changes.waiting.poll(store.approvals_decided), "approvals-poll")
        bells = {
            "callers": callers.registry.bell,
            "approvals": approvals.changes.waiting.bell,
            "deliveries": telling.bell,
        }
        _hang(bells, config, tasks)


def _hang(bells: Mapping[str, Bell], config: Config, tasks: Tasks) -> None:
    """Leads each ring to the same bell of the other processes on the store."""

    def heard(word: str) -> None:
        for name, bell in bells.items():
            if word in ("", name):
                bell.ring()

    hints = hints_of(config.store, heard)
    if hints is None:
        return

    def give(name: str) -> None:
        tasks.start(hints.give(name), "hint")

    for name, bell in bells.items():
        bell.ring_elsewhere = partial(give, name)
    tasks.start(hints.run(), "hints")


def policy_loader(config: Config) -> Load:
    """How a policy set, with the detections beside it, is loaded under this configuration."""
    kinds = {name: upstream.kind for name, upstream in config.upstreams.items()}

    def load(sources: Sequence[Source], read_file: ReadFile) -> LoadedPolicies:
        return load_all(
            sources,
            upstreams=kinds,
            default=config.default,
            read_file=read_file,
            secrets=config.record.secrets,
        )

    return load


def made_policies(config: Config, clock: Clock) -> PolicyKeeper:
    """What keeps the policies of this configuration; nothing is loaded yet."""
    load, self_test = policy_loader(config), made_self_test(config, clock)
    return PolicyKeeper(config.policies, Path.cwd(), load, clock, self_test)


def made_self_test(config: Config, clock: Clock) -> SelfTest | None:
    """What runs the tests among the policies before a set is in force; None where it is off."""
    if not config.self_test.run:
        return None
    last = LastTested(config.data_dir)

    def test(files: bytes, loaded: LoadedPolicies, rest: Callable[[], bool]) -> Sequence[Problem]:
        if loaded.material is None or not loaded.material.files.tests:
            return ()
        # What only tests need is imported only for them.
        from sidecar.policy.self_test import Allowance
        from sidecar.proxy.described_request import STRICT_PATHS, paths_of, routing
        from sidecar.soc.self_test import self_test

        paths = paths_of(config.upstreams)
        asks = sorted(name for name, one in config.upstreams.items() if one.kind == "authorize")
        if asks or paths != STRICT_PATHS:
            files += repr((paths, asks)).encode()  # by others a test may say something else
        if last.passed(files):
            return ()

        allowance = Allowance(
            config.self_test.cases, config.self_test.time_s, clock.monotonic_ns, rest
        )
        problems = self_test(loaded, routing(paths), Redactor(SECRETS).arguments, allowance)
        if not problems:
            last.keep(files)
            _log.info("the policies passed their tests", extra={"count": allowance.done})
        return problems

    return test


class Tasks:
    """Background tasks, kept referenced, ended with the stack; a failing one is logged."""

    def __init__(self, stack: AsyncExitStack) -> None:
        self._running: set[asyncio.Task[object]] = set()
        stack.push_async_callback(self._end)

    def start(self, work: Coroutine[Any, Any, object], name: str) -> None:
        """Begins it."""
        task: asyncio.Task[object] = asyncio.get_running_loop().create_task(work, name=name)
        self._running.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[object]) -> None:
        self._running.discard(task)
        if not task.cancelled() and task.exception() is not None:
            _log.error("a background task failed", exc_info=task.exception())

    async def _end(self) -> None:
        tasks = list(self._running)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def settle() -> None:
    """What start-up made stays, what it used goes, and the writer's thread gets its turns."""
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    gc.collect()
    _give_back()
    gc.freeze()
    gc.set_threshold(GC_THRESHOLD)


def _give_back() -> None:
    """Memory that is free goes to the system: 2 MB of the load and the measuring, in half a
    millisecond. Only glibc keeps so much, and has a function for it."""
    with contextlib.suppress(ImportError, OSError, AttributeError):
        import ctypes

        ctypes.CDLL(None).malloc_trim(0)
