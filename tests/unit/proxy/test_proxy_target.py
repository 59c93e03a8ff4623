"""A path has one reading, or none (B6, B9, B10)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.errors import Refused
from sidecar.proxy.target import read_target

CASES = json.loads((Path(__file__).parents[2] / "cases/proxy/target.json").read_text())


@pytest.mark.parametrize("case", CASES["accepted"], ids=lambda case: case["target"])
def test_b9_a_canonical_target_is_read_once_and_kept_as_received(case: dict[str, Any]) -> None:
    path, query = read_target(case["target"], 128)
    assert path.upstream == case["upstream"]
    assert list(path.segments) == case["segments"]
    assert (path.rest, path.decoded, query) == (case["rest"], case["path"], case["query"])
    assert not path.has_encoded_slash


@pytest.mark.parametrize("target", CASES["ambiguous_path"])
def test_b9_a_path_with_two_readings_is_refused(target: str) -> None:
    with pytest.raises(Refused) as caught:
        path, _ = read_target(target, 128)
        if path.has_encoded_slash:
            raise Refused("ambiguous_path")
    assert caught.value.code == "ambiguous_path"


@pytest.mark.parametrize("target", CASES["malformed_request"])
def test_b6_only_origin_form_is_read(target: str) -> None:
    with pytest.raises(Refused) as caught:
        read_target(target, 128)
    assert caught.value.code == "malformed_request"


@pytest.mark.parametrize("case", CASES["encoded_slash"], ids=lambda case: case["target"])
def test_b9_an_encoded_slash_is_marked(case: dict[str, Any]) -> None:
    path, _ = read_target(case["target"], 128)
    assert path.has_encoded_slash
    assert list(path.segments) == case["segments"]


def test_b9_an_encoded_slash_hides_no_dot_segment() -> None:
    with pytest.raises(Refused):
        read_target("/up/a%2f..%2fb", 128)
    with pytest.raises(Refused):
        read_target("/up/a%2f%2fb", 128)


def test_b10_too_many_parameters() -> None:
    assert read_target("/up?" + "&".join(["a=1"] * 128), 128)[1]
    with pytest.raises(Refused) as caught:
        read_target("/up?" + "&".join(["a=1"] * 129), 128)
    assert caught.value.code == "too_many_parameters"


_pieces = st.lists(
    st.sampled_from(
        ["a", ".", "..", "%2e", "%2E", "%2f", "%5c", "%25", "2e", ";", "/", "//", "\\", "%00"]
        + ["%c0%af", "%ef%bc%8e", "x", "%41", "%", "%e2%80%a4", "%20", "~", "%0a"]
    ),
    max_size=8,
)


@given(_pieces)
def test_b9_whatever_is_accepted_has_no_second_reading(pieces: list[str]) -> None:
    target = "/up/" + "".join(pieces)
    try:
        path, _ = read_target(target, 128)
    except Refused:
        return
    assert target == "/up" + path.rest
    for segment in path.segments:
        for part in segment.split("/"):
            assert part not in ("", ".", "..")
            assert "\\" not in part
            assert "\0" not in part
            assert part.split(";")[0].strip(". ")


@pytest.mark.parametrize("target", ["http://api.acme.io/x", "HTTPS://api.acme.io/x"])
def test_b6_who_takes_the_sidecar_for_a_forward_proxy_is_told(target: str) -> None:
    with pytest.raises(Refused, match="no forward proxy") as caught:
        read_target(target, 128)
    assert caught.value.code == "malformed_request"
    with pytest.raises(Refused, match="origin form"):
        read_target("ftp://api.acme.io/x", 128)
