"""Exact arithmetic on fractions with bounds on size, for the calculator.

A value is a fraction. Roots, and fractions that outgrow the bounds, are rounded to 60 significant digits and
marked as no longer exact; 12 of these digits are shown, since small models copy more of them wrongly. No operation
builds a number far beyond the bounds, so none takes long: the size of a power is estimated before it is computed.
"""

from __future__ import annotations

import decimal
import math
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction

__all__ = [
    "BINARY",
    "CONSTANTS",
    "FUNCTIONS",
    "Function",
    "Number",
    "UndefinedError",
    "literal",
    "negate",
    "render",
]

MAX_DIGITS = 10_000
SHOWN_DIGITS = 12
MAX_FACTORIAL = 3_248  # the last one with at most MAX_DIGITS digits
MAX_ROUND_DIGITS = 100
_TOO_LARGE = 10**MAX_DIGITS
_TOO_LARGE_BITS = _TOO_LARGE.bit_length()
_TRAPS = [decimal.InvalidOperation, decimal.DivisionByZero, decimal.Overflow, decimal.Underflow]
_WORKING = decimal.Context(prec=60, Emax=100_000, Emin=-100_000, traps=_TRAPS)
_SHOWN = decimal.Context(prec=SHOWN_DIGITS, Emax=100_000, Emin=-100_000, traps=_TRAPS)


class UndefinedError(ValueError):
    """The operation has no answer, or none within the bounds; the message says why."""


@dataclass(frozen=True)
class Number:
    """A value, and whether it is exact or rounded to 60 significant digits."""

    value: Fraction
    exact: bool = True


@dataclass(frozen=True)
class Function:
    """A function that expressions may call, with the least and the largest number of its arguments."""

    least: int
    most: int | None
    call: Callable[..., Number]


def bounded(value: Fraction, exact: bool = True) -> Number:
    """`value` as a Number; rounded when its fraction is too long. Raises UndefinedError beyond 10^±10,000."""
    if abs(value.numerator) < _TOO_LARGE and value.denominator < _TOO_LARGE:
        return Number(value, exact)
    if abs(value.numerator.bit_length() - value.denominator.bit_length()) >= _TOO_LARGE_BITS:
        raise _beyond_bounds()
    return _rounded(_decimal(value))


def literal(whole: str, fraction: str, exponent: str) -> Number:
    """Return the number written as `whole.fraction` times ten to the power of `exponent`, all without separators."""
    power = int(exponent or "0")
    if abs(power) > MAX_DIGITS + len(whole) + len(fraction):
        raise _beyond_bounds()
    digits = int(whole + fraction or "0")
    return bounded(digits * Fraction(10) ** (power - len(fraction)))


def render(number: Number) -> str:
    """Return the number as text: whole numbers and terminating decimals exactly, others rounded and marked so."""
    value = number.value
    if number.exact:
        exactly = _terminating(value)
        if exactly is not None:
            return exactly
    text = _significant(value)
    fraction = f"{value.numerator}/{value.denominator}" if _is_short(value) and number.exact else ""
    return f"{text} (rounded; exactly {fraction})" if fraction else f"{text} (rounded)"


def negate(a: Number) -> Number:
    """Return the number with the other sign."""
    return Number(-a.value, a.exact)


def _add(a: Number, b: Number) -> Number:
    return bounded(a.value + b.value, a.exact and b.exact)


def _subtract(a: Number, b: Number) -> Number:
    return bounded(a.value - b.value, a.exact and b.exact)


def _multiply(a: Number, b: Number) -> Number:
    return bounded(a.value * b.value, a.exact and b.exact)


def _divide(a: Number, b: Number) -> Number:
    return bounded(a.value / _divisor(b), a.exact and b.exact)


