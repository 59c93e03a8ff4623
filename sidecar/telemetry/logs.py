"""JSON logs on the standard library: one line per event, in a thread of their own.

Knows: which fields may leave the process, how a line is made safe (every control character and
everything outside ASCII is escaped), how often one event may speak, and which texts are secrets.
Must not know: what is logged, or where. Rooms log with `logging.getLogger("aegis.ROOM")`, a
constant sentence and `extra={...}`; names outside `FIELDS` never appear.
"""

from __future__ import annotations

import contextlib
import json
import logging
import logging.handlers
import queue
import sys
import threading
import traceback
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, TextIO

from sidecar.telemetry.lines import line_writer

#: Every field a line may carry beside time, level, room and event.
FIELDS: Final = frozenset(
    {
        "address", "answer", "boot_id", "call_id", "cause", "code", "containment_id", "control",
        "count", "data", "node", "source_ip",
        "deadline_s", "default", "detail", "duration_s", "engine", "file", "forwarded",
        "free_bytes", "in_flight", "listener", "needed_bytes", "next_step", "node_id", "path",
        "pid", "problem", "problems", "reason", "recovered", "revision", "rules", "status", "store",
        "tenant", "tool", "upstream", "upstreams", "url", "version", "warning",
    }
)  # fmt: skip

OURS: Final = "aegis"
TEXT_MAX: Final = 1000
FRAMES_MAX: Final = 20
SECRET_LENGTH_MIN: Final = 6
QUEUE_MAX: Final = 10_000
EVENTS_MAX: Final = 1000
BURST: Final = 20
REFILL_S: Final = 1.0
#: How long the last lines may take when the logs end; a reader that takes none is not waited for.
STOP_S: Final = 2.0


class SecretMask:
    """Replaces known secrets by `***` wherever they stand in a text; of `Bearer TOKEN` also the
    token alone."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        known = {part for secret in secrets for part in (secret, secret.rpartition(" ")[2])}
        longest_first = sorted(known, key=len, reverse=True)
        self._secrets = [secret for secret in longest_first if len(secret) >= SECRET_LENGTH_MIN]

    def __call__(self, text: str) -> str:
        """The text without the secrets."""
        for secret in self._secrets:
            if secret in text:
                text = text.replace(secret, "***")
        return text


class JsonFormatter(logging.Formatter):
    """One record, one line of ASCII JSON. A library's record is cut to its constant sentence, and
    an exception to its type and places: their values may hold what a caller sent."""

    def __init__(self, mask: SecretMask) -> None:
        super().__init__()
        self._mask = mask

    def format(self, record: logging.LogRecord) -> str:
        """The line, without a line end."""
        is_ours = record.name.partition(".")[0] == OURS
        at = datetime.fromtimestamp(record.created, UTC)
        line: dict[str, Any] = {
            "time": at.isoformat(timespec="microseconds").replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "room": self._text(record.name),
            "event": self._text(record.getMessage() if is_ours else _constant(record)),
        }
        if is_ours:
            fields = record.__dict__
            line.update((name, self._value(fields[name])) for name in FIELDS & fields.keys())
        suppressed = getattr(record, "suppressed_before", 0)
        if suppressed:
            line["suppressed_before"] = suppressed
        if record.exc_info and record.exc_info[1] is not None:
            line.update(self._exception(record.exc_info[1]))
        return json.dumps(line, ensure_ascii=True).replace("\x7f", "\\u007f")

    def _exception(self, error: BaseException) -> dict[str, Any]:
        frames = traceback.extract_tb(error.__traceback__)[-FRAMES_MAX:]
        facts: dict[str, Any] = {
            "exception": type(error).__qualname__,
            "trace": [f"{Path(at.filename).name}:{at.lineno} {at.name}" for at in frames],
        }
        if isinstance(error, OSError) and error.strerror:
            facts["exception_text"] = self._text(error.strerror)
        code = getattr(error, "code", None)
        if isinstance(code, str):
            facts["exception_code"] = self._text(code)
        return facts

    def _value(self, value: object) -> Any:
        if value is None or isinstance(value, bool | int | float):
            return value
        if isinstance(value, list | tuple | set | frozenset):
            return [self._text(str(item)) for item in list(value)[:FRAMES_MAX]]
        return self._text(str(value))

    def _text(self, text: str) -> str:
        masked = self._mask(text)
        return masked if len(masked) <= TEXT_MAX else f"{masked[:TEXT_MAX]}…"


def _constant(record: logging.LogRecord) -> str:
    """A library's sentence as it stands in its code. What asyncio says of a task that failed is
    made up: values stand in the lines behind the first."""
    return str(record.msg).partition("\n")[0]


class EventLimit(logging.Filter):
    """Lets each event speak `BURST` times at once and then once per `REFILL_S`; the next line
    that passes says how many did not."""

    def __init__(self, monotonic_ns: Callable[[], int]) -> None:
        super().__init__()
        self._monotonic_ns = monotonic_ns
        self._buckets: dict[tuple[str, str], tuple[float, int, int]] = {}
        self.suppressed_total = 0

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the record may be written; marks it with what was suppressed before it."""
        key = (record.name, str(record.msg))
        if key not in self._buckets and len(self._buckets) >= EVENTS_MAX:
            key = ("", "")
        now_ns = self._monotonic_ns()
        tokens, seen_ns, suppressed = self._buckets.get(key, (float(BURST), now_ns, 0))
        tokens = min(float(BURST), tokens + (now_ns - seen_ns) / 1e9 / REFILL_S)
        if tokens < 1.0:
            self._buckets[key] = (tokens, now_ns, suppressed + 1)
            self.suppressed_total += 1
            return False
        self._buckets[key] = (tokens - 1.0, now_ns, 0)
        record.suppressed_before = suppressed
        return True


