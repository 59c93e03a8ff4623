"""Policies that are sent in to be tried: loaded as those of the configuration would be, and never
put in force.

Knows: that a text sent in has a name and nothing of the file system: what catalogues name beside
them must be sent along; packs that come with the program may be named.
Must not know: what is tried with them.
"""

from __future__ import annotations

import posixpath
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

from pydantic import Field

from sidecar.control.api.problems import not_found
from sidecar.control.api.route import Body, Line, Shape
from sidecar.policy.load import LoadedPolicies, Source
from sidecar.policy_loading import load_without_collections
from sidecar.policy_reading import PACK_PREFIX, SUFFIXES, pack_folders, read_sources

if TYPE_CHECKING:
    from sidecar.policy_files import Load

FILES_MAX: Final = 200
PROBLEMS_TOLD_MAX: Final = 500
#: Segments that do not begin with a dot: nothing leads up or out.
_NAME: Final = "^([A-Za-z0-9_-][A-Za-z0-9_.-]{0,63}/){0,8}[A-Za-z0-9_-][A-Za-z0-9_.-]{0,63}$"

FileName = Annotated[str, Field(pattern=_NAME)]


class Candidate(Body):
    """Texts of catalogues and policies by name, e.g. {"policies/a.yaml": "policy: a …"}, and packs
    that are taken with them."""

    files: dict[FileName, Line] = Field(
        min_length=1,
        max_length=FILES_MAX,
        json_schema_extra={"propertyNames": {"pattern": _NAME}},
    )
    packs: list[Line] = Field(default_factory=list, max_length=64)


class ProblemShape(Shape):
    """Something that is wrong with a text, and where; `line` is null for the text as a whole."""

    source: str
    line: int | None
    column: int | None
    severity: str
    message: str
    hint: str | None


class CheckShape(Shape):
    """Whether policies load, with every problem."""

    loads: bool
    problems: list[ProblemShape]
    problem_count: int
    rules: int | None
    tools: int | None
    revision: str | None


def loading(load: Load, candidate: Candidate) -> Callable[[], LoadedPolicies]:
    """Work that loads them, to be done apart. Raises ApiProblem for a pack that is not there."""
    texts = {name: text.encode() for name, text in candidate.files.items()}
    for pack in candidate.packs:
        if pack not in pack_folders():
            raise not_found("pack", pack)
    return partial(_loaded, load, texts, [f"{PACK_PREFIX}{pack}" for pack in candidate.packs])


def _loaded(load: Load, texts: dict[str, bytes], packs: list[str]) -> LoadedPolicies:
    sources = [Source(name, data) for name, data in texts.items() if name.endswith(SUFFIXES)]
    of_packs, problems = read_sources(packs, Path("/"))
    pack_texts = {source.name: source for source in of_packs}

    def read_file(beside: str, path: str) -> bytes:
        found = texts.get(posixpath.normpath(posixpath.join(posixpath.dirname(beside), path)))
        if found is None or beside in pack_texts:
            raise FileNotFoundError(2, "was not sent along", path)
        return found

    loaded = load_without_collections(partial(load, [*sources, *of_packs], read_file=read_file))
    return LoadedPolicies(loaded.policy_set, [*problems, *loaded.problems], loaded.places)


def checked(loaded: LoadedPolicies) -> dict[str, Any]:
    """What came of loading, as its shape."""
    found = loaded.policy_set
    return {
        "loads": found is not None,
        "problems": [one.as_json() for one in loaded.problems[:PROBLEMS_TOLD_MAX]],
        "problem_count": len(loaded.problems),
        "rules": found.rule_count if found is not None else None,
        "tools": len(found.catalogue.tools) if found is not None else None,
        "revision": found.revision if found is not None else None,
    }
