"""Why calls to an upstream fail, told to operators: the agent hears no more than a stable code.

Knows: what each kind of fault of a connection means and what an operator does about it; that a
cause is told when it is first met, and again after a while with how often it was. What an upstream
sent stays out of the log.
Must not know: calls, the agent's side, how a connection is made.
"""

from __future__ import annotations

import logging
import socket
import ssl
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from sidecar.addresses import PrivateAddress
from sidecar.errors import Refused

if TYPE_CHECKING:
    from sidecar.config.model import Upstream

#: How long a cause that goes on is not told again.
SILENT_S: Final = 60.0
#: Causes of one upstream that are remembered; of more, those that were told first are forgotten.
CAUSES_MAX: Final = 16
TEXT_MAX: Final = 200

_log = logging.getLogger("aegis.upstream")

_EVENTS: Final = {
    "upstream_unreachable": "an upstream cannot be reached",
    "upstream_timeout": "an upstream does not answer in time",
    "upstream_broken": "an upstream gives no whole answer",
}
#: In OpenSSL's reasons where both sides speak TLS and do not agree how.
_NO_COMMON_TLS: Final = (
    "PROTOCOL_VERSION", "UNSUPPORTED_PROTOCOL", "HANDSHAKE_FAILURE", "CIPHER", "TOO_SMALL",
    "RENEGOTIATION",
)  # fmt: skip
#: OpenSSL's X509_V_ERR_…: not yet valid, expired; another host, another address.
_OUT_OF_TIME: Final = frozenset({9, 10})
_OF_ANOTHER: Final = frozenset({62, 64})


class Faults:
    """Of one upstream."""

    def __init__(self, upstream: Upstream, now_s: Callable[[], float]) -> None:
        self._upstream = upstream
        self._now_s = now_s
        #: When each cause is told again, and how often it was met since it was told.
        self._causes: dict[tuple[str, str], tuple[float, int]] = {}

    def met(self, refused: Refused) -> None:
        """A call that failed so; codes that are none of the upstream's are passed over."""
        event = _EVENTS.get(refused.code)
        if event is None:
            return
        cause, next_step = _cause(refused, self._upstream)
        key = (refused.code, cause)
        again_s, count = self._causes.pop(key, (0.0, 0))
        now_s = self._now_s()
        if count and now_s < again_s:
            self._causes[key] = (again_s, count + 1)
            return
        while len(self._causes) >= CAUSES_MAX:
            del self._causes[next(iter(self._causes))]
        self._causes[key] = (now_s + SILENT_S, 1)
        told = {"upstream": _name(self._upstream), "cause": cause, "next_step": next_step}
        _log.warning(event, extra={**told, "count": max(count, 1)})


def _name(upstream: Upstream) -> str:
    """As sidecar.yaml has it; what an upstream's metadata are asked of has a path behind it."""
    return upstream.name.partition("/")[0]


def _cause(refused: Refused, upstream: Upstream) -> tuple[str, str]:
    """What was met, and what to do about it."""
    error, section = refused.__cause__, f"upstreams.{_name(upstream)}"
    if isinstance(error, PrivateAddress):
        step = f"If the tool is meant to be there, say `private: true` under {section}."
        return _text(error.strerror), step
    if isinstance(error, ssl.SSLCertVerificationError):
        return _certificate(error, section)
    if isinstance(error, ssl.SSLError):
        return _tls(error, section)
    if isinstance(error, socket.gaierror):
        step = f"Look at the host in {section}.url, and at the name servers of this machine."
        return f"its name is not found: {_text(error.strerror)}", step
    if isinstance(error, TimeoutError):
        step = "See that it runs and that no firewall drops what is sent to it."
        return f"no connection within {section}.timeouts.connect", step
    if isinstance(error, OSError):
        step = f"See that something listens at {section}.url."
        return _text(error.strerror or str(error)), step
    if refused.code == "upstream_timeout":
        step = f"If it needs longer, raise {section}.timeouts.response or idle."
        return "no answer, or no more of it", step
    # Of what could not be read the text may repeat a part: the kind is told.
    said = refused.detail.partition(":")[0] if error is None else type(error).__name__
    if upstream.url.startswith("https:"):
        step = f"Look at its own log: it may want a certificate ({section}.tls.cert and key)."
    else:
        step = f"See that it speaks HTTP/1.1 at {section}.url; if it speaks TLS, write https://."
    return _text(said or refused.reason), step


def _certificate(error: ssl.SSLCertVerificationError, section: str) -> tuple[str, str]:
    cause = f"its certificate is not accepted: {_text(error.verify_message)}"
    if error.verify_code in _OUT_OF_TIME:
        return cause, "Have it renewed; and see that the clock of this machine is right."
    if error.verify_code in _OF_ANOTHER:
        return cause, f"Write in {section}.url a name that the certificate is for."
    return cause, f"If its authority is yours, name it: {section}.tls: {{ca: {{file: PATH}}}}."


def _tls(error: ssl.SSLError, section: str) -> tuple[str, str]:
    reason = _text(error.reason or str(error))
    if "ALERT" in reason and ("CERTIFICATE" in reason or "UNKNOWN_CA" in reason):
        step = f"It wants a certificate that it knows: {section}.tls.cert and key."
    elif any(word in reason for word in _NO_COMMON_TLS):
        step = (
            "Have it speak TLS 1.2 or later, with ciphers and keys of today; or it wants a "
            f"certificate ({section}.tls.cert and key)."
        )
    else:
        step = f"See that {section}.url has the port that speaks TLS, or http:// if none does."
    return f"TLS: {reason}", step


def _text(text: object) -> str:
    return " ".join(str(text).split())[:TEXT_MAX]
