"""Work that is divided: among the processes of one training, or among shards of a file."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import NamedTuple, TypeVar

from charlm.errors import OptionError

T = TypeVar("T")


class Part(NamedTuple):
    """One of several parts that are about equally large.

    number:  from 0
    of:      the number of parts

    >>> list("abcdefg")[Part(1, 3).every]
    ['b', 'e']
    >>> [Part(k, 3).span(7) for k in range(3)]
    [(0, 2), (2, 4), (4, 7)]
    """

    number: int = 0
    of: int = 1

    @property
    def every(self) -> slice:
        """The items `number`, `number + of`, `number + 2·of`, …"""
        return slice(self.number, None, self.of)

    def span(self, size: int) -> tuple[int, int]:
        """The items [start, end) of `size`, for a part whose items follow each other."""
        return size * self.number // self.of, size * (self.number + 1) // self.of


WHOLE = Part()


def in_groups_of(items: Iterable[T], most: int) -> Iterator[list[T]]:
    """The items in groups of this many; the last one may be smaller.

    >>> list(in_groups_of("abcde", 2))
    [['a', 'b'], ['c', 'd'], ['e']]
    """
    iterator = iter(items)
    while group := list(islice(iterator, most)):
        yield group


def of_part(groups: Iterable[Sequence[T]], part: Part) -> Iterator[Sequence[T]]:
    """The groups, with those items that are in `part.every` of all items together.

    >>> list(of_part([["a", "b", "c"], ["d", "e"]], Part(1, 2)))
    [['b'], ['d']]
    """
    number = 0
    for group in groups:
        yield group[(part.number - number) % part.of :: part.of]
        number += len(group)


class Share(NamedTuple):
    """The share of a batch that one process computes.

    part:       the columns of the batch that it has: `part.every`
    columns:    of the whole batch
    predicted:  number of predicted tokens of the whole batch
    """

    part: Part
    columns: int
    predicted: int


def parse_shard(text: str) -> Part:
    """The part that "I/N" names, I from 1 to N. Raises OptionError for anything else.

    >>> parse_shard("2/8")
    Part(number=1, of=8)
    """
    match = re.fullmatch(r"(\d{1,9})/(\d{1,9})", text)
    if not match or not 1 <= int(match[1]) <= int(match[2]):
        raise OptionError(f"`shard={text}`: give I/N, such as 2/8, with I from 1 to N")
    return Part(int(match[1]) - 1, int(match[2]))
