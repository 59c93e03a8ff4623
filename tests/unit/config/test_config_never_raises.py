"""Whatever a user writes, loading answers with a Config or with problems; it never raises."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.config.load import KEYS, load_config
from sidecar.config.settings import declared, effective
from sidecar.problems import errors_only

WORDS = sorted({part for setting in declared() for part in setting.key.split(".")} | {
    *KEYS, "address", "bearer", "basic", "header", "env", "file", "user", "password",
    "name", "value", "shop", "v1", "acme", "coder", "people", "token", "tls",
})  # fmt: skip
VALUES = [
    "", "deny", "observe", "127.0.0.1:8080", "[::1]:8081", "0.0.0.0:80", "sqlite:///a.db",
    "acme/coder", "http://shop.internal", "http://127.0.0.1:8080/x", "https://u:p@h/", "5s", "1MiB",
    "pack:read-only", "rest", "mcp", "high", "trusted_internal_signed", "AEGIS_TOKEN", "/dev/null",
    "\u00fc", "a b",
]  # fmt: skip
SCALARS = st.sampled_from(VALUES) | st.integers(-2, 70_000) | st.booleans() | st.floats(0, 2)
TREES: st.SearchStrategy[Any] = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(WORDS), inner, max_size=4)
    ),
    max_leaves=25,
)
FILES = st.dictionaries(st.sampled_from(KEYS), TREES, max_size=8)
VARIABLES = st.dictionaries(
    st.lists(st.sampled_from(WORDS), min_size=1, max_size=4).map(
        lambda parts: "AEGIS_" + "__".join(parts).upper()
    ),
    st.sampled_from(VALUES) | st.text(st.characters(exclude_characters="\0"), max_size=8),
    max_size=3,
)
FLAGS = st.lists(
    st.tuples(
        st.lists(st.sampled_from(WORDS), max_size=4).map(".".join),
        st.sampled_from(["=", ""]),
        st.sampled_from(VALUES) | st.text(max_size=8),
    ).map("".join),
    max_size=3,
)


@settings(max_examples=300, deadline=None)
@given(FILES, VARIABLES, FLAGS)
def test_loading_never_raises(
    tree: dict[str, Any], environ: dict[str, str], flags: list[str]
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "sidecar.yaml"
        path.write_text(yaml.safe_dump(tree, default_flow_style=True))
        loaded = load_config(path, environ, flags)
    assert (loaded.config is None) == bool(errors_only(loaded.problems))
    assert all(str(problem) for problem in loaded.problems)
    if loaded.config is not None:
        assert set(loaded.origins) == {key for key, _ in effective(loaded.config)}


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=200))
def test_no_bytes_make_loading_raise(data: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "sidecar.yaml"
        path.write_bytes(data)
        loaded = load_config(path, {}, [])
    assert loaded.config is None
    assert loaded.problems
