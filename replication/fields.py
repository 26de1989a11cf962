"""What the configuration's dataclasses are made with: checks of a field, fields added later, numbers in names."""

from __future__ import annotations

from dataclasses import field
from typing import Any


def later(default: Any) -> Any:
    """A field added after runs were made: it enters the digest only where it is not at its default.

    So the digests of those runs, and the rows that quote them, stay what they were.
    """
    return field(default=default, metadata={"later": True})


def require(holds: bool, field: str, value: object, expected: str) -> None:
    """Refuse a value out of range, by the name of its field and with what was expected.

    Raises:
        ValueError: unless `holds`.
    """
    if not holds:
        raise ValueError(f"{field}={value!r}; expected {expected}")


def number(value: float) -> str:
    """The one spelling of a number in names: 2e-4, 0.5, 16, 300k, 20b.

    >>> [number(v) for v in (0.0002, 16, 614400, 20e9, 0.5, 0.25e9)]
    ['2e-4', '16', '614.4k', '20b', '0.5', '250m']
    """
    for size, letter in ((1e9, "b"), (1e6, "m"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.6g}{letter}"
    if value and abs(value) < 0.1:
        mantissa, exponent = f"{value:.6e}".split("e")
        return f"{float(mantissa):g}e{int(exponent)}"
    return f"{value:g}"
