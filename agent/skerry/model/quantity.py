"""Kubernetes quantities to integers. Source: Kubernetes API reference, resource.Quantity."""

from __future__ import annotations

import re
from decimal import Decimal

from skerry.model.reader import Field

CHARS_MAX = 64  # more digits than any quantity has; Decimal's own arithmetic has bounds that raise
_FORM = re.compile(r"(?a)([+-]?(?:\d+\.?\d*|\.\d+))(?:(m|u|n|k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei)|[eE]([+-]?\d{1,3}))?")
_FACTOR = {None: Decimal(1), "m": Decimal("1e-3"), "u": Decimal("1e-6"), "n": Decimal("1e-9")}
_FACTOR |= {s: Decimal(1000) ** (i + 1) for i, s in enumerate("kMGTPE")}
_FACTOR |= {s + "i": Decimal(1024) ** (i + 1) for i, s in enumerate("KMGTPE")}


def quantity(field: Field, scale: int = 1) -> int:
    """The quantity times `scale`, rounded up as Kubernetes does; 0 when absent. Raises Refused."""
    value = field.value
    if value is None:
        return 0
    if type(value) is int and abs(value) < 1 << 63:
        value = str(value)
    if not isinstance(value, str):
        field.refuse("a quantity such as 500m or 64Mi is expected")
    match = _FORM.fullmatch(value) if len(value) <= CHARS_MAX else None
    if match is None:
        field.refuse(f"{value[:40]!r} is not a quantity such as 500m or 64Mi")
    number = Decimal(match[1]) * (_FACTOR[match[2]] if match[3] is None else Decimal(10) ** int(match[3])) * scale
    if not 0 <= number < 1 << 62:
        field.refuse(f"{value[:40]!r} is out of range")
    return int(number.to_integral_value(rounding="ROUND_CEILING"))
