"""Bracketed trees, such as (3 (2 The) (4 film)): a label, and what is below it."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from charlm.corpus.examples import ExampleError, whole_lines
from charlm.errors import InputError

# The steps in which a binary tree is built up, each node after its children. Three of them put
# something on a stack, the others take two from it and put their parent there.
LEAF = "leaf"  # a word with a label
WORD = "word"  # a word without one
EMPTY = "empty"  # nothing, with the zero state
NODE = "node"  # a parent
JOIN = "join"  # one that the text does not have: it joins two of several children
MOVES = (EMPTY, JOIN, LEAF, NODE, WORD)
LABELLED = (LEAF, NODE)
PIECE = re.compile(r"[()]|[^ \t\r\n()]+")  # other spaces of Unicode are characters of a word
ESCAPES = {"-LRB-": "(", "-RRB-": ")"}  # of the Penn Treebank
MOST_QUOTED = 60  # characters
EXAMPLE = "such as (3 (2 good) (2 film))"


class Tree(NamedTuple):
    """A binary tree with labels.

    words:   of its leaves, from left to right
    moves:   the steps that build it up, see `MOVES`
    labels:  of the nodes that have one, in the order of the moves
    """

    words: list[str]
    moves: list[str]
    labels: list[str]


class _Open:
    """A node whose bracket is not closed yet.

    label:     None if the node has none
    children:  their number, with the one that is being read
    atoms:     words and labels that were read
    """

    def __init__(self) -> None:
        self.label: str | None = None
        self.children = 0
        self.atoms = 0


def trees(blocks: Iterable[str], *, labelled: bool = True) -> Iterator[Tree]:
    """The trees of a text. A tree may extend over several lines.

    labelled:  a node with several children must have a label. Otherwise `Tree.labels` has those
               that are there

    A node with one child gets an empty one beside it. More than two children are joined from left
    to right, by nodes without a label. An outermost bracket without a label around a single tree,
    as in the Penn Treebank, is left out. Words are in the normal form NFC.

    Raises ExampleError for what is no tree.

    >>> next(trees(["(3 (2 The) (4 very good film))"])).moves
    ['leaf', 'word', 'word', 'join', 'word', 'node', 'node']
    """
    number = 0
    reader = _Reader(labelled)
    for block in whole_lines(blocks):
        for line in unicodedata.normalize("NFC", block).removesuffix("\n").split("\n"):
            number += 1
            try:
                yield from reader.read(line, number)
            except ValueError as problem:
                raise ExampleError(number, str(problem)) from None
    if reader.open:
        raise ExampleError(
            reader.start, f"the tree is not complete: {len(reader.open)} more ) should follow"
        )


def one_tree(line: str) -> Tree:
    """The tree of a line, whose nodes need no label. Raises InputError."""
    try:
        found = list(trees([line], labelled=False))
    except ExampleError as error:
        raise InputError(
            f"{error.problem}; a text that begins with a bracket is read as a tree: {_start(line)}"
        ) from None
    if len(found) != 1:
        raise InputError(f"{len(found)} trees where one should be: {_start(line)}")
    return found[0]


def _start(line: str) -> str:
    return repr(line if len(line) <= MOST_QUOTED else f"{line[:MOST_QUOTED]}…")


def is_tree(text: str) -> bool:
    """Whether a text is meant as a tree: it begins with a bracket."""
    return text.lstrip().startswith("(")


class TreeLines:
    """Joins the lines of each tree of a file. Lines of a file of texts stay as they are.

    It is a file of trees if its first line that is not blank begins with a bracket. What is no tree
    is left for `one_tree` to name.

    >>> lines = TreeLines()
    >>> lines.whole(["(S (A a)", "   (B b))", "(A"]), lines.whole(["a)"]), lines.rest()
    (['(S (A a) (B b))'], ['(A a)'], [])
    """

    def __init__(self) -> None:
        self.are_trees: bool | None = None
        self._kept: list[str] = []
        self._depth = 0

    def whole(self, lines: Iterable[str]) -> list[str]:
        """The trees that end in these lines, or the lines."""
        found = []
        for line in lines:
            if self.are_trees is None and line.strip():
                self.are_trees = is_tree(line)
            self._kept.append(line.strip() if self._kept else line)
            self._depth = max(self._depth + line.count("(") - line.count(")"), 0)
            if not (self.are_trees and self._depth):
                found += self.rest()
        return found

    def rest(self) -> list[str]:
        """What has not ended."""
        kept, self._kept = self._kept, []
        return [" ".join(kept)] if kept else []


def chain(words: Sequence[str]) -> Tree:
    """The left-branching tree of a text without brackets. It begins with an empty leaf.

    So the state of a node is that of a recurrent network after the words so far.
    """
    return Tree(list(words), [EMPTY, *[LEAF, NODE] * len(words)], [])


class _Reader:
    """Reads trees line by line.

    open:   the nodes around the place that was read last, the outermost first
    start:  the line in which the outermost one began
    """

    def __init__(self, labelled: bool) -> None:
        self.labelled, self.open, self.start = labelled, list[_Open](), 0
        self._tree = Tree([], [], [])

    def read(self, line: str, number: int) -> Iterator[Tree]:
        """The trees that end in this line. Raises ValueError for what is no tree."""
        for piece in PIECE.findall(line):
            if piece == "(":
                if self.open:
                    self._add_child(self.open[-1])
                else:
                    self.start = number
                self.open.append(_Open())
            elif not self.open:
                what = "a bracket is closed" if piece == ")" else f"{piece!r} stands"
                raise ValueError(
                    f"{what} outside of a tree; it should be one, {EXAMPLE}; in a word, brackets "
                    "are written -LRB- and -RRB-"
                )
            elif piece != ")":
                self._read_atom(piece)
            else:
                self._close()
                if not self.open:
                    yield self._tree
                    self._tree = Tree([], [], [])

    def _read_atom(self, piece: str) -> None:
        """A label, if it comes first, and otherwise a word."""
        node = self.open[-1]
        if not (node.atoms or node.children):
            node.label = piece
        else:
            self._add_child(node)
            self._tree.words.append(ESCAPES.get(piece, piece))
            self._tree.moves.append(WORD)
        node.atoms += 1

    def _add_child(self, node: _Open) -> None:
        """Before a child is added: two that are there already become one."""
        if node.children >= 2:
            self._tree.moves.append(JOIN)
        node.children += 1

    def _close(self) -> None:
        node, is_top = self.open.pop(), not self.open
        moves, labels = self._tree.moves, self._tree.labels
        if not node.children:
            if node.label is None:
                raise ValueError("an empty bracket; it should have a label and a word")
            raise ValueError(f"({node.label}) has no label, or no word; write (LABEL {node.label})")
        if node.label is None:
            if self.labelled and not (is_top and node.children == 1):
                raise ValueError(f"a node without a label; each should have one, {EXAMPLE}")
            moves += [NODE] * (node.children > 1)
            return
        labels.append(node.label)
        if node.children == 1 and node.atoms == 2:
            moves[-1] = LEAF
        else:
            moves += [EMPTY] * (node.children == 1) + [NODE]
