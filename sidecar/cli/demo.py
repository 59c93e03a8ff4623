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
    from sidecar.demo.scenario import Approve, EndRun, Waiting
    from sidecar.demo.tool_server import ToolServer

NAME = "demo"
HELP = "play the demo: calls allowed and refused, a trick that fails, the record proved"
DATA_PORT, CONTROL_PORT, TOOL_PORT = 8080, 8081, 8090


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Where to keep the demo's files, and whether to go on running."""
    parser.add_argument("--once", action="store_true", help="play it and exit")
    parser.add_argument(
        "--folder", default="aegis-demo", help="where its files go (default: ./aegis-demo)"
    )


def run(args: argparse.Namespace) -> int:
    """0 if everything went as told, 1 if not."""
    import asyncio

    import uvloop

    from sidecar.errors import SidecarError
    from storage.errors import StoreError

    try:
        return uvloop.run(_demo(Path(args.folder).resolve(), once=args.once))
    except (SidecarError, StoreError, OSError) as error:
        print(f"the demo cannot run: {error}", file=sys.stderr)
        return 1
    except (KeyboardInterrupt, asyncio.CancelledError):
        return 0


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
        end_run = await _run_ended_before(config)
        waiting, approve = _approvals(config)
        story = Story(sidecar.data_url, print, tools.seen, end_run, waiting, approve)
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


async def _run_ended_before(config: Config) -> EndRun:
    """How to end the agent's run. A run that an earlier playing left behind is ended first, or
    this one would begin with what that one had read."""
    import asyncio

    from sidecar.cli.control_client import SOCKET_NAME, ask_at

    socket = Path(config.data_dir) / SOCKET_NAME
    agent = next(iter(next(iter(config.tenants.values())).agents))

    async def ask(verb: str, **more: str) -> dict[str, Any]:
        asked = {"agent": agent, "tenant": None, "run_id": "", **more}
        return await asyncio.to_thread(ask_at, socket, "POST", f"/runs/{verb}", asked)

    async def end_run(reason: str) -> None:
        await ask("reset", reason=reason)

    if "trust" in await ask("show"):
        await end_run("the demo begins anew")
        print("It was played here before; the agent's run of then was ended.\n")
    return end_run


def _approvals(config: Config) -> tuple[Waiting, Approve]:
    """How a person looks at what waits and says yes, as `aegis-sidecar approvals` does."""
    import asyncio

    from sidecar.cli.control_client import SOCKET_NAME, ask_at

    socket = Path(config.data_dir) / SOCKET_NAME

    async def ask(verb: str, **asked: str) -> dict[str, Any]:
        return await asyncio.to_thread(ask_at, socket, "POST", f"/approvals/{verb}", asked)

    async def waiting() -> list[dict[str, Any]]:
        found = (await ask("list"))["approvals"]
        return [one for one in found if one["state"] == "pending"]

    async def approve(approval_id: str, reason: str) -> dict[str, Any]:
        return await ask("approve", id=approval_id, reason=reason)

    return waiting, approve


async def _receipts(config: Config) -> list[bytes]:
    """All receipts of the demo's only tenant, as `receipts export` writes them."""
    import storage
    from sidecar.ledger.export import export_lines

    reader = await storage.open_reader(config.store)
    try:
        return [line async for line in export_lines(reader, next(iter(config.tenants)))]
    finally:
        await reader.close()


def _say_where_to_go(folder: Path, sidecar: Sidecar, *, once: bool) -> None:
    print("Go on with" + (" (without --once it keeps running):" if once else ""))
    print(f"   agents call          {sidecar.data_url}/shop/…  and  {sidecar.data_url}/notes (MCP)")
    print(f"   metrics              {sidecar.control_url}/metrics")
    print(f"   health               {sidecar.control_url}/readyz")
    print(f"   the rules            {folder}/policies/demo.yaml")
    # Beside the interpreter that runs this, whether or not its folder is on the PATH.
    beside = Path(sys.executable).with_name("aegis-sidecar")
    command = str(beside) if beside.exists() else "aegis-sidecar"
    print(
        f"   why a call went so   {command} policy explain --id CALL --config {folder}/sidecar.yaml"
    )
    print(f"   what its run read    {command} runs show agent --config {folder}/sidecar.yaml")
    print(f"   what waits for you   {command} approvals list --config {folder}/sidecar.yaml")
    print(f"   how near the limit   {command} store status --config {folder}/sidecar.yaml")
    print(f"   verify it again      {command} receipts verify {folder}/receipts.jsonl\n")
