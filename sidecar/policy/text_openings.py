"""Parts of texts that an allow rule compares, and that take more than they look like.

Knows: that `startsWith("/srv/work")` takes /srv/work-old and /srv/work/../etc, that the beginning
of a URL without its `/` takes other hosts, that the end of a domain takes every longer name and the
end of an address others before it, that `contains` takes what stands anywhere, that `*` of a glob
takes `/` too.
Must not know: the CEL library, files, rules.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any, Final, NamedTuple

from sidecar.policy.cel_tree import CALL, Term
from sidecar.policy.cel_truth import known_texts, wanted

#: The functions that are looked at; an expression without them needs no look.
OPENINGS: Final = frozenset({"startsWith", "endsWith", "contains", "glob"})

_URL_HEAD: Final = re.compile(r"https?://([^/*?#]+)", re.IGNORECASE)
_URL_GLOB: Final = re.compile(r"https?://[^/*?#]*\*", re.IGNORECASE)
_DOMAIN: Final = re.compile(r"[a-z0-9-]+(\.[a-z0-9-]+)*\.[a-z]{2,}", re.IGNORECASE)
_ADDRESS: Final = re.compile("@" + _DOMAIN.pattern, re.IGNORECASE)
#: Paths of requests come decoded and without `.` and `..`.
_REQUEST_PATH: Final = "http.path"


class Opening(NamedTuple):
    """A part that takes too much, at a character offset: what is wrong, what to write."""

    offset: int
    message: str
    hint: str


def openings(tree: Term, constants: Mapping[str, Any]) -> list[Opening]:
    """Every comparison with a part of a text that has to be true and takes more than it says. What
    the expression reads with `host` or `under` besides is held by these."""
    found: list[Opening] = []
    terms = list(tree.walk())
    beside = {term.name for term in terms if term.kind == CALL} & {"host", "under"}
    texts = [term.text or "" for term in terms]
    beside |= {part for part in ("..", ",") if any(part in text for text in texts)}
    for term, is_true, loops in wanted(tree, constants):
        if not is_true or term.kind != CALL or term.name not in OPENINGS or len(term.parts) != 2:
            continue
        for text in known_texts(term.parts[1], loops, constants):
            said = _judge(term.name, term.parts[0], text, beside)
            if said is not None:
                found.append(Opening(term.offset, *said))
                break
    return found


def _judge(
    function: str, target: Term, text: str, beside: Collection[str]
) -> tuple[str, str] | None:
    if function == "contains":
        hint = "compare the whole with == or in, or use inDomain(host(…), …), under() or glob()"
        return f'contains("{text}") is true wherever in the text it stands', hint
    if function == "endsWith":
        return _end(text, beside)
    if function == "glob":
        return _glob(target, text, beside)
    return _beginning(target, text, beside)


def _beginning(target: Term, text: str, beside: Collection[str]) -> tuple[str, str] | None:
    url = _URL_HEAD.fullmatch(text)
    if url is not None and "host" not in beside:
        return (
            f'startsWith("{text}") also takes {text}.evil.example',
            f'compare the host, inDomain(host(…), "{url[1].lower()}"), or end the text with /',
        )
    if not text.startswith("/") or text == "/" or "under" in beside:
        return None
    is_whole = text.endswith("/")
    if target.name == _REQUEST_PATH:
        hint = f'end the text with /: startsWith("{text}/")'
        return None if is_whole else (f'startsWith("{text}") also takes {text}-x', hint)
    if is_whole and ".." in beside:
        return None
    also = f"{text}../x" if is_whole else f"{text}-x and {text}/../x"
    root = text.rstrip("/")
    return f'startsWith("{text}") also takes {also}', f'under(…, "{root}") takes what lies below it'


def _end(text: str, beside: Collection[str]) -> tuple[str, str] | None:
    if _ADDRESS.fullmatch(text) is not None and "," not in beside:
        return f'endsWith("{text}") also takes x@evil.example,y{text}', _one_address(text)
    if _DOMAIN.fullmatch(text) is None:
        return None
    hint = f'of a host inDomain(…, "{text}"), {_one_address(f"@{text}")}'
    return f'endsWith("{text}") also takes evil{text}', hint


def _one_address(end: str) -> str:
    return f"of one address matches(r'^[^@,;\\s]+{re.escape(end)}$')"


def _glob(target: Term, pattern: str, beside: Collection[str]) -> tuple[str, str] | None:
    if _URL_GLOB.match(pattern) and "host" not in beside:
        also = pattern.replace("*", "evil.example/", 1).replace("*", "x")
        hint = 'compare the host: inDomain(host(…), "NAME") is true of it and what lies below it'
        return f'glob(…, "{pattern}") also takes {also}: * takes / too', hint
    if _ADDRESS.fullmatch(pattern[1:]) is not None and pattern[0] == "*" and "," not in beside:
        return f'glob(…, "{pattern}") also takes x@evil.example,y{pattern[1:]}', _one_address(
            pattern[1:]
        )
    root = pattern.partition("*")[0].rpartition("/")[0]
    if not root.startswith("/") or "*" not in pattern or target.name == _REQUEST_PATH:
        return None
    if "under" in beside or ".." in beside:
        return None
    hint = f'under(…, "{root}") takes what lies below it; both may stand together'
    return (
        f'glob(…, "{pattern}") also takes {pattern.replace("*", "../x")}: * takes / and .. too',
        hint,
    )
