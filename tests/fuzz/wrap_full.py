"""Spoilt lines through `wrap`: what any reader of the server's input sees is what was decided.

    python tests/fuzz/wrap_full.py [--size LINES] [--seed N] [--planted FAULT] [--results FILE]

The server keeps the bytes it got. Afterwards they are read the way six readers would (lines by LF,
by Python's text streams, by str.splitlines; of two equal names the first or the last), and each of
them must see exactly the messages of the recorded intents, in their order, and never the tool that
the rules refuse. The last kind of reader also ends lines inside of texts, where no message can
begin: it may miss messages, and see no others. Every block of lines ends with a sound call, which
must be answered; every line that comes back must be one JSON-RPC answer.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from queue import Empty, Queue
from typing import Any

sys.path[:0] = [str(Path(__file__).resolve().parents[1]), str(Path(__file__).resolve().parent)]

import warm
from full_report import ROOT, checked_out, tell
from wrap_mutants import Mutation

BLOCK = 40
PATIENCE_S = 30.0
LINES = 20_000
CATALOGUE = "catalogue: files\ntools:\n  echo: {}\n"
POLICY = "policy: p\nrules:\n  - {id: echo, effect: allow, tools: files/echo}\n"
#: What no refusal may tell: words of parsers.
INNER = ("orjson", "unexpected", "line 1 column", "Expecting", "traceback", "char 0")


class Fuzzed:
    """One wrapped sink, and what was wrong with it."""

    def __init__(self, folder: Path, planted: str) -> None:
        self.folder = folder
        self.kept = folder / "kept"
        self.found: Counter[str] = Counter()
        self.examples: dict[str, str] = {}
        self.answers: Counter[str] = Counter()
        home = folder / "data"
        (home / "policies").mkdir(parents=True)
        (home / "policies/tools.yaml").write_text(CATALOGUE)
        (home / "policies/p.yaml").write_text(POLICY)
        here = Path(__file__).parent
        program = ["-m", "sidecar.cli.main"]
        if planted:
            program = [str(here / "wrap_planted.py"), planted]
        sink = [sys.executable, str(here / "wrap_sink.py"), str(self.kept)]
        self.errors = (folder / "errors").open("wb")
        self.process = warm.popen(
            [sys.executable, *program, "wrap", "--name", "files", "--data-dir", str(home), "--set",
             "limits.request=4KiB", "--", *sink],
            cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.errors,
            env={**os.environ, "PYTHONWARNINGS": "ignore"},
        )  # fmt: skip
        self.heard: Queue[bytes] = Queue()
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        assert self.process.stdout is not None
        while line := self.process.stdout.readline():
            self.heard.put(line)
        self.heard.put(b"")

    def wrong(self, what: str, example: object) -> None:
        self.found[what] += 1
        self.examples.setdefault(what, repr(example)[:400])

    def block(self, lines: list[bytes], control: str) -> bool:
        """Says the lines and a sound call, and hears until that is answered; whether it is."""
        call = {"jsonrpc": "2.0", "id": control, "method": "tools/call", "params": {"name": "echo"}}
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(b"".join(lines) + json.dumps(call).encode() + b"\n")
            self.process.stdin.flush()
        except OSError:
            self.wrong("it ended", lines[-1:])
            return False
        until = time.monotonic() + PATIENCE_S
        while True:
            try:
                line = self.heard.get(timeout=max(0.0, until - time.monotonic()))
            except Empty:
                self.wrong("a sound call is not answered", lines)
                return False
            if not line:
                self.wrong("it ended", lines)
                return False
            if self._judge(line) == control:
                return True

    def _judge(self, line: bytes) -> Any:
        try:
            said = json.loads(line)
            assert said["jsonrpc"] == "2.0" and ("result" in said) is not ("error" in said)
        except (ValueError, AssertionError, KeyError, TypeError):
            self.wrong("what is said is no answer", line)
            return None
        code = said.get("error", {}).get("data", {}).get("code", "forwarded")
        self.answers[code] += 1
        if code == "internal_error":
            self.wrong("it failed inside", line)
        if any(word in line.decode().lower() for word in map(str.lower, INNER)):
            self.wrong("a parser's words are told", line)
        return said["id"]

    def end(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        try:
            if self.process.wait(PATIENCE_S) != 0:
                self.wrong("its status is not 0", self.process.returncode)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            self.wrong("it does not end", "")
        self.errors.close()
        if b"Traceback" in (text := (self.folder / "errors").read_bytes()):
            self.wrong("it failed inside", text[-2000:])

    def receipts(self) -> list[dict[str, Any]]:
        """The verified receipts."""
        cli = [sys.executable, "-m", "sidecar.cli.main", "receipts"]
        path = self.folder / "receipts.jsonl"
        store = f"sqlite:///{self.folder / 'data' / 'aegis.db'}"
        export = [*cli, "export", "--store", store, "--output", str(path)]
        exported = warm.run(export, cwd=ROOT)
        assert exported.returncode == 0, exported.stderr
        verified = warm.run([*cli, "verify", str(path)], cwd=ROOT)
        if verified.returncode != 0:
            self.wrong("the receipts do not verify", verified.stdout)
        return [json.loads(line) for line in path.read_text().splitlines()]


def by_text_stream(data: bytes) -> list[str]:
    text = data.decode("utf-8", "replace")
    return text.replace("\r\n", "\n").replace("\r", "\n").split("\n")


VIEWS: dict[str, Callable[[bytes], list[str]]] = {
    "LF": lambda data: data.decode("utf-8", "replace").split("\n"),
    "text stream": by_text_stream,
    "splitlines": lambda data: data.decode("utf-8", "replace").splitlines(),
}


def first_wins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    return dict(reversed(pairs))


def seen_by(lines: list[str], hook: Callable[..., dict[str, Any]] | None) -> list[tuple[str, str]]:
    """(method, tool) of every message that a reader finds."""
    found = []
    for line in lines:
        try:
            document = json.loads(line, object_pairs_hook=hook)
        except (ValueError, RecursionError):
            continue
        for one in document if isinstance(document, list) else [document]:
            if isinstance(one, dict) and ("method" in one or "result" in one or "error" in one):
                params = one.get("params")
                name = params.get("name") if isinstance(params, dict) else None
                method = str(one.get("method", "response"))
                found.append((method, str(name) if method == "tools/call" else ""))
    return found


def is_within(part: list[tuple[str, str]], whole: list[tuple[str, str]]) -> bool:
    """Whether the one is the other with some left out."""
    rest = iter(whole)
    return all(one in rest for one in part)


def compare(fuzzed: Fuzzed) -> tuple[int, int]:
    """Holds what each reader sees against the intents; gives their number, and the refusals'."""
    receipts = fuzzed.receipts()
    intents = [
        (str(one["action"]), str(one["tool"]).partition("/")[2] if one["action"] == "tools/call"
         else "") for one in receipts if one["kind"] == "intent"
    ]  # fmt: skip
    data = fuzzed.kept.read_bytes()
    for view, lines_of in VIEWS.items():
        for wins, hook in (("last", None), ("first", first_wins)):
            seen = seen_by(lines_of(data), hook)
            if view == "splitlines" and is_within(seen, intents):
                continue
            if seen != intents:
                at = next(
                    (at for at, pair in enumerate(zip(seen, intents, strict=False))
                     if pair[0] != pair[1]), min(len(seen), len(intents)),
                )  # fmt: skip
                example = f"{view}, {wins}: at {at}: {seen[at : at + 2]} {intents[at : at + 2]}"
                fuzzed.wrong("a reader sees what was not decided", example)
            if any(name not in ("", "echo") for _, name in seen):
                fuzzed.wrong("a refused tool was reached", view)
    return len(intents), sum(one["kind"] == "refusal" for one in receipts)


def fuzz(size: int, seed: int, planted: str, folder: Path) -> dict[str, Any]:
    fuzzed, mutation = Fuzzed(folder, planted), Mutation(random.Random(seed))
    began, said = time.monotonic(), 0
    while said < size:
        lines = [mutation.line(said + number) for number in range(min(BLOCK, size - said))]
        said += len(lines)
        if not fuzzed.block(lines, f"control-{said}"):
            break
    fuzzed.end()
    intents, refusals = compare(fuzzed)
    return {
        "harness": "wrap",
        "commit": checked_out(),
        "seed": seed,
        "lines": said,
        "intents": intents,
        "refusals": refusals,
        "answers": dict(fuzzed.answers.most_common()),
        "duration_s": round(time.monotonic() - began, 1),
        "violations": sum(fuzzed.found.values()),
        "found": dict(fuzzed.found),
        "examples": fuzzed.examples,
    }


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--size", type=int, default=LINES)
    parser.add_argument("--seed", type=int, default=20261128)
    parser.add_argument("--planted", default="")
    parser.add_argument("--results", type=Path)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        return tell(fuzz(args.size, args.seed, args.planted, Path(folder)), args.results)


if __name__ == "__main__":
    sys.exit(main())
