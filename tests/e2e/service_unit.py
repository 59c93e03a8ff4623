"""The restrictions of the systemd unit, as far as they can be made without systemd.

systemd is not what starts processes where tests run, so this is an approximation, by bubblewrap,
the kernel's own switches and a real seccomp filter. What it makes of the unit:
ProtectSystem=strict, ProtectHome, PrivateTmp, PrivateDevices, PrivateUsers, StateDirectory,
ConfigurationDirectory, NoNewPrivileges, an empty CapabilityBoundingSet, MemoryDenyWriteExecute,
SystemCallFilter with its error, RestrictAddressFamilies, UMask. Not made: ProcSubset, DevicePolicy
and other cgroup settings, RestrictNamespaces, RestrictRealtime, RestrictSUIDSGID, LockPersonality,
the limits of resources.
"""

from __future__ import annotations

import ctypes
import errno
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

ALLOW, ERRNO = 0x7FFF0000, 0x00050000
#: Of `enum scmp_compare`.
EQUAL = 4
FAMILIES = {"AF_UNIX": 1, "AF_INET": 2, "AF_INET6": 10, "AF_NETLINK": 16}
#: What the unit has of its own; made anew inside.
OWN = ("opt", "var", "etc", "tmp", "home", "root", "proc", "dev", "run", "mnt", "media", "srv")

#: Sets PR_SET_MDWE (65), says what PR_GET_MDWE (66) answers, and goes on as the command.
UNDER_MDWE = """
import ctypes, os, sys
os.umask(0o077)
prctl = ctypes.CDLL(None).prctl
if sys.argv[1] == "yes" and prctl(65, 1, 0, 0, 0) != 0:
    sys.exit("this kernel has no PR_SET_MDWE")
os.execv(sys.argv[2], sys.argv[2:])
"""


@dataclass(frozen=True)
class Unit:
    """The settings of a unit's [Service], as they stand; of one that stands twice, both."""

    text: str

    def all(self, key: str) -> list[str]:
        return [
            line.partition("=")[2].strip()
            for line in self.text.splitlines()
            if line.startswith(f"{key}=")
        ]

    def one(self, key: str) -> str:
        found = self.all(key)
        return found[-1] if found else ""

    def is_on(self, key: str) -> bool:
        return self.one(key) in ("true", "yes", "strict")

    @property
    def environment(self) -> dict[str, str]:
        return dict(line.split("=", 1) for line in self.all("Environment"))


def calls_of(name: str) -> Iterator[str]:
    """The system calls of a set, those of the sets within it too."""
    done = subprocess.run(
        ["systemd-analyze", "syscall-filter", "--no-pager", name],
        capture_output=True, text=True, check=True, timeout=30,
    )  # fmt: skip
    for line in done.stdout.splitlines()[1:]:
        word = line.strip()
        if word.startswith("@"):
            yield from calls_of(word)
        elif word and not word.startswith("#"):
            yield word


def allowed_calls(unit: Unit) -> set[str]:
    """What SystemCallFilter leaves, as systemd reads it: a list, and then what is taken away.
    Whatever the filter, a program can be started."""
    allowed: set[str] = {"execve"}
    for line in unit.all("SystemCallFilter"):
        named = {call for name in line.removeprefix("~").split() for call in calls_of(name)}
        allowed = allowed - named if line.startswith("~") else allowed | named
    return allowed | {"execve"}


class _Compared(ctypes.Structure):
    """`struct scmp_arg_cmp`."""

    _fields_ = (
        ("arg", ctypes.c_uint),
        ("op", ctypes.c_int),
        ("a", ctypes.c_uint64),
        ("b", ctypes.c_uint64),
    )


def write_filter(unit: Unit, path: Path) -> None:
    """The unit's SystemCallFilter and RestrictAddressFamilies as a program for seccomp."""
    lib = ctypes.CDLL("libseccomp.so.2")
    lib.seccomp_init.restype = ctypes.c_void_p
    refused = ERRNO | getattr(errno, unit.one("SystemCallErrorNumber"))
    context = ctypes.c_void_p(lib.seccomp_init(ctypes.c_uint32(refused)))
    for name in sorted(allowed_calls(unit) - {"socket"}):
        number = lib.seccomp_syscall_resolve_name(name.encode())
        if number >= 0:
            assert lib.seccomp_rule_add(context, ctypes.c_uint32(ALLOW), number, 0) == 0, name
    socket = lib.seccomp_syscall_resolve_name(b"socket")
    for family in unit.one("RestrictAddressFamilies").split():
        compared = (_Compared * 1)(_Compared(0, EQUAL, FAMILIES[family], 0))
        rule = lib.seccomp_rule_add_array(context, ctypes.c_uint32(ALLOW), socket, 1, compared)
        assert rule == 0, family
    with path.open("wb") as handle:
        assert lib.seccomp_export_bpf(context, handle.fileno()) == 0
    lib.seccomp_release(context)