def _floor_divide(a: Number, b: Number) -> Number:
    return bounded(Fraction(a.value // _divisor(b)), a.exact and b.exact)


def _remainder(a: Number, b: Number) -> Number:
    return bounded(a.value % _divisor(b), a.exact and b.exact)


def _divisor(b: Number) -> Fraction:
    if b.value == 0:
        raise UndefinedError("division by zero")
    return b.value


def _power(a: Number, b: Number) -> Number:
    base, exponent = a.value, b.value
    if base == 0 and exponent < 0:
        raise UndefinedError("division by zero (zero to a negative power)")
    if exponent.denominator != 1:
        return _fractional_power(a, b)
    exact = a.exact and b.exact
    if abs(base) in (0, 1):
        return Number(base ** (2 + exponent.numerator % 2) if exponent else Fraction(1), exact)
    # A lower bound: a number of n bits is at least 2^(n-1)
    bits = (max(base.numerator.bit_length(), base.denominator.bit_length()) - 1) * abs(exponent.numerator)
    if bits <= _TOO_LARGE_BITS:
        return bounded(base**exponent.numerator, exact)
    return _decimal_power(base, exponent)


def _fractional_power(a: Number, b: Number) -> Number:
    if a.value < 0:
        raise UndefinedError("a negative number to a fractional power")
    if a.value == 0:
        return a
    root = _exact_root(a.value, b.value.denominator)
    if root is not None:
        return _power(Number(root, a.exact and b.exact), Number(Fraction(b.value.numerator)))
    return _decimal_power(a.value, b.value)


def _exact_root(value: Fraction, degree: int) -> Fraction | None:
    numerator = _integer_root(value.numerator, degree)
    denominator = _integer_root(value.denominator, degree)
    return Fraction(numerator, denominator) if numerator and denominator else None


def _integer_root(value: int, degree: int) -> int | None:
    if value == 1:
        return 1
    if degree >= value.bit_length():
        return None
    if degree == 2:
        root = math.isqrt(value)
    else:
        # Rounded first: the power of an operand of thousands of digits would take seconds
        root = round(_WORKING.power(_decimal(Fraction(value)), _decimal(Fraction(1, degree))))
    return root if root**degree == value else None


def _decimal_power(base: Fraction, exponent: Fraction) -> Number:
    # Beyond it, the rounding of the base to 60 digits would reach the digits that are shown
    if abs(exponent) > 10**20:
        raise _beyond_bounds()
    sign = -1 if base < 0 and exponent.numerator % 2 else 1
    try:
        power = _WORKING.power(_decimal(abs(base)), _decimal(exponent))
    except (decimal.Overflow, decimal.Underflow, decimal.InvalidOperation) as error:
        raise _beyond_bounds() from error
    number = _rounded(power)
    return Number(sign * number.value, exact=False)


def _sqrt(a: Number) -> Number:
    if a.value < 0:
        raise UndefinedError("the square root of a negative number")
    if a.value == 0:
        return a
    root = _exact_root(a.value, 2)
    return Number(root, a.exact) if root is not None else _rounded(_WORKING.sqrt(_decimal(a.value)))


def _abs(a: Number) -> Number:
    return Number(abs(a.value), a.exact)


def _min(*numbers: Number) -> Number:
    return Number(min(number.value for number in numbers), all(number.exact for number in numbers))


def _max(*numbers: Number) -> Number:
    return Number(max(number.value for number in numbers), all(number.exact for number in numbers))


def _round(a: Number, digits: Number = Number(Fraction(0))) -> Number:
    """Halves go away from zero, as in spreadsheets."""
    if digits.value.denominator != 1 or abs(digits.value) > MAX_ROUND_DIGITS:
        raise UndefinedError(f"the digits of round must be a whole number up to {MAX_ROUND_DIGITS}")
    scale = Fraction(10) ** digits.value.numerator
    whole = math.floor(abs(a.value) * scale + Fraction(1, 2))
    return bounded((whole if a.value >= 0 else -whole) / scale, a.exact)


def _factorial(a: Number) -> Number:
    if a.value.denominator != 1 or a.value < 0:
        raise UndefinedError("factorial needs a whole number from 0")
    if a.value > MAX_FACTORIAL:
        raise _beyond_bounds()
    return Number(Fraction(math.factorial(a.value.numerator)), a.exact)


def _beyond_bounds() -> UndefinedError:
    return UndefinedError(f"the result is too large or too small (more than {MAX_DIGITS:,} digits)")


def _decimal(value: Fraction) -> Decimal:
    return _WORKING.divide(Decimal(value.numerator), Decimal(value.denominator))


def _rounded(value: Decimal) -> Number:
    if abs(value.adjusted()) >= MAX_DIGITS:
        raise _beyond_bounds()
    return Number(Fraction(value), exact=False)


def _is_short(value: Fraction) -> bool:
    return abs(value.numerator) < 10**12 and value.denominator < 10**12


def _terminating(value: Fraction) -> str | None:
    """`value` as a decimal with all its digits, or None when it has no end or more than MAX_DIGITS."""
    places = _decimal_places(value.denominator)
    if places is None or places > MAX_DIGITS:
        return None
    scaled = value.numerator * 10**places // value.denominator
    # Not str(int), which Python limits to 4,300 digits; Decimal has no such limit
    digits = format(Decimal(abs(scaled)), "f").rjust(places + 1, "0")
    if len(digits) > MAX_DIGITS:
        return None
    sign = "-" if value < 0 else ""
    return f"{sign}{digits[:-places]}.{digits[-places:]}" if places else f"{sign}{digits}"


def _decimal_places(denominator: int) -> int | None:
    twos = (denominator & -denominator).bit_length() - 1
    rest = denominator >> twos
    fives = round(math.log(rest, 5))
    return max(twos, fives) if 5**fives == rest else None


def _significant(value: Fraction) -> str:
    quotient = _SHOWN.divide(Decimal(value.numerator), Decimal(value.denominator)).normalize(_SHOWN)
    plain = -7 <= quotient.adjusted() < SHOWN_DIGITS
    return format(quotient, "f") if plain else str(quotient)


BINARY: dict[str, Callable[[Number, Number], Number]] = {
    "+": _add,
    "-": _subtract,
    "*": _multiply,
    "/": _divide,
    "//": _floor_divide,
    "%": _remainder,
    "^": _power,
}

FUNCTIONS: dict[str, Function] = {
    "sqrt": Function(1, 1, _sqrt),
    "abs": Function(1, 1, _abs),
    "min": Function(1, None, _min),
    "max": Function(1, None, _max),
    "round": Function(1, 2, _round),
    "factorial": Function(1, 1, _factorial),
}

CONSTANTS: dict[str, Number] = {
    "pi": Number(Fraction("3.14159265358979323846264338327950288419716939937510582097494"), exact=False),
    "e": Number(Fraction("2.71828182845904523536028747135266249775724709369995957496697"), exact=False),
}
