"""The head that a connection read last: agents say the same again, but for a value or two.

Knows: that fields which stand there byte for byte, in their order, were found well formed already;
and which of them may say something else without anything else of the head being read differently.
Must not know: what makes a head well formed, what its values mean.
"""

from __future__ import annotations

from collections.abc import Sequence

from sidecar.proxy.head import SINGLE, Fields, HeadRules, RequestHead, read_head

RawHeaders = Sequence[tuple[bytes, bytes]]

#: What stands there once and is looked at by nobody who reads the fields of a head: a value of
#: these is one by itself. What speaks of framing, of the connection or of the host is not among
#: them.
_ONE_BY_ITSELF = SINGLE - {"content-encoding", "expect", "host", "origin", "transfer-encoding"}


#: Larger heads are not remembered: an idle connection is to hold next to nothing.
REMEMBERED_BYTES_MAX = 4096


class HeadMemory:
    """Reads the heads of one connection, all by the same rules."""

    __slots__ = ("_head", "_raw", "_target")

    def __init__(self) -> None:
        self._head: RequestHead | None = None
        self._raw: RawHeaders = ()
        self._target = ""

    def read(
        self,
        method: str,
        raw_target: str,
        version: tuple[int, int],
        raw_headers: RawHeaders,
        source_ip: str,
        rules: HeadRules,
    ) -> RequestHead:
        """What `read_head` gives, and raises."""
        last, fields = self._head, None
        if last is not None and last.method == method and last.version == version:
            if raw_headers != self._raw:
                fields = self._fields_again(last, raw_headers)
            elif raw_target == self._target:
                return last
            else:
                fields = last.headers, last.first
        head = read_head(method, raw_target, version, raw_headers, source_ip, rules, fields)
        size = len(raw_target) + sum([len(name) + len(value) for name, value in raw_headers])
        if size <= REMEMBERED_BYTES_MAX:
            self._head, self._raw, self._target = head, raw_headers, raw_target
        else:
            self._head, self._raw, self._target = None, (), ""
        return head

    def _fields_again(self, last: RequestHead, raw_headers: RawHeaders) -> Fields | None:
        """The fields where they are those of the last head but for such values; else None."""
        if len(raw_headers) != len(self._raw):
            return None
        headers, first = [*last.headers], {**last.first}
        for at, pair in enumerate(raw_headers):
            before = self._raw[at]
            if pair == before:
                continue
            name, _ = headers[at]
            lower = name.lower()
            if pair[0] != before[0] or lower not in _ONE_BY_ITSELF:
                return None
            try:
                first[lower] = value = pair[1].decode("utf-8")
            except UnicodeDecodeError:
                return None
            headers[at] = (name, value)
        return tuple(headers), first
