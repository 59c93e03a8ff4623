"""`aegis-sidecar receipts rotate-key --old REF --new REF`: another key signs, on record.

The keys are named here and not in sidecar.yaml, which has a place for one key only: that which
signs. A second one there would be a secret that is kept for nothing once the receipts are written.
Stop the sidecar, run this, set `receipts.key` to the new key, start it again.
"""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from sidecar.cli.chosen_store import WrongUsage, finished

if TYPE_CHECKING:
    from sidecar.config.model import Config
    from sidecar.signed_note import SigningKey
    from storage.sql_store import SqlReader, SqlStore

NAME = "rotate-key"
HELP = "another key signs from now on: a receipt in every chain, signed by both keys"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Both keys."""
    parser.add_argument(
        "--config",
        metavar="FILE",
        help="path of sidecar.yaml (default: AEGIS_CONFIG, ./sidecar.yaml)",
    )
    for name, what in (("old", "that has signed so far"), ("new", "that signs from now on")):
        parser.add_argument(
            f"--{name}",
            required=True,
            metavar="REF",
            help=f"file:PATH or env:NAME of the key {what}",
        )


def run(args: argparse.Namespace) -> int:
    """0 recorded, 1 it cannot be, 2 wrong usage."""
    return finished(_rotate(args), writes=True)


def settings_of(config: str | None) -> Config:
    """The configuration; raises WrongUsage with its problems."""
    import os
    from pathlib import Path

    from sidecar.config.load import load_config

    path = Path(config or os.environ.get("AEGIS_CONFIG") or "sidecar.yaml")
    loaded = load_config(path, os.environ, ())
    if loaded.local is None:
        raise WrongUsage("\n".join(str(problem) for problem in loaded.problems))
    return loaded.local


async def origins(reader: SqlReader) -> dict[str, str]:
    """The name of each chain that has receipts, by tenant."""
    from sidecar.ledger.checkpoint import read_signed
    from sidecar.ledger.checkpointer import new_origin
    from storage.tree import TreeReader

    signed = await TreeReader(reader).latest_checkpoints()
    found = {row.tenant_id: read_signed(row.note)[0].origin for row in signed}
    for tenant_id in await reader.tenants():
        if tenant_id not in found and (await reader.head(tenant_id)).seq:
            found[tenant_id] = await new_origin(reader, tenant_id)
    return dict(sorted(found.items()))


async def _rotate(args: argparse.Namespace) -> int:
    import storage
    from sidecar.clock import Clock
    from sidecar.ledger.alone import record
    from sidecar.ledger.key_rotation import rotated
    from sidecar.local_users import command_actor

    old, new = _key(args.old), _key(args.new)
    if old.public == new.public:
        raise WrongUsage("the two are one key")
    config, clock = settings_of(args.config), Clock()
    await (await storage.open_reader(config.store)).close()  # a store that is not there is not made
    store = await storage.open_store(config.store, now_us=clock.now_us)
    try:
        names = await origins(store)
        await _require_signed_by(store, old)
        told = await _told_already(store, names, old, new)
        for tenant_id, origin in names.items():
            if tenant_id in told:
                print(f"tenant {tenant_id!a}: receipt {told[tenant_id]} says so already")
                continue
            await record(store, rotated(clock, tenant_id, command_actor(), origin, old, new))
            head = await store.head(tenant_id)
            print(f"tenant {tenant_id!a}: receipt {head.seq} says so, signed by both keys")
            print(f"    {new.verifier(origin).text}")
    finally:
        await store.close()
    if not names:
        print("there are no receipts yet, and nothing to tell")
    print("now set receipts.key of sidecar.yaml to the new key, and start the sidecar")
    return 0


async def _require_signed_by(reader: SqlReader, old: SigningKey) -> None:
    """Raises WrongUsage if what was signed last was signed by another key than the old one."""
    from sidecar.ledger.checkpoint import read_signed
    from storage.tree import TreeReader

    for row in await TreeReader(reader).latest_checkpoints():
        checkpoint, note = read_signed(row.note)
        if note.signature_by(old.verifier(checkpoint.origin)) is None:
            raise WrongUsage(
                f"--old is not the key that signed the last head of {row.tenant_id!r}: nothing was "
                "recorded"
            )


async def _told_already(
    store: SqlStore, names: dict[str, str], old: SigningKey, new: SigningKey
) -> dict[str, int]:
    """The chains that tell of this very change, which a command that was cut off has left, and by
    which receipt. Raises WrongUsage if the old key was replaced by another one."""
    from sidecar.ledger.key_standing import replaced_by

    told = {}
    for tenant_id, origin in names.items():
        head = await store.head(tenant_id)
        found = await replaced_by(store, tenant_id, old.verifier(origin).text, head.seq)
        if found is None:
            continue
        if found.by != new.verifier(origin).text:
            raise WrongUsage(
                f"--old was replaced in the chain of {tenant_id!r}: since receipt {found.seq} "
                f"{found.by} signs, and only that key may hand over: nothing was recorded"
            )
        told[tenant_id] = found.seq
    return told


def _key(reference: str) -> SigningKey:
    import os
    from pathlib import Path

    from sidecar.config.references import read_regular
    from sidecar.signed_note import BadNote, SigningKey

    kind, _, name = reference.partition(":")
    try:
        if kind == "file" and name:
            return SigningKey(read_regular(Path(name), is_private=True).decode())
        if kind == "env" and name:
            return SigningKey(os.environ[name])
    except KeyError:
        raise WrongUsage(f"the environment variable {name} is not set") from None
    except OSError as error:
        raise WrongUsage(f"{name} cannot be read: {error.strerror or error}") from error
    except (BadNote, ValueError) as error:
        raise WrongUsage(f"{kind}:{name}: {error}") from error
    print(f"{kind}: a key is named by file:PATH or env:NAME", file=sys.stderr)
    raise WrongUsage("a key must not stand on the command line itself")
