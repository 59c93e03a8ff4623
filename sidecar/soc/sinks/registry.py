"""All kinds of sink, and how each is made.

A kind is added by a file of its own, a line here, its word and keys in config/sinks.py and its
cases in tests/cases/sinks.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TextIO

from sidecar.config.sinks import SinkPlace, sink_place
from sidecar.soc.sinks.connecting import Way
from sidecar.soc.sinks.http_post import Poster
from sidecar.soc.sinks.seam import Sink
from sidecar.soc.sinks.slack import SlackSink
from sidecar.soc.sinks.stdout import StdoutSink
from sidecar.soc.sinks.syslog import SyslogSink
from sidecar.soc.sinks.webhook import WebhookSink
from sidecar.telemetry.lines import Lines

if TYPE_CHECKING:
    from aiohttp.abc import AbstractResolver

    from sidecar.config.model import Sink as Settings


@dataclass(frozen=True, slots=True)
class Means:
    """What sinks are made with: `now_us` is the wall clock, `node` the name of this process,
    `stdout` None where standard output is somebody else's."""

    names: AbstractResolver
    now_us: Callable[[], int]
    node: str
    stdout: TextIO | None


def _webhook(settings: Settings, means: Means) -> Sink:
    if settings.secret is None:
        raise ValueError(f"sinks.{settings.name} has no secret")  # nobody checked it
    return WebhookSink(_poster(settings, means), settings.secret, means.now_us)


def _slack(settings: Settings, means: Means) -> Sink:
    return SlackSink(_poster(settings, means))


def _syslog(settings: Settings, means: Means) -> Sink:
    place = _place(settings)
    return SyslogSink(place, _way(settings, place, means), means.node)


def _stdout(settings: Settings, means: Means) -> Sink:
    if means.stdout is None:
        raise ValueError(f"sinks.{settings.name} has no standard output")  # nobody checked it
    return StdoutSink(Lines(means.stdout))


SINKS: Final[Mapping[str, Callable[[Settings, Means], Sink]]] = {
    "webhook": _webhook,
    "slack": _slack,
    "syslog": _syslog,
    "stdout": _stdout,
}


def made_sink(settings: Settings, means: Means) -> Sink:
    """The sink that a setting names."""
    return SINKS[settings.kind](settings, means)


def _poster(settings: Settings, means: Means) -> Poster:
    place = _place(settings)
    return Poster(place, _way(settings, place, means))


def _place(settings: Settings) -> SinkPlace:
    if settings.url is None:
        raise ValueError(f"sinks.{settings.name} has no url")  # nobody checked it
    return sink_place(settings.kind, settings.url.reveal())


def _way(settings: Settings, place: SinkPlace, means: Means) -> Way:
    return Way(place.host, settings.tls, means.names, is_private=settings.private)
