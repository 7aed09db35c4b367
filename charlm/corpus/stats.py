"""Facts about a corpus."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class CorpusStats:
    """Facts about a corpus, from one pass over it.

    chars:         number of characters, line ends included
    lines:         number of line ends
    longest_line:  in characters, without its line end
    sha256:        hash of the text as UTF-8
    """

    chars: int
    lines: int
    longest_line: int
    sha256: str

    @property
    def has_hardly_any_lines(self) -> bool:
        """Whether lines have over 5,000 characters on average, in a text of over 20,000."""
        return self.chars > 20_000 and self.chars > 5_000 * self.lines


@dataclass(frozen=True)
class CorpusInfo(CorpusStats):
    """What is known about an encoded corpus.

    name:         of the corpus
    valid_chars:  characters of the first field of the validation part
    held_out:     False if the validation part is the training part itself
    """

    name: str
    valid_chars: int
    held_out: bool
