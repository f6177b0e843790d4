"""Quantities, selectors, ages: small pure things."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skerry_hub.apiserver import quantity, rows
from skerry_hub.apiserver.selectors import Selector, parse_fields, parse_labels
from skerry_hub.apiserver.status import ApiError


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("1", "1"), ("0.5", "500m"), ("1500m", "1500m"), ("1024Mi", "1Gi"), ("0.1Gi", "107374182400m"), ("1000k", "1M"),
        ("1e3", "1e3"), ("12E", "12E"), ("00100", "100"), (".5", "500m"), ("1000Ki", "1000Ki"), ("-1", "-1"),
        ("1.5Gi", "1536Mi"), ("0.0000000001", "1n"), ("0", "0"), ("0Gi", "0"), ("512Ki", "512Ki"), ("0.5Ki", "512"),
    ],
)  # fmt: skip
def test_a_quantity_is_stored_in_canonical_form(text: str, canonical: str) -> None:
    assert quantity.canonical(text) == canonical
    assert quantity.canonical(canonical) == canonical


@pytest.mark.parametrize("text", ["", "x", "1Q", "1 Gi", "--1", "1e", "1e9999", "٣", "1" * 100, "."])
def test_what_is_no_quantity_is_refused(text: str) -> None:
    with pytest.raises(quantity.BadQuantity):
        quantity.canonical(text)


@given(st.fractions(0, 10**12, max_denominator=1000), st.sampled_from(["", "k", "Mi", "m", "Gi"]))
def test_the_canonical_form_keeps_the_value(number: Fraction, suffix: str) -> None:
    text = f"{float(number):.3f}{suffix}"
    exact = quantity.value(text)
    assert abs(quantity.value(quantity.canonical(text)) - exact) < Fraction(1, 10**9)


@pytest.mark.parametrize(
    ("selector", "selected"),
    [
        ("", "abc"), ("app=x", "ab"), ("app==y", "c"), ("app!=x", "c"), ("tier!=web", "bc"), ("app in (x, z)", "ab"),
        ("tier notin (web)", "bc"), ("tier", "ac"), ("!tier", "b"), ("app=x,tier", "a"), ("n>4", "a"), ("n<4", "c"),
        ("tier in (web,)", "a"), ("tier=", ""),
    ],
)  # fmt: skip
def test_a_label_selector_selects(selector: str, selected: str) -> None:
    items = {"a": {"app": "x", "tier": "web", "n": "5"}, "b": {"app": "x"}, "c": {"app": "y", "tier": "db", "n": "3"}}
    found = Selector(parse_labels(selector))
    assert "".join(name for name, labels in items.items() if found.matches(labels, {})) == selected


@pytest.mark.parametrize("text", ["=", "a in", "a in (", "a b", "a=b c", "!", ",", "a,", "-a", "a=b/c", "a in b"])
def test_a_broken_label_selector_is_a_bad_request(text: str) -> None:
    with pytest.raises(ApiError) as why:
        parse_labels(text)
    assert why.value.code == 400


@given(st.text(max_size=40))
def test_any_selector_is_parsed_or_refused(text: str) -> None:
    for parse in (parse_labels, lambda t: parse_fields(t, frozenset({"a"}))):
        refused = 400
        try:
            parse(text)
        except ApiError as why:
            refused = why.code
        assert refused == 400


def test_a_field_selector_knows_escapes_and_unknown_paths() -> None:
    assert parse_fields(r"a=x\,y,a!=b\=c", frozenset({"a"})) == (("a", True, "x,y"), ("a", False, "b=c"))
    with pytest.raises(ApiError, match="field label not supported: b"):
        parse_fields("b=1", frozenset({"a"}))


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"), (119, "119s"), (120, "2m"), (185, "3m5s"), (660, "11m"), (3 * 3600, "3h"), (3 * 3600 + 60, "3h1m"),
        (9 * 3600, "9h"), (50 * 3600, "2d2h"), (9 * 86400, "9d"), (800 * 86400, "2y70d"), (-5, "<invalid>"),
    ],
)  # fmt: skip
def test_an_age_is_short(seconds: int, text: str) -> None:
    assert rows.human(seconds) == text
