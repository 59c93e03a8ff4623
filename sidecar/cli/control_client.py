"""Asks the running sidecar over control.sock, for the commands that need it.

Knows: where the socket is (the data folder, from --data-dir or the configuration) and what to say
when nobody answers. Uses the standard library only: a command line must not wait for imports.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import socket
from pathlib import Path
from typing import Any, Final

SOCKET_NAME: Final = "control.sock"
WAIT_S: Final = 10.0


class Unreachable(Exception):
    """The sidecar cannot be asked; the message says why and what to do. `exit_code` is 2 where
    the command was given wrongly, 1 where nobody answers."""

    def __init__(self, message: str, exit_code: int = 1) -> None:
        super().__init__(message)
        self.exit_code = exit_code


def add_connection_arguments(parser: argparse.ArgumentParser) -> None:
    """How to find the running sidecar."""
    parser.add_argument(
        "--config", help="path of sidecar.yaml (default: AEGIS_CONFIG, ./sidecar.yaml)"
    )
    parser.add_argument(
        "--data-dir", help="folder of the store and control.sock, instead of --config"
    )


def ask(args: argparse.Namespace, method: str, path: str) -> dict[str, Any]:
    """One question to the running sidecar; raises Unreachable."""
    where = socket_path(args)
    connection = _SocketConnection(where)
    try:
        connection.request(method, path)
        response = connection.getresponse()
        answer = json.loads(response.read())
    except FileNotFoundError as error:
        raise Unreachable(
            f"no sidecar runs here: {where} is not there. Start it with `aegis-sidecar serve`, "
            "or name its folder with --data-dir"
        ) from error
    except ConnectionRefusedError as error:
        raise Unreachable(
            f"no sidecar answers at {where}: it was left behind by one that is gone"
        ) from error
    except PermissionError as error:
        raise Unreachable(
            f"{where} belongs to another user: run this command as the sidecar's user"
        ) from error
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise Unreachable(f"the sidecar at {where} does not answer: {error}") from error
    finally:
        connection.close()
    if response.status != http.client.OK or not isinstance(answer, dict):
        title = answer.get("title", "") if isinstance(answer, dict) else ""
        raise Unreachable(f"the sidecar at {where} refuses: {response.status} {title}".rstrip())
    return answer


def socket_path(args: argparse.Namespace) -> Path:
    """Where control.sock is; raises Unreachable (exit code 2) if that cannot be known."""
    if args.data_dir:
        return Path(args.data_dir) / SOCKET_NAME
    return Path(load_configuration(args).data_dir) / SOCKET_NAME


def load_configuration(args: argparse.Namespace) -> Any:
    """The Config of --config, as far as this machine goes: no upstream's secret is needed to ask
    the running sidecar. Raises Unreachable (exit code 2) with its problems."""
    from sidecar.config.load import load_config

    path = Path(args.config or os.environ.get("AEGIS_CONFIG") or "sidecar.yaml")
    loaded = load_config(path, os.environ, ())
    if loaded.local is None:
        problems = "\n".join(str(problem) for problem in loaded.problems)
        raise Unreachable(f"{problems}\n(or name the sidecar's folder with --data-dir)", 2)
    return loaded.local


class _SocketConnection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=WAIT_S)
        self._path = path

    def connect(self) -> None:
        """To the socket instead of a host."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(WAIT_S)
        self.sock.connect(str(self._path))
