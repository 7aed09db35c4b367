"""Tag the sentences of sentences.grammar: the part of speech and the chunk of each token.

The tags come from the derivation of a sentence and from sentences.tags. The parts of speech are
those of Universal Dependencies. The chunks are those of CoNLL-2000 (Tjong Kim Sang and Buchholz
2000) in BIO: B-NP begins a chunk of type NP, I-NP continues it, O is outside of all chunks.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import product
from pathlib import Path
from typing import NamedTuple, Self

from corpora.grammar import Tree

TOKEN = re.compile(r"'s|\w+|[^\w\s]")  # "'s", a word, or a punctuation mark
ENTRY = re.compile(r"([A-Z]+)/((?:B-)?[A-Z]+)((?: in| after)(?: \w+)+)? = (.+)")


class Token(NamedTuple):
    """A token of a sentence, and the rule of the grammar whose text it is."""

    word: str
    rule: str


class Tag(NamedTuple):
    """What sentences.tags says about a word.

    chunk:  the type of its chunk, or O; with B- before it if the word always begins a chunk
    """

    part_of_speech: str
    chunk: str


class TaggedToken(NamedTuple):
    """A token with its tags.

    chunk:  in BIO
    """

    word: str
    part_of_speech: str
    chunk: str


class Lexicon:
    """The tags of the words of a grammar."""

    def __init__(self, tags: dict[tuple[str, str], Tag]) -> None:
        """tags: by (context, word). A context is "in Rule", "after Rule", "after word" or ""."""
        self.tags = tags

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a file of tags. Raises ValueError, with the line number, if it is malformed."""
        return cls.parse(path.read_text(encoding="utf-8"))

    @classmethod
    def parse(cls, text: str) -> Self:
        """Build a lexicon from the text of a file. Raises ValueError as `read` does."""
        tags: dict[tuple[str, str], Tag] = {}
        for line, entry in _entries(text):
            if not (match := ENTRY.fullmatch(entry)):
                raise ValueError(f"line {line}: expected 'TAG/CHUNK = words'")
            for context, word in product(_contexts(match[3] or ""), match[4].split()):
                if (context, word) in tags:
                    raise ValueError(f"line {line}: '{word}' has a tag already")
                tags[context, word] = Tag(match[1], match[2])
        return cls(tags)

    def tag(self, token: Token, previous: Token | None) -> Tag:
        """The tag of a token. `previous` is the token before it; None at the start.

        Raises KeyError if there is none.
        """
        contexts = [f"in {token.rule}", ""]
        if previous:
            contexts = [f"after {previous.word.lower()}", f"after {previous.rule}", *contexts]
        for key in product(contexts, (token.word, token.word.lower())):
            if key in self.tags:
                return self.tags[key]
        raise KeyError(token.word)


def _entries(text: str) -> Iterator[tuple[int, str]]:
    """The number of the first line and the text of each entry."""
    entries: list[tuple[int, str]] = []
    for number, line in enumerate(text.split("\n"), start=1):
        if line.startswith(" ") and entries:
            entries[-1] = (entries[-1][0], entries[-1][1] + line)
        elif line and not line.startswith("#"):
            entries.append((number, line))
    yield from entries


def _contexts(text: str) -> list[str]:
    """Such as "in Kitchen" and "in Did" of the text " in Kitchen Did"; "" of an empty text."""
    kind, *names = text.split() or [""]
    return [f"{kind} {name}" for name in names] or [""]


def tag_tokens(tree: Tree, lexicon: Lexicon) -> list[TaggedToken]:
    """The tokens of a derivation with their tags. Raises KeyError for a word that has no tag."""
    tokens = [Token(word, rule) for rule, text in tree.leaves() for word in TOKEN.findall(text)]
    previous = [None, *tokens[:-1]]
    tags = [lexicon.tag(*pair) for pair in zip(tokens, previous, strict=True)]
    chunks = bio(with_adjective_phrases(tags))
    return [
        TaggedToken(token.word, tag.part_of_speech, chunk)
        for token, tag, chunk in zip(tokens, tags, chunks, strict=True)
    ]


def with_adjective_phrases(tags: Sequence[Tag]) -> list[str]:
    """(tokens,) the chunk of each tag, where an adjective at the end of an NP becomes an ADJP."""
    chunks: list[str] = []
    following = "O"
    for tag in reversed(tags):
        predicative = tag.part_of_speech == "ADJ" and tag.chunk == "NP" and following != "NP"
        following = "ADJP" if predicative else tag.chunk
        chunks.append(following)
    return chunks[::-1]


def bio(chunks: Sequence[str]) -> list[str]:
    """(tokens,) the chunk tags in BIO.

    >>> bio(["NP", "VP", "B-NP", "NP", "B-NP", "O"])
    ['B-NP', 'B-VP', 'B-NP', 'I-NP', 'B-NP', 'O']
    """
    tags: list[str] = []
    before = "O"
    for chunk in chunks:
        type = chunk.removeprefix("B-")
        begins = chunk != type or type != before
        tags.append("O" if type == "O" else f"{'B' if begins else 'I'}-{type}")
        before = type
    return tags
