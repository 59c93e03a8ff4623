"""`aegis-sidecar policy check PATH…`: loads what stands there as `serve` would."""

from __future__ import annotations

import argparse
import json
import sys
from typing import TYPE_CHECKING, Any

from sidecar.cli.policy_sources import (
    NothingChosen,
    add_source_arguments,
    count_text,
    load_chosen,
    show_problems,
    use_usual_config,
)
from sidecar.counted import counted

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from sidecar.cli.policy_sources import Chosen
    from sidecar.problems import Position, Problem

NAME = "check"
HELP = "print every problem with its place; exit 0: loads, 1: problems found, 2: unreadable"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What to check."""
    add_source_arguments(parser)
    parser.add_argument("--strict", action="store_true", help="exit 1 on warnings too")
    parser.add_argument("--json", action="store_true", help="as one JSON object")


def run(args: argparse.Namespace) -> int:
    """0 loads, 1 problems, 2 nothing to check or unreadable configuration."""
    is_told_none = not (args.paths or args.config)
    use_usual_config(args)
    try:
        chosen = load_chosen(args)
    except NothingChosen as error:
        show_problems(error.problems)
        if error.message:
            print(error.message, file=sys.stderr)
        elif is_told_none:
            print("(or name files, folders or pack:NAME)", file=sys.stderr)
        return 2
    # A set is put in force once its tests pass; what none could pass is seen without running it.
    chosen.problems = sorted({*chosen.problems, *chosen.unusable_tests()})
    has_errors = any(args.strict or not problem.is_warning for problem in chosen.problems)
    code = 1 if chosen.policy_set is None or has_errors else 0
    found = chosen.policy_set
    if args.json:
        print(json.dumps(_data(chosen), ensure_ascii=False))
        return code
    show_problems(chosen.problems)
    if code or found is None:
        print(count_text(chosen.problems), file=sys.stderr)
        return 1
    tools = len(found.catalogue.tools)
    watched = len(chosen.detections.all)
    detections = f"{counted(watched, 'detection')}, " if watched else ""
    print(
        f"{counted(found.rule_count, 'rule')}, {counted(tools, 'tool')}, "
        f"{detections}revision {found.revision}"
    )
    return 0


def _data(chosen: Chosen) -> dict[str, Any]:
    found = chosen.policy_set
    return {
        "loads": found is not None and all(one.is_warning for one in chosen.problems),
        "problems": [problem.as_json() for problem in chosen.problems],
        "rules": found.rule_count if found is not None else None,
        "tools": len(found.catalogue.tools) if found is not None else None,
        "detections": len(chosen.detections.all) if found is not None else None,
        "revision": found.revision if found is not None else None,
    }


def problems_of(
    places: Mapping[str, Position], base: Path, upstreams: Mapping[str, str]
) -> list[Problem]:
    """All that is wrong with the policies and detections of a configuration, in order. `places` are
    its entries and where they are written, `upstreams` the kinds by name."""
    from sidecar.policy_reading import take_reading
    from sidecar.soc.loading import load_all

    reading = take_reading(places, base, places=places)
    loaded = load_all(
        reading.sources, upstreams=upstreams, default="deny", read_file=reading.read_file
    )
    return sorted({*reading.problems, *loaded.problems})
