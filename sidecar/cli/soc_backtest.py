"""`aegis-sidecar soc backtest --since 7d`: what detections would have raised of recorded calls."""

from __future__ import annotations

import argparse
import json
import sys
from typing import TYPE_CHECKING, Any, Final

from sidecar.cli.chosen_store import WrongUsage, add_store_arguments, store_url, time_text
from sidecar.cli.policy_replay import since_us_of
from sidecar.cli.policy_sources import (
    NothingChosen,
    load_chosen,
    show_problems,
    use_usual_config,
)
from sidecar.cli.terminal_text import fit
from sidecar.counted import counted

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sidecar.cli.policy_sources import Chosen
    from sidecar.soc.backtest import Backtest
    from sidecar.soc.model import Hit
    from storage.sql_store import SqlReader

NAME = "backtest"
HELP = "tell which alerts detections would have raised of what is recorded; exit 2: unusable"

PAGE_ROWS: Final = 1000
SUBJECTS_SHOWN: Final = 5
CALLS_SHOWN: Final = 2


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Which store, since when, and which detections."""
    add_store_arguments(parser)
    parser.add_argument(
        "--since", default="7d", metavar="TIME", help="30m, 24h, 7d, or 2026-11-23T10:00:00Z"
    )
    parser.add_argument(
        "--detections",
        dest="paths",
        action="append",
        default=[],
        metavar="PATH",
        help="a folder, file or pack:NAME with detections; may be repeated (default: those that "
        "`policies` of sidecar.yaml names)",
    )
    parser.add_argument("--tenant", help="only this tenant's records (default: all)")
    parser.add_argument("--json", action="store_true", help="as one JSON object")


def run(args: argparse.Namespace) -> int:
    """0 told, 1 the store cannot be read, 2 unusable."""
    from sidecar.cli.chosen_store import finished

    return finished(_backtest(args))


async def _backtest(args: argparse.Namespace) -> int:
    import storage
    from sidecar.clock import Clock
    from sidecar.soc.backtest import Backtest

    since_us = since_us_of(args.since, Clock().now_us())
    url = store_url(args)
    chosen = _chosen(args)
    if chosen is None:
        return 2
    backtest = Backtest(chosen.detections, since_us)
    reader = await storage.open_reader(url)
    try:
        tenants = await reader.tenants()
        if args.tenant is not None and args.tenant not in tenants:
            raise WrongUsage(f"there is no tenant {args.tenant!r}; there are: {', '.join(tenants)}")
        for tenant_id in tenants if args.tenant is None else [args.tenant]:
            await _of_tenant(reader, tenant_id, since_us, backtest)
    finally:
        await reader.close()
    if args.json:
        print(json.dumps(_data(backtest, since_us), ensure_ascii=False))
    else:
        for line in _lines(backtest, since_us):
            print(fit(line))
    return 0


def _chosen(args: argparse.Namespace) -> Chosen | None:
    """The detections to try; None after saying why there are none."""
    wanted = argparse.Namespace(paths=args.paths, config=None if args.paths else args.config)
    use_usual_config(wanted)
    try:
        chosen = load_chosen(wanted)
    except NothingChosen as error:
        show_problems(error.problems)
        if error.message:
            print(error.message, file=sys.stderr)
        return None
    if chosen.policy_set is None:
        show_problems([one for one in chosen.problems if not one.is_warning])
        return None
    if not chosen.detections.all:
        hint = "name some with --detections, e.g. --detections pack:soc"
        print(f"there are no detections to try: {hint}", file=sys.stderr)
        return None
    return chosen


async def _of_tenant(reader: SqlReader, tenant_id: str, since_us: int, backtest: Backtest) -> None:
    """Page by page, by receipt number, up to the head as it is now."""
    from storage.retention import CareReader

    head = await reader.head(tenant_id)
    taking = backtest.tenant(tenant_id)
    from_us = since_us - taking.warm_up_us
    after_seq = await CareReader(reader).last_before(tenant_id, from_us, head)
    while after_seq < head.seq:
        rows = await reader.recorded_after(
            tenant_id, after_seq, min(PAGE_ROWS, head.seq - after_seq)
        )
        if not rows:
            break
        for recorded in rows:
            taking.take(recorded)
        after_seq = rows[-1].receipt.seq
    taking.end()


# -- what came of it -------------------------------------------------------------------------


def _lines(backtest: Backtest, since_us: int) -> Iterable[str]:
    count, events = backtest.alerts, backtest.events
    yield (
        f"since {time_text(since_us)}: {counted(count, 'alert')} of "
        f"{counted(events, 'recorded event')}"
    )
    calls = _calls_by_subject(backtest)
    width = max((len(name) for name in backtest.raised), default=0)
    ordered = sorted(backtest.raised.items(), key=lambda one: (-one[1].alerts, one[0]))
    for name, raised in ordered:
        joined = raised.hits - raised.alerts
        more = f", {counted(joined, 'hit')} joined" if joined else ""
        yield f"{name:<{width}}  {raised.alerts:>6}{more}"
        for whom, alerts in raised.by_subject.most_common(SUBJECTS_SHOWN):
            example = ", ".join(calls.get((name, *whom), ()))
            yield f"{alerts:>10} × {'/'.join(whom)}" + (f"  e.g. call {example}" if example else "")
        left = len(raised.by_subject) - SUBJECTS_SHOWN
        if left > 0:
            yield f"           and {left} more"
    for name, failures in sorted(backtest.failed.items()):
        yield f"{name}: its condition could not be evaluated on {failures} of them"
    if backtest.dropped:
        yield (
            f"{counted(backtest.dropped, 'event was', 'events were')} forgotten early: too "
            "many subjects at once"
        )
    if backtest.not_told:
        yield f"not told by receipts: {', '.join(backtest.not_told)}"


def _calls_by_subject(backtest: Backtest) -> dict[tuple[str, ...], list[str]]:
    found: dict[tuple[str, ...], list[str]] = {}
    for hit in backtest.opened:
        known = found.setdefault((hit.detection, hit.tenant, *hit.subject), [])
        call_id = hit.evidence[-1].call_id
        if call_id and len(known) < CALLS_SHOWN:
            known.append(call_id)
    return found


def _data(backtest: Backtest, since_us: int) -> dict[str, Any]:
    return {
        "since": time_text(since_us),
        "events": backtest.events,
        "alerts": backtest.alerts,
        "detections": [
            {
                "detection": name,
                "alerts": raised.alerts,
                "hits": raised.hits,
                "subjects": [
                    {"tenant": whom[0], "subject": list(whom[1:]), "alerts": alerts}
                    for whom, alerts in raised.by_subject.most_common()
                ],
                "alerts_of_other_subjects": raised.untold,
            }
            for name, raised in backtest.raised.items()
        ],
        "raised": [_alert(hit) for hit in backtest.opened],
        "raised_not_listed": backtest.alerts - len(backtest.opened),
        "failed_conditions": dict(sorted(backtest.failed.items())),
        "forgotten_early": backtest.dropped,
        "not_told_by_receipts": list(backtest.not_told),
    }


def _alert(hit: Hit) -> dict[str, Any]:
    return {
        "detection": hit.detection,
        "severity": hit.severity.label,
        "tenant": hit.tenant,
        "subject": list(hit.subject),
        "agent": hit.agent,
        "tool": hit.tool,
        "at": time_text(hit.at_us),
        "reason": hit.reason,
        "receipts": [one.seq for one in hit.evidence],
        "calls": [one.call_id for one in hit.evidence if one.call_id],
    }
