"""Quantities, as the Kubernetes API reference defines them."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skerry.errors import Refused
from skerry.model.quantity import quantity
from skerry.model.reader import Field


@pytest.mark.parametrize(
    ("said", "scale", "means"),
    [
        (None, 1, 0),
        ("0", 1, 0),
        (7, 1, 7),
        ("64Mi", 1, 64 << 20),
        ("1.5Gi", 1, 3 << 29),
        ("128M", 1, 128_000_000),
        ("1k", 1, 1000),
        ("1E", 1, 10**18),
        ("1E3", 1, 1000),
        ("1e3", 1, 1000),
        ("500m", 1000, 500),
        ("0.1", 1000, 100),
        ("2", 1000, 2000),
        ("100u", 1000, 1),  # rounded up, never down to nothing
        (".5", 1000, 500),
        ("+1", 1, 1),
        ("1e-999", 1, 1),
    ],
)
def test_a_quantity_is_a_number_of_units(said: Any, scale: int, means: int) -> None:
    assert quantity(Field(said, "limits.cpu"), scale) == means


@pytest.mark.parametrize(
    "said",
    ["", "1 Gi", "Mi", "1mi", "1.2.3", "-1", "-1m", "1KiB", "٣", "9" * 100_000, "1e999", 10**30, True, 1.5, [], {}],
)
def test_anything_else_is_refused_with_its_path(said: Any) -> None:
    with pytest.raises(Refused) as why:
        quantity(Field(said, "limits.cpu"))
    assert why.value.path == "limits.cpu"
    assert len(str(why.value)) < 200


@given(st.text("0123456789.eEmKMGi+-", max_size=70))
def test_no_text_gives_another_error(said: str) -> None:
    with contextlib.suppress(Refused):
        assert quantity(Field(said, "x"), 1000) >= 0
