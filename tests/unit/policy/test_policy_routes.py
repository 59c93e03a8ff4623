"""Routes: the most specific wins, whatever the order; ties and wrong templates are refused."""

from __future__ import annotations

import itertools
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.policy.routes import RouteTable, parse_route

ROUTES = (
    "GET /repos/{owner}/{repo}",
    "GET /repos/{owner}/{repo}/contents/{path...}",
    "GET /repos/{owner}/{repo}/contents/README.md",
    "GET /repos/{owner}/{repo}/contents/{name}.md",
    "GET /repos/acme/{repo}",
    "GET /repos/{owner}/web",
    "PUT /repos/{owner}/{repo}",
    "POST /jobs/{id}:cancel",
    "POST /jobs/{id}",
    "GET /",
)
CASES = [
    ("GET", "repos/a/b", 0, {"owner": "a", "repo": "b"}),
    ("GET", "repos/a/b/contents/c", 1, {"owner": "a", "repo": "b", "path": "c"}),
    ("GET", "repos/a/b/contents/c/d/e", 1, {"owner": "a", "repo": "b", "path": "c/d/e"}),
    ("GET", "repos/a/b/contents", None, {}),
    ("GET", "repos/a/b/contents/README.md", 2, {"owner": "a", "repo": "b"}),
    ("GET", "repos/a/b/contents/x.md", 3, {"owner": "a", "repo": "b", "name": "x"}),
    ("GET", "repos/a/b/contents/x.md/y", 1, {"owner": "a", "repo": "b", "path": "x.md/y"}),
    ("GET", "repos/a/b/contents/.md", 1, {"owner": "a", "repo": "b", "path": ".md"}),
    ("GET", "repos/acme/b", 4, {"repo": "b"}),
    ("GET", "repos/acme/web", 4, {"repo": "web"}),
    ("GET", "repos/a/web", 5, {"owner": "a"}),
    ("PUT", "repos/acme/web", 6, {"owner": "acme", "repo": "web"}),
    ("POST", "jobs/7:cancel", 7, {"id": "7"}),
    ("POST", "jobs/7", 8, {"id": "7"}),
    ("POST", "jobs/:cancel", 8, {"id": ":cancel"}),
    ("GET", "", 9, {}),
    ("DELETE", "repos/a/b", None, {}),
    ("get", "repos/a/b", None, {}),
    ("GET", "Repos/a/b", None, {}),
    ("GET", "repos/a", None, {}),
    ("GET", "x", None, {}),
]


def table(texts: list[str]) -> RouteTable[str]:
    routes: RouteTable[str] = RouteTable()
    for text in texts:
        assert routes.add(parse_route(text), text) is None
    return routes


@pytest.mark.parametrize(("method", "path", "index", "values"), CASES)
def test_the_most_specific_route_wins(
    method: str, path: str, index: int | None, values: dict[str, str]
) -> None:
    segments = tuple(path.split("/")) if path else ()
    expected = None if index is None else (ROUTES[index], values)
    for seed in range(5):
        shuffled = random.Random(seed).sample(ROUTES, len(ROUTES))
        assert table(shuffled).match(method, segments) == expected


@pytest.mark.parametrize(
    ("first", "second", "is_tie"),
    [
        ("GET /a/{x}", "GET /a/{y}", True),
        ("GET /a/{x...}", "GET /a/{y...}", True),
        ("GET /a/b", "GET /a/b/", True),
        ("GET /a/{x}.md", "GET /a/{y}.md", True),
        ("GET /a/x-{y}", "GET /a/{y}-x", True),
        ("GET /a/ab{y}", "GET /a/a{y}b", True),
        ("GET /a/{x}.md", "GET /a/{y}.rst", False),
        ("GET /a/{x}.md", "GET /a/{y}.txt", False),
        ("GET /a/{x}", "POST /a/{x}", False),
        ("GET /a/{x}", "GET /a/{x...}", False),
        ("GET /a/{x}/b", "GET /a/{y}/c", False),
        ("GET /a/{x}", "GET /a/b", False),
    ],
)
def test_a_tie_is_found_in_either_order(first: str, second: str, is_tie: bool) -> None:
    for one, other in itertools.permutations((first, second)):
        routes: RouteTable[str] = RouteTable()
        assert routes.add(parse_route(one), one) is None
        assert routes.add(parse_route(other), other) == (one if is_tie else None)