class _BoundedQueueHandler(logging.handlers.QueueHandler):
    """Formats where the event happened, hands the line over, and never blocks or raises."""

    dropped_total = 0

    def prepare(self, record: logging.LogRecord) -> logging.LogRecord:
        record.msg = self.format(record)
        record.args = record.exc_info = record.exc_text = record.stack_info = None
        return record

    def enqueue(self, record: logging.LogRecord) -> None:
        try:
            self.queue.put_nowait(record)
        except queue.Full:
            self.dropped_total += 1


class _Writer:
    """Writes finished lines, on a thread of its own; what cannot be written is counted, not
    complained about."""

    def __init__(self, waiting: queue.Queue[Any], stream: TextIO) -> None:
        self.failed_total = 0
        self._is_writing = False
        self._waiting, self._put = waiting, line_writer(stream)
        self._thread = threading.Thread(target=self._run, name="log", daemon=True)

    @property
    def waiting(self) -> int:
        """Lines that are not written yet, the one that is being written among them."""
        return self._waiting.qsize() + self._is_writing

    def start(self) -> None:
        """Begins to write."""
        self._thread.start()

    def stop(self) -> None:
        """Writes what waits, for `STOP_S` at most: whoever should read may do so no more."""
        with contextlib.suppress(queue.Full):
            self._waiting.put(None, timeout=STOP_S / 2)
        self._thread.join(STOP_S / 2)

    def _run(self) -> None:
        while (record := self._waiting.get()) is not None:
            self._is_writing = True
            try:
                self._put(record.msg)
            except (OSError, ValueError):
                self.failed_total += 1
            self._is_writing = False


class Logs:
    """The process's logs while they run. Replaces the root logger's handlers until `stop`."""

    def __init__(
        self,
        *,
        monotonic_ns: Callable[[], int],
        secrets: Iterable[str] = (),
        level: int = logging.INFO,
        stream: TextIO | None = None,
    ) -> None:
        self._limit = EventLimit(monotonic_ns)
        waiting: queue.Queue[Any] = queue.Queue(QUEUE_MAX)
        self._writer = _Writer(waiting, sys.stderr if stream is None else stream)
        self._handler = _BoundedQueueHandler(waiting)
        self._handler.setFormatter(JsonFormatter(SecretMask(secrets)))
        self._handler.addFilter(self._limit)
        self._root = logging.getLogger()
        self._before = (self._root.handlers[:], self._root.level)
        self._root.handlers[:] = [self._handler]
        self._root.setLevel(level)
        self._writer.start()
        self._is_running = True

    @property
    def suppressed_total(self) -> int:
        """Lines kept back because their event spoke too often."""
        return self._limit.suppressed_total

    @property
    def dropped_total(self) -> int:
        """Lines lost: the writing thread was too slow, or the stream could not be written."""
        return self._handler.dropped_total + self._writer.failed_total

    @property
    def waiting(self) -> int:
        """Lines that nobody has taken yet."""
        return self._writer.waiting

    def stop(self) -> None:
        """Writes what waits, as long as it is taken, and puts the root logger back; idempotent."""
        if not self._is_running:
            return
        self._is_running = False
        handlers, level = self._before
        self._root.handlers[:] = handlers
        self._root.setLevel(level)
        self._writer.stop()
