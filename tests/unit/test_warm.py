"""tests/warm.py: a forked process is what a process started anew would be."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import warm

CASES = {
    "ends": ("pass", 0),
    "exits": ("raise SystemExit(7)", 7),
    "says why": ("raise SystemExit('no more')", 1),
    "fails": ("raise ValueError('broken')", 1),
    "is killed": ("import os; os.kill(os.getpid(), 9)", -9),
    "finishes its threads": (
        "import threading, time\n"
        "threading.Thread(target=lambda: (time.sleep(0.05), print('late'))).start()",
        0,
    ),
    "runs what was registered": ("import atexit; atexit.register(print, 'registered')", 0),
}
TELLS = """\
import json, os, sys
print(json.dumps({
    "arguments": sys.argv, "folder": os.getcwd(), "told": os.environ.get("TOLD"),
    "path": sys.path[0], "said": sys.stdin.read(), "name": __name__,
    "session": os.getsid(0) == os.getpid(),
}))
print("aside", file=sys.stderr)
"""


def script(folder: Path, text: str) -> list[str]:
    path = folder / "script.py"
    path.write_text(text)
    return [sys.executable, str(path)]


@pytest.mark.parametrize("name", CASES)
def test_it_ends_as_one_started_anew(tmp_path: Path, name: str) -> None:
    text, code = CASES[name]
    command = script(tmp_path, text)
    anew = subprocess.run(command, capture_output=True, text=True)
    forked = warm.run(command)
    assert (forked.returncode, forked.stdout) == (anew.returncode, anew.stdout)
    assert forked.returncode == code
    assert forked.stderr.splitlines()[-1:] == anew.stderr.splitlines()[-1:]


def test_it_has_its_own_arguments_files_folder_and_environment(tmp_path: Path) -> None:
    command = [*script(tmp_path, TELLS), "one", "two"]
    with (tmp_path / "in").open("w+b") as said:
        said.write(b"from the file")
        said.seek(0)
        environment = {**os.environ, "TOLD": "this"}
        forked = warm.run(command, cwd=tmp_path, env=environment, stdin=said)
    assert forked.stderr == "aside\n"
    assert json.loads(forked.stdout) == {
        "arguments": command[1:], "folder": str(tmp_path), "told": "this", "path": str(tmp_path),
        "said": "from the file", "name": "__main__", "session": False,
    }  # fmt: skip
    assert json.loads(warm.run(command).stdout)["told"] is None


def test_it_is_a_process_that_is_signalled_and_spoken_with(tmp_path: Path) -> None:
    pipe = subprocess.PIPE
    command = script(tmp_path, "import sys\nfor line in sys.stdin: print(line, end='', flush=True)")
    process = warm.popen(command, stdin=pipe, stdout=pipe, start_new_session=True)
    assert os.getsid(process.pid) == process.pid != os.getpid()
    process.stdin.write(b"heard\n")
    process.stdin.flush()
    assert process.stdout.readline() == b"heard\n"
    assert process.poll() is None
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.05)
    process.send_signal(signal.SIGTERM)
    assert process.wait(10) == process.poll() == -signal.SIGTERM
    process.stdin.close()
    process.stdout.close()


def test_what_an_interpreter_reads_at_its_start_starts_one(tmp_path: Path) -> None:
    quiet = {**os.environ, "PYTHONWARNINGS": "ignore"}
    command = script(tmp_path, "import sys; print(sys.warnoptions, 'aiohttp' in sys.modules)")
    assert warm.run(command).stdout == "[] True\n"
    assert warm.run(command, env=quiet).stdout == "['ignore'] False\n"
    assert warm.run([sys.executable, "-c", "print(1)"]).stdout == "1\n"
