"""`aegis-sidecar policy replay --since 7d --with DIR`: what other policies would have decided."""

from __future__ import annotations

import argparse
import json
import re
import sys
from typing import TYPE_CHECKING, Any, Final

from sidecar.cli.chosen_store import WrongUsage, add_store_arguments, store_url, time_text
from sidecar.cli.os_error_text import os_error_text
from sidecar.cli.policy_sources import NothingChosen, load_chosen, show_problems
from sidecar.cli.terminal_text import fit
from sidecar.counted import counted

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sidecar.policy.replay import Change, Group, Kept, Replay
    from storage.sql_store import SqlReader

NAME = "replay"
HELP = "judge recorded calls by other policies; exit 0: no change, 1: differences, 2: unusable"

#: Why records were passed over, in words.
SKIPPED: Final = {
    "unread": "refused before any rule was asked",
    "protocol": "messages of the protocol itself, which need no rule",
    "limit": "refused by a limit, which rests on what was used then",
    "obligation": "refused for how they were sent: an obligation could not be met",
    "stale": "refused because what their decision rested on kept changing",
    "erased": "whose facts were erased",
    "damaged": "whose facts cannot be read",
}
_DURATION = re.compile(r"([1-9][0-9]{0,5})([mhdw])")
_UNIT_US: Final = {"m": 60, "h": 3600, "d": 86_400, "w": 604_800}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Which store, since when, and by which policies."""
    add_store_arguments(parser)
    parser.add_argument(
        "--with",
        dest="paths",
        action="append",
        required=True,
        metavar="DIR",
        help="policies and catalogues to judge by: a folder, file or pack:NAME; may be repeated",
    )
    parser.add_argument(
        "--since", default="7d", metavar="TIME", help="30m, 24h, 7d, or 2026-11-23T10:00:00Z"
    )
    parser.add_argument("--tenant", help="only this tenant's calls (default: all)")
    parser.add_argument("--json", action="store_true", help="as one JSON object")


def run(args: argparse.Namespace) -> int:
    """0 every judged call comes out as it did, 1 some do not, 2 unusable."""
    import asyncio

    from storage.errors import StoreError

    try:
        return asyncio.run(_replay(args))
    except WrongUsage as error:
        print(error, file=sys.stderr)
    except NothingChosen as error:
        show_problems(error.problems)
    except StoreError as error:
        print(f"{error} [{error.code}]\n    {error.next_step}", file=sys.stderr)
    except OSError as error:
        print(f"cannot be read: {os_error_text(error)}", file=sys.stderr)
    return 2


async def _replay(args: argparse.Namespace) -> int:
    import storage
    from sidecar.clock import Clock
    from sidecar.policy.replay import Replay

    since_us = since_us_of(args.since, Clock().now_us())
    url = store_url(args)
    chosen = load_chosen(argparse.Namespace(paths=args.paths, config=None))
    if chosen.policy_set is None:
        raise NothingChosen("", [one for one in chosen.problems if not one.is_warning])
    replay = Replay(chosen.policy_set)
    reader = await storage.open_reader(url)
    try:
        tenants = await reader.tenants()
        if args.tenant is not None and args.tenant not in tenants:
            raise WrongUsage(f"there is no tenant {args.tenant!r}; there are: {', '.join(tenants)}")
        for tenant_id in tenants if args.tenant is None else [args.tenant]:
            await _replay_tenant(reader, tenant_id, since_us, replay)
    finally:
        await reader.close()
    if args.json:
        print(json.dumps(_data(replay, since_us, chosen.policy_set.revision), ensure_ascii=False))
    else:
        for line in _lines(replay, since_us, chosen.policy_set.revision):
            print(fit(line))
    return 1 if replay.changed else 0


def since_us_of(text: str, now_us: int) -> int:
    """The moment a duration before now, or a time, stands for; raises WrongUsage."""
    from sidecar.policy.case_values import read_moment

    found = _DURATION.fullmatch(text)
    if found is not None:
        return now_us - int(found[1]) * _UNIT_US[found[2]] * 1_000_000
    at_us = read_moment(text)
    if at_us is None:
        raise WrongUsage(f"--since {text!r} is neither a duration (24h, 7d) nor a time with a zone")
    return at_us


async def _replay_tenant(reader: SqlReader, tenant_id: str, since_us: int, replay: Replay) -> None:
    """Page by page, by receipt number, up to the head as it is now."""
    from sidecar.ledger.replaying import judge_page, recorded_pages
    from storage.retention import CareReader

    head = await reader.head(tenant_id)
    after_seq = await CareReader(reader).last_before(tenant_id, since_us, head)
    async for _, page in recorded_pages(reader, tenant_id, after_seq, head.seq):
        judge_page(replay, page)


# -- what came of it -------------------------------------------------------------------------


def _lines(replay: Replay, since_us: int, revision: str) -> Iterable[str]:
    from sidecar.policy.replay import by_count

    judged = replay.same + replay.changed
    yield (
        f"since {time_text(since_us)}, judged by revision {revision[:8]}: "
        f"{counted(judged, 'call')} judged, {replay.same} the same, {replay.changed} different; "
        f"{replay.unjudged} cannot be told"
    )
    if replay.renamed:
        yield f"    of the same, {replay.renamed} would be decided by another rule"
    changes = by_count(replay.changes)
    for change, group in changes:
        yield (
            f"{group.count:>8} × {change.effect_then} → {change.effect_now}  "
            f"{change.by_then} → {change.by_now}  agent {change.agent}  "
            f"e.g. {group.examples[0]}"
        )
    if changes:
        yield f"by rule:  {_totals(changes, _deciding_rule)}"
        yield f"by agent: {_totals(changes, lambda change: change.agent)}"
    for kept, group in by_count(replay.kept):
        yield f"{group.count:>8} × cannot be told: {_kept_text(kept)}  e.g. {group.examples[0]}"
    for cause, count in sorted(replay.skipped.items()):
        yield f"{count:>8} × passed over: {SKIPPED.get(cause, cause)}"


def _kept_text(kept: Kept) -> str:
    names = ", ".join(kept.names)
    if not kept.rules:
        return f"whether {names} came as JSON or as text, which was not recorded"
    return (
        f"{', '.join(kept.rules)} read{'s' if len(kept.rules) == 1 else ''} {names}, which "
        f"{'was' if len(kept.names) == 1 else 'were'} not recorded"
    )


def _deciding_rule(change: Change) -> str:
    """The rule that makes the difference: the new decision's, or the old one's if no rule decides
    any more."""
    return change.by_now if "/" in change.by_now else change.by_then


def _totals(changes: list[tuple[Change, Group]], key: Any) -> str:
    totals: dict[str, int] = {}
    for change, group in changes:
        totals[key(change)] = totals.get(key(change), 0) + group.count
    ordered = sorted(totals.items(), key=lambda one: (-one[1], one[0]))
    return ", ".join(f"{name} {count}" for name, count in ordered)


def _data(replay: Replay, since_us: int, revision: str) -> dict[str, Any]:
    return {"since": time_text(since_us), "revision": revision, **replay.data()}
