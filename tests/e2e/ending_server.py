"""A stdio server for test_e2e_wrap_ends.py: what it does is the name of the called tool."""

from __future__ import annotations

import json
import os
import sys
import time
from typing import Any


def say(message: Any) -> None:
    line = message if isinstance(message, bytes) else json.dumps(message).encode()
    sys.stdout.buffer.write(line + b"\n")
    sys.stdout.buffer.flush()


def answer(reply_id: Any, text: str = "done") -> dict[str, Any]:
    return {
        "jsonrpc": "2.0",
        "id": reply_id,
        "result": {"content": [{"type": "text", "text": text}]},
    }


def main() -> None:
    with open(os.environ["SEEN"], "ab", buffering=0) as seen:
        while line := sys.stdin.buffer.readline():
            seen.write(line)
            message = json.loads(line)
            if message.get("method") == "notifications/cancelled":
                time.sleep(0.3)
                said = {"level": "info", "data": "stopped at 4111 1111 1111 1111"}
                say({"jsonrpc": "2.0", "method": "notifications/message", "params": said})
            if message.get("method") != "tools/call":
                continue
            name, reply_id = message["params"]["name"], message["id"]
            if name == "keep":
                continue
            if name == "later":
                time.sleep(1)
                say(answer(reply_id))
            elif name == "odd":
                say(b'{"jsonrpc":"2.0","id":"\\ud83d","method":"sampling/createMessage"}')
                say(answer(reply_id))
            else:
                say(answer(reply_id))


if __name__ == "__main__":
    main()
