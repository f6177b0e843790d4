"""Resource quantities: parsed exactly, printed in the API's canonical form. Knows no field and no object.

Source: the serialisation format documented at k8s.io/apimachinery/pkg/api/resource (Quantity).
"""

from __future__ import annotations

import re
from fractions import Fraction
from functools import lru_cache

_FORM = re.compile(r"([+-]?)(\d+\.?\d*|\.\d+)([KMGTPE]i|[numkMGTPE]|[eE][+-]?\d{1,3})?", re.ASCII)
_BINARY = ("Ki", "Mi", "Gi", "Ti", "Pi", "Ei")
_DECIMAL = {"n": -9, "u": -6, "m": -3, "": 0, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}
_SUFFIX = {power: suffix for suffix, power in _DECIMAL.items()}
_CHARACTERS_MAX = 64


class BadQuantity(ValueError):
    """The text is not a quantity."""


def _parts(text: str) -> tuple[Fraction, str]:
    hit = _FORM.fullmatch(text) if len(text) <= _CHARACTERS_MAX else None
    if hit is None:
        raise BadQuantity(text)
    sign, digits, suffix = hit[1], hit[2], hit[3] or ""
    value = Fraction(digits.rstrip(".") if digits[0] != "." else "0" + digits)
    if suffix in _BINARY:
        value *= 1024 ** (_BINARY.index(suffix) + 1)
    elif suffix in _DECIMAL:
        value *= Fraction(10) ** _DECIMAL[suffix]
    else:
        value *= Fraction(10) ** int(suffix[1:])
    return (-value if sign == "-" else value), suffix


def value(text: str) -> Fraction:
    """The exact value. Raises BadQuantity."""
    return _parts(text)[0]


@lru_cache(maxsize=4096)
def canonical(text: str) -> str:
    """The canonical form of `text`: no needless zeros, the largest suffix without fraction. Raises BadQuantity."""
    number, suffix = _parts(text)
    nano = number * 10**9
    whole = -((-nano.numerator) // nano.denominator) if nano >= 0 else nano.numerator // nano.denominator
    number = Fraction(whole, 10**9)  # finer than nano is rounded away from zero
    if number == 0:
        return "0"
    if suffix in _BINARY and abs(number) >= 1024 and number.denominator == 1:
        return _binary(number)
    return _decimal(number, exponent=suffix[:1] in ("e",) or (len(suffix) > 1 and suffix[0] == "E"))


def _binary(number: Fraction) -> str:
    whole, power = number.numerator, 0
    while whole % 1024 == 0 and power < len(_BINARY):
        whole, power = whole // 1024, power + 1
    return f"{whole}{_BINARY[power - 1] if power else ''}"


def _decimal(number: Fraction, exponent: bool) -> str:
    power = -9
    digits = int(number * 10**9)
    while digits % 1000 == 0 and (power < 18 or exponent):
        digits, power = digits // 1000, power + 3
    if exponent:
        return f"{digits}e{power}" if power else str(digits)
    return f"{digits}{_SUFFIX[power]}"
