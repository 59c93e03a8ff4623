"""Asks the running sidecar over control.sock, for the commands that need it.

Knows: where the socket is (the data folder, from --data-dir or the configuration) and what to say
when nobody answers. Uses the standard library only: a command line must not wait for imports.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import shlex
import socket
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final

from sidecar.cli.os_error_text import os_error_text
from sidecar.cli.terminal_text import fit

SOCKET_NAME: Final = "control.sock"
CONFIGURATION_NAME: Final = "sidecar.yaml"
WAIT_S: Final = 10.0
#: The longest path that any system takes for a socket (Linux; macOS takes 103).
PATH_BYTES_MAX: Final = 107
#: Processes of one wrapped server, each with a folder of its own below the first one's.
FURTHER_MAX: Final = 16
_BY_FOLDER: Final = "or name the sidecar's folder with --data-dir"


class Unreachable(Exception):
    """The sidecar cannot be asked; the message says why and what to do. `exit_code` is 2 where
    the command was given wrongly, 1 where nobody answers. `is_absent` says that no sidecar is
    there at all; `code` and `next_step` are those of one that refuses what it was asked."""

    def __init__(
        self,
        message: str,
        exit_code: int = 1,
        *,
        is_absent: bool = False,
        code: str = "",
        next_step: str = "",
    ) -> None:
        super().__init__(message)
        self.exit_code = exit_code
        self.is_absent = is_absent
        self.code = code
        self.next_step = next_step


def add_connection_arguments(parser: argparse.ArgumentParser) -> None:
    """How to find the running sidecar."""
    parser.add_argument(
        "--config",
        metavar="FILE",
        help="path of sidecar.yaml (default: AEGIS_CONFIG, ./sidecar.yaml)",
    )
    parser.add_argument(
        "--data-dir",
        metavar="FOLDER",
        help="folder of the store and control.sock, instead of --config",
    )


def ask(args: argparse.Namespace, method: str, path: str) -> dict[str, Any]:
    """One question to the running sidecar; raises Unreachable."""
    return ask_at(socket_path(args), method, path)


def tell(
    args: argparse.Namespace,
    path: str,
    asked: dict[str, Any],
    lines: Callable[[dict[str, Any]], Iterable[str]],
) -> int:
    """Asks the running sidecar and prints what it says: as JSON if `args.json`, else by `lines`.

    Gives the exit code: 0 done, 1 refused or nobody answers, 2 for wrong usage.
    """
    try:
        said = ask_at(socket_path(args), "POST", path, asked)
    except Unreachable as error:
        print(error, file=sys.stderr)
        if error.next_step:
            print(f"    {error.next_step}", file=sys.stderr)
        return error.exit_code
    if args.json:
        print(json.dumps(said))
        return 0
    for line in lines(said):
        print(fit(line))  # reasons and names are whoever's who gave them
    return 0


def ask_at(
    where: Path,
    method: str,
    path: str,
    body: dict[str, Any] | None = None,
    wait_s: float = WAIT_S,
) -> dict[str, Any]:
    """The same by the path of the socket, with a JSON body if there is one; raises Unreachable."""
    if len(os.fsencode(where)) > PATH_BYTES_MAX:
        raise Unreachable(
            f"no sidecar can listen at {where}: the path is too long for a socket",
            is_absent=True,
        )
    connection = _SocketConnection(where, wait_s)
    try:
        connection.request(method, path, None if body is None else json.dumps(body))
        response = connection.getresponse()
        answer = json.loads(response.read())
    except FileNotFoundError as error:
        raise Unreachable(
            f"no sidecar runs here: {where} is not there. Start it with `aegis-sidecar serve` (a "
            "wrapped server is started by its agent), or name its folder with --data-dir",
            is_absent=True,
        ) from error
    except ConnectionRefusedError as error:
        raise Unreachable(
            f"no sidecar answers at {where}: it was left behind by one that is gone",
            is_absent=True,
        ) from error
    except PermissionError as error:
        raise Unreachable(
            f"{where} belongs to another user: run this command as the sidecar's user"
        ) from error
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise Unreachable(
            f"the sidecar at {where} does not answer: {os_error_text(error)}"
        ) from error
    finally:
        connection.close()
    if response.status != http.client.OK or not isinstance(answer, dict):
        said = answer if isinstance(answer, dict) else {}
        raise Unreachable(
            f"the sidecar at {where} refuses: {said.get('title') or response.status}",
            code=str(said.get("code", "")),
            next_step=str(said.get("next_step", "")),
        )
    return answer


def socket_path(args: argparse.Namespace) -> Path:
    """Where control.sock is; raises Unreachable (exit code 2) if that cannot be known. Says which
    further processes of a wrapped server there are: each has a record of its own, and what waits
    at one is unknown to the others."""
    folder = Path(args.data_dir) if args.data_dir else Path(load_configuration(args).data_dir)
    for other in _further(folder):
        named = shlex.quote(str(other))
        print(
            f"another process of this server runs, ask it too: --data-dir {named}", file=sys.stderr
        )
    return folder / SOCKET_NAME


def _further(folder: Path) -> list[Path]:
    """The folders of further processes (`wrap` numbers them from 2) in which somebody answers."""
    numbered = [folder / str(number) for number in range(2, FURTHER_MAX + 1)]
    return [one for one in numbered if _answers(one / SOCKET_NAME)]


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(WAIT_S)
        try:
            probe.connect(str(path))
        except OSError:
            return False
    return True


def changed_since_start(args: argparse.Namespace) -> str:
    """What to say where sidecar.yaml was saved after the sidecar that is asked had started, which
    made its socket then; "" where it was not, or it cannot be told."""
    folder = args.data_dir
    file = Path(folder) / CONFIGURATION_NAME if folder else _configuration_path(args)
    try:
        is_newer = file.stat().st_mtime_ns > socket_path(args).stat().st_mtime_ns
    except (OSError, Unreachable):
        return ""
    if not is_newer:
        return ""
    return f"{file} was saved since the start, and is read at a start alone: restart the sidecar"


def _configuration_path(args: argparse.Namespace) -> Path:
    return Path(args.config or os.environ.get("AEGIS_CONFIG") or CONFIGURATION_NAME)


def load_configuration(args: argparse.Namespace, otherwise: str = _BY_FOLDER) -> Any:
    """The Config of --config, as far as this machine goes: no upstream's secret is needed to ask
    the running sidecar. Raises Unreachable (exit code 2) with its problems; `otherwise` says how
    else the command is told whom to ask."""
    from sidecar.config.load import load_config

    loaded = load_config(_configuration_path(args), os.environ, ())
    if loaded.local is None:
        problems = "\n".join(str(problem) for problem in loaded.problems)
        raise Unreachable(f"{problems}\n({otherwise})", 2)
    return loaded.local


class _SocketConnection(http.client.HTTPConnection):
    def __init__(self, path: Path, wait_s: float) -> None:
        super().__init__("localhost", timeout=wait_s)
        self._path = path
        self._wait_s = wait_s

    def connect(self) -> None:
        """To the socket instead of a host."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self._wait_s)
        self.sock.connect(str(self._path))
