"""Scripts and styles of others in the console are, byte for byte, what the npm registry has."""

from __future__ import annotations

import re
from hashlib import sha256

import pytest

from sidecar.control.console.assets import KINDS
from sidecar.control.console.rendering import FOLDER

STATIC = FOLDER.parent / "static"
#: What is ours; whatever else lies there came from elsewhere and has a line below.
OURS = {"console.css", "console.js", "icon.svg"}
#: File here, package of the npm registry, file in it, SHA-256.
VENDORED = (
    ("htmx-2.0.11.min.js", "htmx.org@2.0.11", "dist/htmx.min.js",
     "d6fdc75f204e6bdefa99b69bf1e6d4ac69b8a364f77929f45c13476b4000f717"),
    ("htmx.LICENSE", "htmx.org@2.0.11", "LICENSE",
     "d3d2456f76414f2456104660ebd65aff1c04cd7966b942bdabd63f3cdb316a38"),
    ("htmx-ext-sse-2.2.4.min.js", "htmx-ext-sse@2.2.4", "dist/sse.min.js",
     "98a46496de0c3605fbffdce9167ba427bdd9553184f83f149c261891a92c0136"),
    ("htmx-ext-sse.LICENSE", "htmx-ext-sse@2.2.4", "LICENSE",
     "a17d224ce9afdc21ec9491b76a2f5d036d19aa641ac4f85ca29c21f9f7e54fdf"),
    ("uplot-1.6.32.min.js", "uplot@1.6.32", "dist/uPlot.iife.min.js",
     "19c8d4c6ad88929a79f4ae49d6f7161566dfd0ba3d15cc495e974f787eb78f1f"),
    ("uplot-1.6.32.min.css", "uplot@1.6.32", "dist/uPlot.min.css",
     "df630c6a8d6f8eeaff264b50f73ce5b114f646ffd9a0bb74f049b0a00135fa04"),
    ("uplot.LICENSE", "uplot@1.6.32", "LICENSE",
     "8f989229699b4fe2f1a0432d0e9edc338a8a911e250e2d1b01ecd770a5f5b1bd"),
)  # fmt: skip


@pytest.mark.parametrize(("name", "package", "there", "digest"), VENDORED)
def test_a_file_of_others_is_what_the_registry_has(
    name: str, package: str, there: str, digest: str
) -> None:
    assert sha256((STATIC / name).read_bytes()).hexdigest() == digest, f"{package}/{there}"


def test_every_file_of_others_is_on_the_list_with_its_version_and_licence() -> None:
    names = {name for name, *_ in VENDORED}
    assert {path.name for path in STATIC.iterdir()} == OURS | names
    assert {name for name in KINDS if name not in OURS} == {n for n in names if ".min." in n}
    for name, package, *_ in VENDORED:
        version = package.partition("@")[2]
        versioned = re.fullmatch(r"([a-z-]+)-([0-9.]+)\.min\.(js|css)", name)
        if versioned is not None:
            assert versioned[2] == version, name
            assert f"{versioned[1]}.LICENSE" in names, name


def test_what_was_minified_needs_nothing_that_is_not_here() -> None:
    for name in (n for n, *_ in VENDORED if n.endswith(".js")):
        text = (STATIC / name).read_text("utf-8")
        assert "sourceMappingURL" not in text and not re.search(r"import\s*[({\"']", text), name
