"""What a text has copied from the files of a corpus."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from charlm.corpus import copying
from charlm.corpus.copying import Copies
from charlm.corpus.reading import Corpus
from charlm.options import names_keywords


@names_keywords
def copied(
    text: str,
    corpus: str | Path | Sequence[str | Path],
    *,
    min_length: int = 20,
    lines: bool = False,
    encoding: str = "utf-8",
) -> Copies:
    """The passages of a text that are in a corpus, word for word, see `Copies`.

    corpus:      files
    min_length:  characters of a passage that counts
    lines:       a passage ends where its line ends

    Raises InputError for a file that cannot be read.

    >>> charlm.copied("xyz cat sat on zyx", "corpus.txt", min_length=8).pieces[0].text
    ' cat sat on '
    """
    paths = [corpus] if isinstance(corpus, str | Path) else corpus
    blocks = {str(p): Corpus([p], encoding=encoding, once=True).blocks() for p in paths}
    return copying.copied(text, blocks, min_length, lines)
