"""Numbers and how they are said in English, up to 999,999."""

from __future__ import annotations

import random
from collections.abc import Iterator

ONES = (
    *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"),
    *("eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen"),
    "nineteen",
)
TENS = ("", "", "twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
LARGEST = 999_999


def in_words(number: int) -> str:
    """A number in words.

    >>> in_words(40_312), in_words(7), in_words(200_006)
    ('forty thousand three hundred and twelve', 'seven', 'two hundred thousand and six')
    """
    if not 0 <= number <= LARGEST:
        raise ValueError(f"{number} is not from 0 to {LARGEST}")
    thousands, rest = divmod(number, 1000)
    if not thousands:
        return _below_thousand(rest)
    words = f"{_below_thousand(thousands)} thousand"
    if not rest:
        return words
    return f"{words}{' and' if rest < 100 else ''} {_below_thousand(rest)}"


def _below_thousand(number: int) -> str:
    hundreds, rest = divmod(number, 100)
    if not hundreds:
        return _below_hundred(rest)
    words = f"{ONES[hundreds]} hundred"
    return f"{words} and {_below_hundred(rest)}" if rest else words


def _below_hundred(number: int) -> str:
    if number < len(ONES):
        return ONES[number]
    tens, ones = divmod(number, 10)
    return f"{TENS[tens]}-{ONES[ones]}" if ones else TENS[tens]


def numbers(seed: int) -> Iterator[int]:
    """An endless sample, in which numbers of every length are equally frequent."""
    rng = random.Random(seed)
    while True:
        digits = rng.randint(1, 6)
        yield rng.randrange(10 ** (digits - 1) if digits > 1 else 0, 10**digits)
