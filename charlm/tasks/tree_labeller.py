"""The class of the models of `tree`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from charlm.corpus.encoding import TokenFile
from charlm.corpus.examples import FEATURES, TEXT, Examples
from charlm.corpus.trees import (
    JOIN,
    LABELLED,
    NODE,
    Tree,
    TreeLines,
    chain,
    is_tree,
    one_tree,
    trees,
)
from charlm.engines.drawn_trees import branches
from charlm.engines.tree_labels import (
    LABELS,
    OF_MOVES,
    STEPS,
    TreeBatch,
    batches_of,
    found_at_labels,
    logprobs_of,
)
from charlm.engines.tree_scores import TreeScore
from charlm.errors import InputError, OptionError
from charlm.model.backend import Twins
from charlm.model.file import ModelFile
from charlm.model.numpy_trees import NumpyTreeNetwork
from charlm.model.tree_config import TreeConfig
from charlm.options import argument
from charlm.pages.predicted import Looked
from charlm.parts import in_groups_of
from charlm.tasks.labelled import LabelModel
from charlm.tasks.trained import LoadOptions, one_line, several
from charlm.tokenizer import Symbols, Vocabulary
from charlm.tokenizer.known_words import split_at_known
from charlm.tokenizer.symbols import SEPARATOR

if TYPE_CHECKING:
    pass

ROOT_ACCURACY, NODE_ACCURACY = "valid_root_accuracy", "valid_node_accuracy"
TREES_AT_ONCE = 512
MOST_NAMED = 12  # labels
LONGEST_PHRASE, KEPT_END = 200, 80  # characters; the middle of a longer one is left out


class LabelledNode(NamedTuple):
    """A node of a tree and its label.

    label:        the most probable one
    probability:  of this label
    depth:        0 for the root
    phrase:       the words below the node; of a long phrase its beginning and its end
    """

    label: str
    probability: float
    depth: int
    phrase: str


class TreeLabeller(LabelModel):
    """A model that finds a label for every node of a tree.

    See `LabelModel`.
    """

    task = "tree"
    purpose = "labels the nodes of trees (charlm predict)"
    predicted = "node"
    reads_columns = False
    shape, labels_field = TreeConfig, LABELS
    twins = Twins(NumpyTreeNetwork, "charlm.model.tree_network", "TreeNetwork")
    numbered = "node"
    page_shows = "Each node in the colour of its label. Point at it for the probability."
    next_commands = ('charlm predict "a text, or a tree"', "charlm evaluate FILE")
    config: TreeConfig

    def __init__(self, file: ModelFile, path: Path, options: LoadOptions) -> None:
        super().__init__(file, path, options)
        self._words: Symbols = file.vocabulary(TEXT, Symbols.from_state, self.config.vocab)

    @property
    def reads_bytes(self) -> bool:
        return False

    @property
    def labels(self) -> list[str]:
        """All labels, in the order of the alphabet."""
        return self._labels.names

    def predict(self, texts: str | Iterable[str]) -> list[list[LabelledNode]]:
        """The nodes of each tree, the root first, each node before what is below it.

        texts:  one or several. A text that begins with a bracket is a tree, such as
                (3 (2 The) (4 film)); its labels are not looked at, and inner nodes need none. Any
                other text is split into words, and its nodes are the words, and the text up to each
                word

        Raises InputError for a text that begins with a bracket and is no tree.
        """
        return list(self.iter_predict([texts] if isinstance(texts, str) else texts))

    def iter_predict(self, texts: Iterable[str], *, k: int = 1) -> Iterator[list[LabelledNode]]:
        """`predict` for any number of texts, in input order and in bounded memory."""
        if k != 1:
            raise OptionError(f"{argument('k', k)}: is not for `task={self.task}`")
        group: list[Tree] = []
        for text in several(texts):
            try:
                group.append(self._tree(text))
            except InputError:
                yield from self._labelled(group)
                raise
            if len(group) == TREES_AT_ONCE:
                yield from self._labelled(group)
                group = []
        yield from self._labelled(group)

    def _tree(self, text: str) -> Tree:
        if is_tree(one_line(text)):
            return one_tree(text)
        return chain(split_at_known(text, self._words))

    def tree_lines(self) -> TreeLines:
        """What joins the lines of a file of trees."""
        return TreeLines()

    def _labelled(self, group: Sequence[Tree]) -> Iterator[list[LabelledNode]]:
        answers: list[list[LabelledNode]] = [[] for _ in group]
        numbers = [k for k, tree in enumerate(group) if tree.words]
        data = self._examples([group[k] for k in numbers])
        for batch in batches_of(data) if numbers else ():
            logprobs = self._logprobs(data, batch)
            best, highest = logprobs.argmax(axis=2), np.exp(logprobs.max(axis=2))
            for column, k in enumerate(batch.which.tolist()):
                tree, spans = group[numbers[k]], batch.levels.spans[:, :, column].T.tolist()
                answers[numbers[k]] = [
                    LabelledNode(
                        self.labels[int(best[node, column])],
                        float(highest[node, column]),
                        depth,
                        _phrase(tree.words, *spans[node]),
                    )
                    for node, depth in _from_root(tree.moves)
                ]
        yield from answers

    def evaluate(self, text: str | Iterable[str], **options: Any) -> TreeScore:
        """How well the labels of trees are found.

        text:  trees in brackets, as in training: a string, or blocks of it

        Raises ExampleError, an InputError, for what is no tree, and OptionError for options of
        other tasks.
        """
        score = TreeScore()
        self._columns(options)
        for group in in_groups_of(trees([text] if isinstance(text, str) else text), TREES_AT_ONCE):
            data = self._examples(group)
            for batch in batches_of(data):
                found = found_at_labels(batch, self._logprobs(data, batch))
                score += TreeScore.of(found, self.labels)
        return score

    def warning(self, measure: TreeScore, **options: Any) -> str | None:
        """How many labels of a text training has not seen."""
        if not measure.unseen:
            return None
        return (
            f"{measure.unseen:,} of {measure.nodes:,} nodes have a label that the model does not "
            "know; none of them can be right"
        )

    def looked(self, text: str) -> list[tuple[list[Looked], str]]:
        """The nodes of the tree with their labels, each in its own line."""
        (nodes,) = self.predict(text)
        lines: list[tuple[list[Looked], str]] = []
        before = branches([node.depth for node in nodes])
        for branch, (label, p, _, phrase) in zip(before, nodes, strict=True):
            shown = Looked(phrase, tag=label, title=f"{label} {p:.1%}")
            lines.append(([Looked(branch, tag=""), shown], ""))
        return lines

    def _examples(self, group: Sequence[Tree]) -> Examples:
        """Trees in memory."""
        words, moves, labels = (
            "".join(f"{SEPARATOR.join(line)}\n" for line in lines)
            for lines in zip(*(group or [chain([])]), strict=True)
        )
        vocabularies: dict[str, Vocabulary] = {
            TEXT: self._words, STEPS: OF_MOVES, LABELS: self._labels, FEATURES: self._features,
        }  # fmt: skip
        fields = {TEXT: words, STEPS: moves, LABELS: labels, FEATURES: words}
        encoded = {n: TokenFile.of(vocabularies[n].encode_ids(b)) for n, b in fields.items()}
        return Examples(encoded, vocabularies)

    def _logprobs(self, data: Examples, batch: TreeBatch) -> NDArray[np.floating]:
        network = self.backends.for_tokens(batch.words.size)
        return logprobs_of(network, data, self.linear, batch)

    def validation(self) -> str:
        figures = self.card.figures
        shown = [
            f"{name} accuracy {figures[key]:.2%}"
            for name, key in (("root", ROOT_ACCURACY), ("node", NODE_ACCURACY))
            if figures.get(key) is not None
        ]
        return ", ".join([*shown, super().validation()])

    def about(self) -> dict[str, str]:
        few = ", ".join(self.labels[:MOST_NAMED]) + (", …" if len(self.labels) > MOST_NAMED else "")
        return {
            "labels": f"{len(self.labels):,}: {few}",
            "tokens": f"words, a vocabulary of {self.config.vocab:,}",
        } | super().about()

    def record(self) -> dict[str, Any]:
        return {"level": "word", "labels": self.labels}


def _from_root(moves: Sequence[str]) -> Iterator[tuple[int, int]]:
    """The numbers and the depths of the nodes of a text's own tree, each before those below it."""
    children: list[list[int]] = []
    stack: list[int] = []
    for number, move in enumerate(moves):
        own: list[int] = []
        if move in (NODE, JOIN):
            pair = stack[-2:]
            del stack[-2:]
            for child in pair:
                if moves[child] == JOIN:
                    own = children[child]  # a left one, whose children come first
                elif moves[child] in LABELLED:
                    own.append(child)
        children.append(own)
        stack.append(number)
    below = [(number, 0) for number in stack]
    while below:
        number, depth = below.pop()
        yield number, depth
        below += [(child, depth + 1) for child in reversed(children[number])]


def _phrase(words: Sequence[str], start: int, end: int) -> str:
    first = " ".join(words[start : min(end, start + LONGEST_PHRASE)])
    if end - start <= LONGEST_PHRASE >= len(first):
        return first
    last = " ".join(words[max(end - KEPT_END, start) : end])
    return f"{first[: LONGEST_PHRASE - KEPT_END]} … {last[-KEPT_END:]}"
