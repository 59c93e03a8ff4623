"""`aegis-sidecar store VERB`: one file for each verb."""

from __future__ import annotations

import argparse

from sidecar.cli import (
    store_accept_rollback,
    store_backup,
    store_calibrate,
    store_erase,
    store_info,
    store_move,
    store_prune,
    store_restore,
    store_salvage,
    store_status,
    store_unfence,
    store_verify,
)

NAME = "store"
HELP = "how near the store is to its limit; its care; moving it"

VERBS = (
    store_status,
    store_info,
    store_calibrate,
    store_move,
    store_unfence,
    store_verify,
    store_backup,
    store_restore,
    store_salvage,
    store_accept_rollback,
    store_prune,
    store_erase,
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
