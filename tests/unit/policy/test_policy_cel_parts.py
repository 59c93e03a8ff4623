"""Optional values and functions on texts are told to the CEL library with the first text that needs
them. It makes no difference to what needs none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sidecar.cli.main import main
from sidecar.policy.cel_checks import BadExpression
from sidecar.policy.cel_tree import decode
from sidecar.policy.conditions import Scope

ROOT = Path(__file__).parents[3]
PLAIN = "args.amount > args.limit * 2"
NEEDY = 'args.text.split("-")[0] == "a"'


def _extended() -> Scope:
    scope = Scope({})
    scope.condition(NEEDY)
    return scope


def _tree(scope: Scope, text: str, *, is_extended: bool) -> tuple[Any, ...] | None:
    """The tree, its checked type, and the bytes of types and overloads, whose order the library
    leaves open; None of a text that does not compile."""
    scope._is_extended = is_extended
    try:
        expression = scope._environment().compile(text)
    except (RuntimeError, ValueError, TypeError):
        return None
    written = expression.serialize()
    return decode(written), expression.return_type().name(), sorted(written)


def test_what_compiles_without_the_parts_is_the_same_with_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """All that the packs are made of, each in its own scope."""
    seen: dict[str, tuple[Any, Any]] = {}
    parsed = Scope._parsed

    def compared(scope: Scope, text: str) -> Any:
        was_extended = scope._is_extended
        seen[text] = (
            _tree(scope, text, is_extended=False),
            _tree(scope, text, is_extended=True),
        )
        scope._is_extended = was_extended
        return parsed(scope, text)

    monkeypatch.setattr(Scope, "_parsed", compared)
    for folder in sorted(path for path in (ROOT / "policies").iterdir() if path.is_dir()):
        main(["policy", "check", str(folder)])
    alike = [text for text, (without, _) in seen.items() if without is not None]
    assert len(alike) > 20
    assert [text for text in alike if seen[text][0] != seen[text][1]] == []
    assert any(without is None and with_them for without, with_them in seen.values())


def test_both_kinds_are_judged_in_one_scope() -> None:
    """In either order: what was compiled before the parts came is evaluated beside them."""
    for texts in ((PLAIN, NEEDY, PLAIN + " || false"), (NEEDY, PLAIN)):
        scope = Scope({})
        conditions = [scope.condition(text) for text in texts]
        activation = scope.environment.Activation(
            {"args": {"amount": 7, "limit": 3, "text": "a-b"}}
        )
        assert [one.expression.eval(activation).value() for one in conditions] == [True] * len(
            texts
        )


@pytest.mark.parametrize(("text", "said"), [
    ("args.x.splitt(1)", 'undeclared|no "splitt"|splitt'),
    ("args.x.?y", "optional"),
    ("args.x ==", "mismatched input|Syntax error"),
])  # fmt: skip
def test_a_mistake_is_told_in_the_same_words(text: str, said: str) -> None:
    with pytest.raises(BadExpression, match=said) as first:
        Scope({}).condition(text)
    with pytest.raises(BadExpression) as second:
        _extended().condition(text)
    assert first.value.findings == second.value.findings
