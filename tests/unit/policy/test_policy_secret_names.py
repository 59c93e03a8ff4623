"""Secret names: in which spellings they count, where their values stand in query and path."""

from __future__ import annotations

import pytest

from sidecar.policy.secret_names import SecretNames, masked_path, masked_query

NAMES = SecretNames(("password", "token", "secret", "api_key", "authorization"))


@pytest.mark.parametrize(
    "name",
    [
        "password", "PassWord", "apiKey", "API-KEY", "api.key", "api key", "Authorization",
        "user[password]", "user[password][]", "token[0]", "token[]", "user.password", "a.b.api-key",
        "[secret]", "token.value",
    ],
)  # fmt: skip
def test_g5_a_name_counts_in_every_spelling(name: str) -> None:
    assert name in NAMES


@pytest.mark.parametrize(
    "name",
    ["", "passwords", "max_tokens", "tokenised", "user", "user[name]", "pass.word.s", "[", "]["],
)
def test_other_names_do_not(name: str) -> None:
    assert name not in NAMES


@pytest.mark.parametrize(
    ("raw", "masked"),
    [
        ("", ""),
        ("a=1&b=2", "a=1&b=2"),
        ("a=1&token=t&b=2", "a=1&token=***&b=2"),
        ("To%6Ben=t", "To%6Ben=***"),
        ("api+key=t&api%5fkey=u", "api+key=***&api%5fkey=***"),
        ("user%5Bpassword%5D=t&user[secret]=u", "user%5Bpassword%5D=***&user[secret]=***"),
        ("token", "token"),
        ("x=token", "x=token"),
    ],
)
def test_g5_secret_query_parameters_are_masked(raw: str, masked: str) -> None:
    assert masked_query(raw, NAMES) == masked


@pytest.mark.parametrize(
    ("path", "values", "masked"),
    [
        ("/reset/abc", {"token": "abc"}, "/reset/***"),
        ("/hook/abc.json", {"secret": "abc"}, "/hook/***.json"),
        ("/files/a/b", {"password": "a/b"}, "/files/***"),
        ("/files/a/b", {"path": "a/b"}, "/files/a/b"),
        ("/u/7/reset/abc", {"id": "7", "token": "abc"}, "/u/7/reset/***"),
    ],
)
def test_g5_secret_parts_of_a_path_are_masked(
    path: str, values: dict[str, str], masked: str
) -> None:
    assert masked_path(path, values, NAMES) == masked


def test_many_names_do_not_grow_the_memory_of_verdicts_without_end() -> None:
    names = SecretNames(("token",))
    for number in range(20_000):
        assert f"name-{number}" not in names
    assert "TOKEN" in names
    assert len(names.verdicts) <= 8192
