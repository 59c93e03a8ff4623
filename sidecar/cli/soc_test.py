"""`aegis-sidecar soc test [PATH…]`: runs the tests that stand beside detections."""

from __future__ import annotations

import argparse
import json
import sys

from sidecar.cli.policy_sources import count_text, show_problems

NAME = "test"
HELP = "run the tests of detections; exit 0: all pass, 1: some fail, 2: unusable"

USUAL = "pack:soc"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What to test."""
    parser.add_argument(
        "paths",
        nargs="*",
        metavar="PATH",
        help=f"folders, pack:NAME, or single test files (default: {USUAL})",
    )
    parser.add_argument(
        "--strict",
        action="store_true",
        help="exit 1 unless each detection has a case that raises an alert and one that does not",
    )
    parser.add_argument("--json", action="store_true", help="as one JSON object")


def run(args: argparse.Namespace) -> int:
    """0 all passed, 1 a case failed or too little is shown, 2 unusable or nothing to test."""
    from pathlib import Path

    from sidecar.cli.policy_test import display_name, folder_of
    from sidecar.cli.soc_results import DetectionOutcome
    from sidecar.policy.fields import Problems
    from sidecar.policy_reading import take_reading

    outcome, problems = DetectionOutcome(), Problems()
    for path in args.paths or [USUAL]:
        entry, only = folder_of(path, Path.cwd())
        reading = take_reading([entry], Path.cwd())
        problems.take(reading.problems)
        tests = outcome.read(reading, problems)
        if not problems.error_count:
            outcome.run(tests, problems, display_name(reading, only))
    show_problems(problems.found)
    if problems.error_count:
        print(count_text(problems.found), file=sys.stderr)
        return 2
    if not outcome.results:
        where = ", ".join(args.paths or [USUAL])
        print(f"there is no test of a detection in {where}: a case of one has `events`",
              file=sys.stderr)  # fmt: skip
        return 2
    code = 1 if outcome.failed or (args.strict and outcome.lacking) else 0
    if args.json:
        print(json.dumps(outcome.data(), ensure_ascii=False))
        return code
    outcome.show_failures()
    outcome.show_lacking()
    print(outcome.summary())
    return code