@dataclass
class Service:
    """A folder in which the unit's places are, and the command line that starts in them."""

    unit: Unit
    folder: Path
    packages: Path
    environment: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("aegis", "state", "etc"):
            (self.folder / name).mkdir()
        if self.unit.one("SystemCallFilter"):
            write_filter(self.unit, self.folder / "seccomp")

    def places(self) -> list[str]:
        """The file system that the unit sees."""
        found = ["--tmpfs", "/"]
        for one in sorted(Path("/").iterdir()):
            if one.is_symlink():
                found += ["--symlink", os.readlink(one), str(one)]
            elif one.name not in OWN:
                found += ["--ro-bind", str(one), str(one)]
        for one in sorted(Path("/etc").iterdir()):
            found += ["--ro-bind-try", str(one), str(one)]
        found += ["--dir", "/run", "--dir", "/home", "--dir", "/root", "--dir", "/var/lib"]
        # The interpreter may stand in somebody's home here: it alone is shown there.
        found += ["--ro-bind", sys.base_prefix, sys.base_prefix]
        configuration = f"/etc/{self.unit.one('ConfigurationDirectory')}"
        found += ["--ro-bind", str(self.folder / "etc"), configuration]
        found += ["--ro-bind", str(self.folder / "aegis"), "/opt/aegis"]
        found += ["--ro-bind", str(self.packages), "/opt/packages"]
        state = f"/var/lib/{self.unit.one('StateDirectory')}"
        found += ["--bind", str(self.folder / "state"), state]
        if self.unit.is_on("PrivateTmp"):
            found += ["--tmpfs", "/tmp", "--tmpfs", "/var/tmp"]
        found += ["--dev", "/dev"] if self.unit.is_on("PrivateDevices") else []
        found += ["--proc", "/proc", "--chdir", self.unit.one("WorkingDirectory")]
        return [*found, "--remount-ro", "/"] if self.unit.is_on("ProtectSystem") else found

    def command(self, program: IO[bytes], arguments: Sequence[str]) -> list[str]:
        """What starts `arguments` under the restrictions, `program` that of seccomp."""
        assert self.unit.is_on("NoNewPrivileges"), "bubblewrap always sets it"
        rights = ["--unshare-user", "--uid", "10001", "--gid", "10001", "--unshare-pid"]
        rights += ["--unshare-ipc", "--unshare-uts", "--die-with-parent", "--new-session"]
        if self.unit.all("CapabilityBoundingSet") == [""]:
            rights += ["--cap-drop", "ALL"]
        if self.unit.one("SystemCallFilter"):
            rights += ["--seccomp", str(program.fileno())]
        variables = ["--clearenv"]
        for name, value in {**self.unit.environment, **self.environment}.items():
            variables += ["--setenv", name, value]
        mdwe = "yes" if self.unit.is_on("MemoryDenyWriteExecute") else "no"
        python = os.path.realpath(sys.executable)
        return [
            "bwrap", *self.places(), *rights, *variables, "--",
            python, "-I", "-S", "-c", UNDER_MDWE, mdwe, *arguments,
        ]  # fmt: skip

    def start(self, *arguments: str, log: Path) -> subprocess.Popen[bytes]:
        """Under the restrictions; what it says goes to `log`."""
        with (self.folder / "seccomp").open("rb") as program, log.open("wb") as output:
            return subprocess.Popen(
                self.command(program, arguments), pass_fds=[program.fileno()],
                stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
            )  # fmt: skip

    def run(self, *arguments: str) -> tuple[int, str]:
        """To its end: exit code, and what it said."""
        with (self.folder / "seccomp").open("rb") as program:
            done = subprocess.run(
                self.command(program, arguments), pass_fds=[program.fileno()],
                stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60,
            )  # fmt: skip
        return done.returncode, done.stdout + done.stderr
