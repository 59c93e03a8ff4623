"""`aegis-sidecar receipts VERB`: takes the record away, and proves it offline; one file a verb."""

from __future__ import annotations

import argparse

from sidecar.cli import (
    receipts_checkpoint,
    receipts_export,
    receipts_keys,
    receipts_prove,
    receipts_rotate_key,
    receipts_verify,
    receipts_verify_proof,
)

NAME = "receipts"
HELP = "export and verify receipts; signed heads, proofs, keys"

VERBS = (
    receipts_export,
    receipts_verify,
    receipts_checkpoint,
    receipts_prove,
    receipts_verify_proof,
    receipts_keys,
    receipts_rotate_key,
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
