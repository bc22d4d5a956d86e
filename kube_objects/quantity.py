"""Resource quantities ("100m", "64Mi", "1e3"), exact.

Used where resources, size limits and divisors are read. Pure. Source: API type resource.Quantity (k8s.io/apimachinery).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import ROUND_CEILING, ROUND_FLOOR, Context, Decimal

_FORM = re.compile(r"([+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+))(Ki|Mi|Gi|Ti|Pi|Ei|n|u|m|k|M|G|T|P|E|[eE][+-]?[0-9]+)?\Z")
_BINARY = {name: Decimal(1 << (10 * power)) for power, name in enumerate(("Ki", "Mi", "Gi", "Ti", "Pi", "Ei"), start=1)}
_DECIMAL = {"n": -9, "u": -6, "m": -3, "": 0, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}
_EXACT = Context(prec=100)
_MAX = Decimal((1 << 63) - 1)
_NANO = Decimal("1e-9")


@dataclass(frozen=True, order=True)
class Quantity:
    """An exact amount; rounding is always away from less (up), as upstream rounds."""

    value: Decimal

    def milli(self) -> int:
        """Thousandths (of a CPU), rounded up."""
        return _up(self.value * 1000)

    def bytes(self) -> int:
        """Whole units (bytes), rounded up."""
        return _up(self.value)


def parse_quantity(text: str | int | float) -> Quantity:
    """The amount of a quantity as the API server reads it. Raises ValueError that quotes the text.

    Finer than a billionth is rounded up, more than 2**63-1 is cut to that, both as upstream does.
    """
    match = _FORM.match(str(text))
    if match is None:
        raise ValueError(f"{str(text)!r} is not a quantity such as 100m, 0.5, 64Mi or 2G")
    number, suffix = Decimal(match[1]), match[2] or ""
    if suffix in _BINARY:
        value = _EXACT.multiply(number, _BINARY[suffix])
    else:
        exponent = _DECIMAL[suffix] if suffix in _DECIMAL else int(suffix[1:])
        if abs(exponent) > 1000:
            raise ValueError(f"{str(text)!r} is not a quantity: the exponent is out of range")
        value = _EXACT.scaleb(number, exponent)
    if abs(value) >= _MAX:
        return Quantity(_MAX.copy_sign(value))
    rounding = ROUND_CEILING if value >= 0 else ROUND_FLOOR
    return Quantity(value.quantize(_NANO, rounding=rounding, context=_EXACT).normalize(_EXACT))


def milli_text(milli: int) -> str:
    """Thousandths of a CPU as the API server writes them: 2000 is "2", 1500 is "1500m"."""
    return _decimal_text(milli // 1000) if milli % 1000 == 0 else f"{milli}m"


def bytes_text(count: int) -> str:
    """Bytes as the API server writes them, with the greatest unit that leaves no fraction: 2048 is "2Ki", 5000 "5k"."""
    unit = ""
    for name in _BINARY:
        if count < 1024 or count % 1024:
            break
        count, unit = count // 1024, name
    return f"{count}{unit}" if unit else _decimal_text(count)


def _decimal_text(count: int) -> str:
    unit = ""
    for name in ("k", "M", "G", "T", "P", "E"):
        if not count or count % 1000:
            break
        count, unit = count // 1000, name
    return f"{count}{unit}"


def _up(value: Decimal) -> int:
    return int(value.to_integral_value(rounding=ROUND_CEILING if value >= 0 else ROUND_FLOOR))
