"""A stdio server that does what the name of the called tool says, and writes down what it gets.

SEEN names the file that gets every line it was given. STUBBORN makes it outlive its input and
SIGTERM.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from typing import Any

CARD = "4111 1111 1111 1111"


def say(message: Any) -> None:
    line = message if isinstance(message, bytes) else json.dumps(message).encode()
    sys.stdout.buffer.write(line + b"\n")
    sys.stdout.buffer.flush()


def answer(reply_id: Any, text: str = "done") -> dict[str, Any]:
    result = {"content": [{"type": "text", "text": text}]}
    return {"jsonrpc": "2.0", "id": reply_id, "result": result}


def news(text: str) -> dict[str, Any]:
    params = {"level": "info", "data": text}
    return {"jsonrpc": "2.0", "method": "notifications/message", "params": params}


class Script:
    """One method for each tool."""

    def __init__(self) -> None:
        self.kept: list[Any] = []
        self.about = os.environ.get("ABOUT", "says it again")
        self.lists = ""
        self.owed: Any = None

    def echo(self, reply_id: Any, arguments: dict[str, Any]) -> None:
        say(answer(reply_id, json.dumps(arguments)))

    def keep(self, reply_id: Any, _: dict[str, Any]) -> None:
        self.kept.append(reply_id)

    def release(self, reply_id: Any, _: dict[str, Any]) -> None:
        for kept in self.kept:
            say(answer(kept, "late"))
        say(answer(reply_id))

    def release_in_text(self, reply_id: Any, _: dict[str, Any]) -> None:
        for kept in self.kept:
            say(answer(str(kept), "late"))
        say(answer(reply_id))

    def twice(self, reply_id: Any, _: dict[str, Any]) -> None:
        say(answer(reply_id, "first"))
        say(answer(reply_id, "second"))
        say(answer(987654, "to nobody"))

    def litter(self, reply_id: Any, _: dict[str, Any]) -> None:
        say(b"Starting up...")
        say(b"")
        say(json.dumps([answer(reply_id, "in a batch")]).encode())
        say({**answer(reply_id, "two things"), "method": "ping"})
        say(b'{"jsonrpc":"2.0","method":"notifications/message",\r"params":{}}')
        print("on standard error", file=sys.stderr, flush=True)
        say(answer(reply_id))

    def big_number(self, reply_id: Any, _: dict[str, Any]) -> None:
        say(
            b'{"jsonrpc":"2.0","id":%d,"result":{"n":12345678901234567890,"s":"\\ud83d"}}'
            % reply_id
        )

    def in_text(self, reply_id: Any, _: dict[str, Any]) -> None:
        say(answer(str(reply_id), f"the card is {CARD}"))

    def null_error(self, reply_id: Any, _: dict[str, Any]) -> None:
        say({**answer(reply_id), "error": None})

    def null_result(self, reply_id: Any, _: dict[str, Any]) -> None:
        said = {"result": None, "error": {"code": -32000, "message": "no"}}
        say({"jsonrpc": "2.0", "id": reply_id, **said})

    def order(self, reply_id: Any, _: dict[str, Any]) -> None:
        for number in range(5):
            say(news(f"before {number}"))
        say({"jsonrpc": "2.0", "id": "s-1", "method": "roots/list"})
        say(answer(reply_id))
        for number in range(5):
            say(news(f"after {number}"))

    def secret(self, reply_id: Any, _: dict[str, Any]) -> None:
        say(news(f"found {CARD}"))
        say({"jsonrpc": "2.0", "id": "s-2", "method": "roots/list"})
        say({"jsonrpc": "2.0", "id": "s-3", "method": "roots/list", "params": {"a": float("nan")}})
        say(answer(reply_id, f"the card is {CARD}"))
        say(news(f"done with {CARD}"))

    def asks(self, reply_id: Any, _: dict[str, Any]) -> None:
        def ask(asked: str, method: str, **params: Any) -> dict[str, Any]:
            return {"jsonrpc": "2.0", "id": asked, "method": method, "params": params}

        say(ask("s-1", "roots/list"))
        say(ask("s-2", "sampling/createMessage", messages=["buy gold"]))
        say(b'{"jsonrpc":"2.0","id":"s-3","method":"ping","method":"sampling/createMessage"}')
        say({"jsonrpc": "2.0", "method": "elicitation/create", "params": {}})  # with no id
        say(ask("s-5", "sampling/createMessage"))
        say(news("asked for much"))
        say(answer(reply_id))

    def requires(self, reply_id: Any, arguments: dict[str, Any]) -> None:
        wanted = {"a": {"method": arguments["method"]}}
        said = {"resultType": "input_required", "inputRequests": wanted}
        say({"jsonrpc": "2.0", "id": reply_id, "result": said})

    def environment(self, reply_id: Any, _: dict[str, Any]) -> None:
        say(answer(reply_id, " ".join(sorted(os.environ))))

    def leave(self, _: Any, arguments: dict[str, Any]) -> None:
        sys.exit(arguments["status"])

    def long(self, reply_id: Any, _: dict[str, Any]) -> None:
        say(b'"' + b"a" * (64 * 1024 * 1024) + b'"')
        say(answer(reply_id, "behind it"))

    def grow(self, reply_id: Any, arguments: dict[str, Any]) -> None:
        """Announces other tools; `lists` says how it answers who asks for them then."""
        self.about = arguments.get("about", self.about)
        self.lists = arguments.get("lists", "")
        say({"jsonrpc": "2.0", "method": "notifications/tools/list_changed"})
        say(answer(reply_id))

    def list(self, reply_id: Any) -> None:
        if self.lists == "silent":
            return
        if self.lists == "asks first":
            self.lists, self.owed = "", reply_id
            say({"jsonrpc": "2.0", "id": "first", "method": "roots/list"})
            return
        tools = [{"name": "echo", "description": self.about, "inputSchema": {"type": "object"}}]
        say({"jsonrpc": "2.0", "id": reply_id, "result": {"tools": tools}})

    def pid(self, reply_id: Any, _: dict[str, Any]) -> None:
        say(answer(reply_id, str(os.getpid())))


def main() -> None:
    script = Script()
    # At once, and not by Python's own way with a traceback, which takes its time on a busy machine.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    stubborn = "STUBBORN" in os.environ
    if stubborn:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    with open(os.environ["SEEN"], "ab", buffering=0) as seen:
        while line := sys.stdin.buffer.readline():
            seen.write(line)
            message = json.loads(line)
            if message.get("method") == "tools/call":
                params = message["params"]
                do = getattr(script, params["name"])
                do(message["id"], params.get("arguments", {}))
            elif message.get("method") == "server/discover":
                continue  # as a server of an earlier revision may
            elif message.get("method") == "tools/list":
                script.list(message["id"])
            elif message.get("id") == "first" and "result" in message:
                script.list(script.owed)
            elif "method" in message and "id" in message:
                say({"jsonrpc": "2.0", "id": message["id"], "result": {}})
        while stubborn:
            time.sleep(60)


if __name__ == "__main__":
    main()
