"""`aegis-sidecar reload`: loads the policies now instead of at the next look."""

from __future__ import annotations

import argparse
import sys

from sidecar.cli.control_client import (
    Unreachable,
    add_connection_arguments,
    ask,
    changed_since_start,
)

NAME = "reload"
HELP = "load the policies now; a broken set leaves the last good one in force"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Where the sidecar runs."""
    add_connection_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """0 loaded, 1 broken or nobody answers, 2 for wrong usage."""
    try:
        result = ask(args, "POST", "/reload")
    except Unreachable as error:
        print(error, file=sys.stderr)
        return error.exit_code
    for problem in result["problems"]:
        print(problem, file=sys.stderr)
    print(result["text"], file=sys.stdout if result["succeeded"] else sys.stderr)
    if changed := changed_since_start(args):  # nobody is to think that this took it over
        print(changed, file=sys.stderr)
    return 0 if result["succeeded"] else 1
