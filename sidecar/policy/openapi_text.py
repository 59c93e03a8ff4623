"""The text of an OpenAPI document, JSON or YAML, as plain data.

Knows: that documents are other people's. YAML of any kind and large sizes are taken, equal keys are
not; what a short text could make endless (nesting, merge keys) is bounded.
Must not know: what stands in a document beyond its version.
"""

from __future__ import annotations

import json
from typing import Any, Final

import yaml

#: Bytes, depth and values together bound the memory of a reading: 720 MiB at the very worst
#: (measured), 140 MiB for GitHub's description as JSON, 300 MiB for the same as YAML.
DOCUMENT_BYTES_MAX: Final = 16 * 1024 * 1024
DEPTH_MAX: Final = 200
#: Values of a YAML document: two bytes of it can become a kilobyte of nodes. GitHub's description
#: has 475,000 of them in 10 MB.
NODES_MAX: Final = 1_000_000
#: Members that merge keys may add in all: a few lines of them can stand for any number.
MERGED_MAX: Final = 100_000

_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class BadDocument(ValueError):
    """A document that cannot be used; the message says why."""


def parse_document(data: bytes) -> dict[str, Any]:
    """The document, if it is one; raises BadDocument."""
    if len(data) > DOCUMENT_BYTES_MAX:
        raise BadDocument(f"larger than {DOCUMENT_BYTES_MAX // 1024 // 1024} MiB")
    try:
        if data.lstrip()[:1] == b"{":
            document = json.loads(data.decode("utf-8"), object_pairs_hook=_unique)
        else:
            text = data.decode("utf-8")
            _refuse_bombs(text)
            document = yaml.load(text, Loader=_UniqueLoader)  # noqa: S506
    except UnicodeDecodeError:
        raise BadDocument("not UTF-8") from None
    except RecursionError:
        raise BadDocument("nested too deep") from None
    except yaml.YAMLError as error:
        said = " ".join(str(error).split()).replace('in "<unicode string>", ', "at ")
        raise BadDocument(said[:200]) from None
    except ValueError as error:
        raise BadDocument(str(error)[:200]) from None
    if not isinstance(document, dict):
        raise BadDocument("not an OpenAPI document")
    version = document.get("openapi")
    if not isinstance(version, str) or not version.startswith(("3.0", "3.1")):
        raise BadDocument(f"not an OpenAPI 3.0 or 3.1 document{_what_it_is(document, version)}")
    return document


def _what_it_is(document: dict[str, Any], version: Any) -> str:
    if "swagger" in document:
        return ": it is Swagger, which has to be converted to OpenAPI 3 first"
    if isinstance(version, float):
        return ': its version is a number, and has to be text, such as "3.0.3"'
    return f": its version is {version[:20]!r}" if isinstance(version, str) else ""


def _refuse_bombs(text: str) -> None:
    """Before any node is built: the C library composes nodes recursively, without a bound."""
    depth = nodes = 0
    for event in yaml.parse(text, Loader=_LOADER):
        if isinstance(event, yaml.NodeEvent):
            nodes += 1
            if nodes > NODES_MAX:
                raise BadDocument(f"more than {NODES_MAX} values")
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > DEPTH_MAX:
                raise BadDocument(f"nested deeper than {DEPTH_MAX}")
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        left = set(members)
        for twice, _ in pairs:
            if twice not in left:
                break
            left.discard(twice)
        raise BadDocument(f'the key "{twice}" is here twice in one object')
    return members


class _UniqueLoader(_LOADER):  # type: ignore[misc]  # the C or the Python safe loader
    """A safe loader that refuses equal keys instead of keeping the last."""

    merged = 0

    def construct_yaml_timestamp(self, node: Any) -> Any:
        try:
            return super().construct_yaml_timestamp(node)
        except ValueError:  # which says what, but not where, and other words in each Python
            mark = node.start_mark
            raise BadDocument(
                f"{node.value[:40]} is no date, at line {mark.line + 1}, column {mark.column + 1}"
            ) from None

    def flatten_mapping(self, node: Any) -> None:
        before = len(node.value)
        super().flatten_mapping(node)
        self.merged += max(len(node.value) - before, 0)
        if self.merged > MERGED_MAX:
            raise BadDocument(f"merge keys add more than {MERGED_MAX} members")

    def construct_mapping(self, node: Any, deep: bool = False) -> Any:
        seen = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.tag != "tag:yaml.org,2002:merge":
                if (key.tag, key.value) in seen:
                    line = key.start_mark.line + 1
                    raise BadDocument(f'line {line}: the key "{key.value}" is here twice')
                seen.add((key.tag, key.value))
        return super().construct_mapping(node, deep)


_UniqueLoader.add_constructor("tag:yaml.org,2002:timestamp", _UniqueLoader.construct_yaml_timestamp)
