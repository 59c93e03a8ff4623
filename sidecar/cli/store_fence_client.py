"""The fence of a running sidecar, as the commands that move a store ask for it.

Knows: where the sidecar of a store is to be found, and how its answers read as errors of a move.
Must not know: how a fence is raised (the sidecar's business), how a store is moved.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from sidecar.cli.control_client import SOCKET_NAME, Unreachable, ask_at, load_configuration

if TYPE_CHECKING:
    import argparse

#: The answer may take as long as calls in flight were given, and this much more.
ANSWER_S: Final = 15.0


@dataclass(frozen=True, slots=True)
class Stand:
    """A fence that stands. `is_new` if it was raised for this request."""

    fence_id: str
    node_id: str
    is_new: bool
    is_moved: bool


class SidecarFence:
    """What one sidecar is asked for, by its control.sock. Every verb raises MoveRefused with the
    sidecar's own words, or where it does not answer."""

    def __init__(self, where: Path) -> None:
        self.where = where

    def is_served(self) -> bool:
        """Whether a sidecar answers there; raises MoveRefused if one is there and does not."""
        try:
            ask_at(self.where, "GET", "/status")
        except Unreachable as error:
            if error.is_absent:
                return False
            raise _refused(error) from error
        return True

    def stand(self, target: str, wait_s: float) -> Stand:
        """Refuses calls from now on; returns when its store stands still."""
        body = {"target": target, "reason": "store move", "wait_s": wait_s}
        try:
            said = ask_at(self.where, "POST", "/fence", body, wait_s + ANSWER_S)
            return Stand(
                str(said["fence_id"]), str(said["node_id"]), said["is_new"], said["is_moved"]
            )
        except Unreachable as error:
            raise _refused(error) from error

    def lift(self, reason: str) -> bool:
        """Calls go ahead again, on record with a reason; False if no fence stood."""
        body = {"reason": reason}
        try:
            return bool(ask_at(self.where, "DELETE", "/fence", body, ANSWER_S)["lifted"])
        except Unreachable as error:
            raise _refused(error) from error

    def leave(self, fence_id: str) -> None:
        """Has the sidecar mark its store as moved; calls stay refused."""
        try:
            ask_at(self.where, "POST", "/fence/moved", {"fence_id": fence_id}, ANSWER_S)
        except Unreachable as error:
            raise _refused(error) from error


def socket_of(args: argparse.Namespace, store_url: str) -> Path | None:
    """Where the sidecar of a store has its control.sock: the folder that is named, the one of the
    configuration that is named, or that of the file. None for a server without either. Raises
    Unreachable (exit code 2) for a configuration that cannot be read."""
    from storage import engine_of
    from storage.sqlite_file import path_of_url

    if args.data_dir:
        return Path(args.data_dir) / SOCKET_NAME
    if args.config:
        return Path(load_configuration(args).data_dir) / SOCKET_NAME
    if engine_of(store_url) == "sqlite":
        return path_of_url(store_url).parent / SOCKET_NAME
    return None


def _refused(error: Unreachable) -> Exception:
    from storage.move_sides import MoveRefused

    code = f" [{error.code}]" if error.code else ""
    refused = MoveRefused(f"{error}{code}")
    if error.next_step:
        refused.next_step = error.next_step
    return refused
