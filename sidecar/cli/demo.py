"""`aegis-sidecar demo`: a tool server, the sidecar in front of it, and an agent's day, told.

Knows: the order of the story and what a newcomer wants to read. Everything shown is done by the
product's own parts; the folder it leaves behind is an ordinary sidecar's.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from sidecar.app import Sidecar
    from sidecar.config.model import Config
    from sidecar.demo.operator import Operator
    from sidecar.demo.tool_server import ToolServer
    from storage.sql_store import SqlReader

NAME = "demo"
HELP = "play the demo: calls allowed and refused, an attack noticed, the record proved"
DATA_PORT, CONTROL_PORT, TOOL_PORT = 8080, 8081, 8090
_RECEIPTS = "receipts.jsonl"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Where to keep the demo's files, and whether to go on running."""
    parser.add_argument("--once", action="store_true", help="play it and exit")
    parser.add_argument(
        "--folder", default="aegis-demo", help="where its files go (default: ./aegis-demo)"
    )


def run(args: argparse.Namespace) -> int:
    """0 if everything went as told, 1 if not; raises KeyboardInterrupt before that is known."""
    import asyncio

    import uvloop

    from sidecar.cli.os_error_text import os_error_text
    from sidecar.errors import SidecarError
    from storage.errors import StoreError

    try:
        return uvloop.run(_demo(Path(args.folder).resolve(), once=args.once))
    except (SidecarError, StoreError, OSError) as error:
        said = os_error_text(error) if isinstance(error, OSError) else error
        print(f"the demo cannot run: {said}", file=sys.stderr)
        return 1
    except asyncio.CancelledError:
        raise KeyboardInterrupt from None


async def _demo(folder: Path, *, once: bool) -> int:
    from sidecar.demo.tool_server import ToolServer

    tools = ToolServer()
    await tools.start(_port_or_free(TOOL_PORT))
    try:
        config = _prepare(folder, tools.port)
        with (folder / "sidecar.log").open("a") as log:
            return await _play(config, folder, tools, log, once=once)
    finally:
        await tools.stop()


async def _play(config: Config, folder: Path, tools: ToolServer, log: TextIO, *, once: bool) -> int:
    import asyncio
    import signal

    from sidecar.app import running
    from sidecar.demo.proof import prove
    from sidecar.demo.scenario import Story

    async with running(config, log=log) as sidecar:
        print(f"The sidecar runs in front of two tool servers; its files are in {folder}.\n")
        operator = _operator(config)
        if await operator.clear_up():
            print("It was played here before; what was left of then was ended.\n")
        story = Story(sidecar.data_url, print, tools.seen, operator)
        await story.play()
        prove(story, await _receipts(config), folder)
        if story.failures:
            print("The story did not go as told:", *story.failures, sep="\n   ", file=sys.stderr)
            return 1
        _say_where_to_go(folder, sidecar, once=once)
        if not once:
            stop = asyncio.Event()
            for number in (signal.SIGTERM, signal.SIGINT):
                asyncio.get_running_loop().add_signal_handler(number, stop.set)
            print("It keeps running; Ctrl-C ends it.", flush=True)
            await stop.wait()
    return 0


def _prepare(folder: Path, tool_port: int) -> Config:
    from sidecar.config.load import load_config
    from sidecar.demo.files import write_files
    from sidecar.errors import ConfigurationError

    folder.mkdir(parents=True, exist_ok=True)
    path, *kept = write_files(
        folder,
        data_port=_port_or_free(DATA_PORT),
        control_port=_port_or_free(CONTROL_PORT),
        tool_port=tool_port,
    )
    for file in kept:
        print(f"Your changes are kept in {file}; the story is played with the demo's own rules.")
    loaded = load_config(path, {}, [])
    if loaded.config is None:
        raise ConfigurationError("\n".join(str(problem) for problem in loaded.problems))
    return loaded.config


def _port_or_free(wanted: int) -> int:
    """The usual port if it is free, else any other."""
    import socket

    for port in (wanted, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    return wanted


def _operator(config: Config) -> Operator:
    """Who does what the command line does, in the same way: over control.sock, and from the
    store."""
    import asyncio

    from sidecar.cli.control_client import SOCKET_NAME, ask_at
    from sidecar.demo.operator import Operator

    socket = Path(config.data_dir) / SOCKET_NAME

    async def ask(path: str, asked: dict[str, Any]) -> dict[str, Any]:
        return await asyncio.to_thread(ask_at, socket, "POST", path, asked)

    async def verify(incident_id: str) -> tuple[bool, list[str]]:
        from sidecar.cli.soc_verify import packed_from, verdict_lines
        from sidecar.soc.pack_verdict import pack_verdict

        reader = await _reader(config)
        try:
            tenant = next(iter(config.tenants))
            pack = await packed_from(reader, tenant, incident_id, with_facts=True)
        finally:
            await reader.close()
        if pack is None:
            return False, []
        verdict = pack_verdict(pack, [], [])
        return verdict.holds, verdict_lines(verdict)

    return Operator(ask, verify, next(iter(next(iter(config.tenants.values())).agents)))


async def _reader(config: Config) -> SqlReader:
    """The demo's own store, read beside the sidecar."""
    import storage

    return await storage.open_reader(config.store)


async def _receipts(config: Config) -> list[bytes]:
    """All receipts of the demo's only tenant, as `receipts export` writes them."""
    from sidecar.ledger.export import export_lines

    reader = await _reader(config)
    try:
        return [line async for line in export_lines(reader, next(iter(config.tenants)))]
    finally:
        await reader.close()


def _say_where_to_go(folder: Path, sidecar: Sidecar, *, once: bool) -> None:
    import shlex

    print("Go on with" + (" (without --once it keeps running):" if once else ""))
    print(f"   agents call          {sidecar.data_url}/shop/…  and  {sidecar.data_url}/notes (MCP)")
    print(f"   metrics              {sidecar.control_url}/metrics")
    print(f"   health               {sidecar.control_url}/readyz")
    print(f"   the rules            {folder}/policies/demo.yaml")
    # Beside the interpreter that runs this, whether or not its folder is on the PATH.
    beside = Path(sys.executable).with_name("aegis-sidecar")
    command = shlex.quote(str(beside)) if beside.exists() else "aegis-sidecar"
    config, receipts = (shlex.quote(str(folder / one)) for one in ("sidecar.yaml", _RECEIPTS))
    print(f"   why a call went so   {command} policy explain --id CALL --config {config}")
    print(f"   the console          {sidecar.control_url}/  (sign in with a key, which this makes:")
    print(f"                        {command} keys create NAME --role admin --config {config})")
    print(f"   what its run read    {command} runs show agent --config {config}")
    print(f"   what waits for you   {command} approvals list --config {config}")
    print(f"   what was noticed     {command} incidents list --config {config}")
    print(f"   how near the limit   {command} store status --config {config}")
    print(f"   verify it again      {command} receipts verify {receipts}\n")
