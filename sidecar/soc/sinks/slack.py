"""A Slack-compatible webhook: readable text, in which nobody but us can link, mention or format.

Knows: that whatever agents and tools said stands as code, escaped, so that no reader takes it for
our words, nobody is called by it, and nothing in it can be clicked.
Must not know: the forms of bodies beyond what `shown` gives.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import orjson

from sidecar.soc.sinks.http_post import Poster
from sidecar.soc.sinks.seam import Outgoing
from sidecar.soc.sinks.shown import facts, headline, thing

#: Slack takes 3000 characters in a section.
TEXT_CHARACTERS_MAX: Final = 2900


def escaped(text: str) -> str:
    """A text as inline code: no mark-up begins or ends in it."""
    code = text.replace("`", "'").replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return f"`{code}`" if code.strip() else "` `"


def message(delivery: Outgoing) -> Mapping[str, Any]:
    """What is posted. Receivers that know no blocks show `text`."""
    severity = delivery.severity.label.upper()
    lines = [f"*{headline(delivery)}* ({severity}) in {escaped(delivery.tenant)}"]
    lines += _links(thing(delivery))
    length = sum(map(len, lines))
    for name, value in facts(delivery):
        line = f"{name.removesuffix('_us').replace('_', ' ')}: {escaped(value)}"
        length += len(line) + 1
        if length > TEXT_CHARACTERS_MAX:
            lines.append("…")
            break
        lines.append(line)
    text = "\n".join(lines)
    section = {"type": "section", "text": {"type": "mrkdwn", "text": text, "verbatim": True}}
    return {
        "text": text,
        "blocks": [section],
        "parse": "none",
        "link_names": False,
        "unfurl_links": False,
        "unfurl_media": False,
    }


def _links(about: Mapping[str, Any]) -> list[str]:
    """Addresses that the sidecar itself put there."""
    links = [("decision_url", "Decide"), ("console_url", "Look at it")]
    found = [(str(about[name]), word) for name, word in links if about.get(name)]
    return [f"<{url}|{word}>" for url, word in found if not set(url) & set("<>|` \n")]


class SlackSink:
    """See `seam.Sink`."""

    def __init__(self, poster: Poster) -> None:
        self._poster = poster

    async def send(self, delivery: Outgoing) -> None:
        """See `Sink.send`."""
        await self._poster.post(orjson.dumps(message(delivery)), {})

    async def close(self) -> None:
        """See `Sink.close`."""
        await self._poster.close()
