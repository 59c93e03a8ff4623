"""`aegis-sidecar soc VERB`: tests detections, proves incidents; one file for each verb."""

from __future__ import annotations

import argparse

from sidecar.cli import soc_backtest, soc_pack, soc_test, soc_verify

NAME = "soc"
HELP = "test detections, try them on the record, prove an incident"

VERBS = (soc_test, soc_backtest, soc_verify, soc_pack)


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
