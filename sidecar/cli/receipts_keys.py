"""`aegis-sidecar receipts keys`: the public key, as verifiers and witnesses take it."""

from __future__ import annotations

import argparse
import sys

from sidecar.cli.chosen_store import WrongUsage, finished

NAME = "keys"
HELP = "the public key: NAME+ID+KEY for each chain, and in PEM form"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Whose configuration."""
    parser.add_argument(
        "--config",
        metavar="FILE",
        help="path of sidecar.yaml (default: AEGIS_CONFIG, ./sidecar.yaml)",
    )
    parser.add_argument("--pem", action="store_true", help="the PEM form alone")


def run(args: argparse.Namespace) -> int:
    """0 shown, 1 store trouble, 2 there is no key, or wrong usage."""
    return finished(_keys(args))


async def _keys(args: argparse.Namespace) -> int:
    import storage
    from sidecar.cli.receipts_rotate_key import origins, settings_of
    from sidecar.signed_note import SigningKey, public_pem
    from storage.errors import StoreUnavailable

    config = settings_of(args.config)
    if config.receipts.key is None:
        raise WrongUsage("sidecar.yaml names no key: nothing is signed (`receipts.key`)")
    key = SigningKey(config.receipts.key.reveal())
    if not args.pem:
        try:
            reader = await storage.open_reader(config.store)
        except StoreUnavailable as error:
            print(f"# {error}: no chain has a name yet", file=sys.stderr)
        else:
            try:
                for origin in (await origins(reader)).values():
                    print(key.verifier(origin).text)
            finally:
                await reader.close()
    sys.stdout.write(public_pem(key.public))
    return 0
