"""`aegis-sidecar policy VERB`: one file for each verb."""

from __future__ import annotations

import argparse

from sidecar.cli import (
    policy_check,
    policy_explain,
    policy_packs,
    policy_promote,
    policy_replay,
    policy_schema,
    policy_test,
)
from sidecar.cli.policy_check import problems_of

__all__ = ["HELP", "NAME", "VERBS", "add_arguments", "problems_of", "run"]

NAME = "policy"
HELP = "check, test, explain and replay policies; packs; schemas for editors"

VERBS = (
    policy_check,
    policy_test,
    policy_explain,
    policy_replay,
    policy_promote,
    policy_packs,
    policy_schema,
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The verbs."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    for verb in VERBS:
        verb.add_arguments(actions.add_parser(verb.NAME, help=verb.HELP))


def run(args: argparse.Namespace) -> int:
    """What the verb gives."""
    verb = next(verb for verb in VERBS if args.action == verb.NAME)
    code: int = verb.run(args)
    return code
