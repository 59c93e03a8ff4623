"""`aegis-sidecar receipts verify-proof FILE --key PUBLIC`: whether a receipt was signed for."""

from __future__ import annotations

import argparse
import sys

from sidecar.cli.os_error_text import os_error_text
from sidecar.cli.receipts_heads import Unreadable, trusted_keys

NAME = "verify-proof"
HELP = "exit 0: the receipt was signed for, 1: it does not hold, 2: unreadable"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The proof, and who is trusted."""
    parser.add_argument("file", metavar="FILE", help="what `receipts prove` wrote")
    parser.add_argument(
        "--key", action="append", required=True, metavar="PUBLIC", help="as for `receipts verify`"
    )
    parser.add_argument("--json", action="store_true", help="the receipt as one JSON object")


def run(args: argparse.Namespace) -> int:
    """0 holds, 1 does not, 2 wrong usage or unreadable."""
    import json
    from pathlib import Path

    from sidecar.ledger.anchors import signer_of
    from sidecar.ledger.receipt_proof import PROOF_BYTES_MAX, BadProof, read_proof

    try:
        trusted = trusted_keys(args.key)
        with Path(args.file).open("rb") as handle:
            data = handle.read(PROOF_BYTES_MAX + 1)
        if len(data) > PROOF_BYTES_MAX:
            raise Unreadable(f"it is larger than {PROOF_BYTES_MAX} bytes")
        proof = read_proof(data.decode())
    except (Unreadable, OSError, UnicodeDecodeError) as error:
        print(f"cannot be read: {os_error_text(error)}", file=sys.stderr)
        return 2
    except BadProof as error:
        print(f"{'UNREADABLE' if error.is_unreadable else 'TAMPERED'}: {error}")
        return 2 if error.is_unreadable else 1
    key = signer_of(proof.head, trusted)
    if key is None:
        print("TAMPERED: its checkpoint is not signed by a key that is trusted")
        return 1
    receipt, size = proof.receipt, proof.head.checkpoint.size
    if args.json:
        print(json.dumps({"size": size, "key": key.text, "receipt": receipt}))
        return 0
    print(
        f"receipt {receipt['seq']} of tenant {receipt['tenant_id']!a} is among the {size} that "
        f"were signed by key {key.text}"
    )
    for name, value in receipt.items():
        if value is not None:
            print(f"    {name}: {value!a}")
    print("not shown: anything of the receipts around it, or after the signed head")
    return 0
