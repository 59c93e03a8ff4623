"""`aegis-sidecar policy check PATH…`: loads catalogues and policies as `serve` would."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from sidecar.cli.policy_sources import (
    NothingChosen,
    add_source_arguments,
    count_text,
    load_chosen,
    plural,
    show_problems,
)

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from sidecar.problems import Position, Problem

NAME = "check"
HELP = "print every problem with its place; exit 0: loads, 1: problems found, 2: unreadable"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What to check."""
    add_source_arguments(parser)
    parser.add_argument("--strict", action="store_true", help="exit 1 on warnings too")


def run(args: argparse.Namespace) -> int:
    """0 loads, 1 problems, 2 nothing to check or unreadable configuration."""
    try:
        chosen = load_chosen(args)
    except NothingChosen as error:
        show_problems(error.problems)
        if error.message:
            print(error.message, file=sys.stderr)
        return 2
    show_problems(chosen.problems)
    has_errors = any(args.strict or not problem.is_warning for problem in chosen.problems)
    if chosen.policy_set is None or has_errors:
        print(count_text(chosen.problems), file=sys.stderr)
        return 1
    found = chosen.policy_set
    tools = len(found.catalogue.tools)
    print(
        f"{found.rule_count} rule{plural(found.rule_count)}, {tools} tool{plural(tools)}, "
        f"revision {found.revision}"
    )
    return 0


def problems_of(
    places: Mapping[str, Position], base: Path, upstreams: Mapping[str, str]
) -> list[Problem]:
    """All that is wrong with the policies of a configuration, in order. `places` are its entries
    and where they are written, `upstreams` the kinds by name."""
    from sidecar.policy.load import load_policies
    from sidecar.policy_reading import take_reading

    reading = take_reading(places, base, places=places)
    loaded = load_policies(
        reading.sources, upstreams=upstreams, default="deny", read_file=reading.read_file
    )
    return sorted({*reading.problems, *loaded.problems})