@pytest.mark.parametrize(
    "text",
    [
        "", "GET", "GET a", "get /a", "GET  /a", "GET /a b", "CONNECT /a", "GET /a//b", "GET //a",
        "GET /a/../b", "GET /a/.", "GET /a?x", "GET /a#x", "GET /a%20b", "GET /{a}{b}", "GET /{a",
        "GET /a}", "GET /{}", "GET /{a}/{a}", "GET /{a...}/b", "GET /x{a...}", "GET /{1a}", 7, None,
        "GET /" + "a/" * 65,
    ],
)  # fmt: skip
def test_a_wrong_template_is_refused(text: object) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_route(text)


PARTS = st.sampled_from(["a", "b", "{x}", "{y}", "p{z}"])


@given(
    st.lists(st.lists(PARTS, max_size=4, unique=True), max_size=8),
    st.lists(st.sampled_from(["a", "b", "pa", "c"]), max_size=4),
    st.randoms(use_true_random=False),
)
def test_the_order_of_routes_means_nothing(
    templates: list[list[str]], segments: list[str], shuffler: random.Random
) -> None:
    texts = list(dict.fromkeys("GET /" + "/".join(parts) for parts in templates))
    one: RouteTable[str] = RouteTable()
    kept = [text for text in texts if one.add(parse_route(text), text) is None]
    other = table(shuffler.sample(kept, len(kept)))
    assert one.match("GET", segments) == other.match("GET", segments)


TEXTS = [
    "GET /accounts/{id}", "GET /accounts/export", "GET /accounts/{id}/keys", "GET /x/{rest...}",
    "GET /Mixed/a", "GET /mixed/a", "POST /jobs/{id}:cancel", "POST /jobs/{id}",
    "PUT /files/{id}.JSON", "PUT /files/{id}",
    "GET /y/{z}", "GET /y/reset", "DELETE /y/Reset", "GET /Reset/a",
]  # fmt: skip
CASED = table(TEXTS)
LOWER = table([text for text in TEXTS if "JSON" not in text])


@pytest.mark.parametrize(
    ("method", "path", "is_in_other_case"),
    [
        ("GET", "accounts/export", False),
        ("GET", "accounts/Export", True),
        ("GET", "ACCOUNTS/export", True),
        ("GET", "Accounts/7", True),  # nobody declared it, and Express takes it for get
        ("GET", "accounts/Exports", False),
        ("GET", "accounts/ACME", False),
        ("GET", "accounts/ACME/Keys", True),
        ("GET", "accounts/Export/x", False),  # no route below it
        ("GET", "x/Accounts/Export", False),
        ("GET", "X/accounts", True),
        ("GET", "mixed/a", False),  # their author tells these apart
        ("GET", "Mixed/a", False),
        ("GET", "MIXED/a", True),
        ("POST", "jobs/7:Cancel", True),
        ("POST", "jobs/A:cancel", False),
        ("POST", "jobs/ABC", False),
        ("PUT", "files/a.json", True),
        ("PUT", "files/a.JSON", False),
        ("PUT", "files/a.txt", False),
        ("PUT", "Accounts/7", False),
        ("GET", "accounts/e\u212aport", False),
        ("GET", "x", False),
        ("GET", "y/Reset", True),  # spelt so elsewhere
        ("GET", "y/reset", False),
        ("DELETE", "y/Reset", False),
        ("DELETE", "y/reset", True),
        ("GET", "reset/a", True),
    ],
)
def test_b9_a_path_that_differs_from_a_declared_one_in_letter_case(
    method: str, path: str, is_in_other_case: bool
) -> None:
    segments = path.split("/")
    assert CASED.is_in_other_case(method, segments) is is_in_other_case
    if method != "PUT":
        assert LOWER.is_in_other_case(method, segments) is is_in_other_case


ANY_CASE = st.sampled_from(["a", "A", "b", "B", "pa", "Pa", "PA", "c"])


@given(
    st.lists(st.lists(PARTS, max_size=4, unique=True), max_size=8),
    st.lists(ANY_CASE, max_size=4),
)
def test_b9_what_is_not_told_is_taken_alike_where_case_is_passed_over(
    templates: list[list[str]], segments: list[str]
) -> None:
    """The templates are in lower case: so a reader that makes the path so passes over case. What
    stands under another method changes nothing."""
    texts = list(dict.fromkeys("GET /" + "/".join(parts) for parts in templates))
    routes: RouteTable[str] = RouteTable()
    for text in ("PUT /A/b/c", *texts, "PUT /B/A"):
        routes.add(parse_route(text), text)
    ours = routes.match("GET", segments)
    theirs = routes.match("GET", [segment.lower() for segment in segments])
    is_same = (ours and ours[0]) == (theirs and theirs[0])
    assert routes.is_in_other_case("GET", segments) is not is_same
