"""The class of the models of `tag`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from charlm.corpus import conll
from charlm.corpus.encoding import TokenFile
from charlm.corpus.examples import FEATURES, TEXT, Examples
from charlm.corpus.labelled import ColumnOptions
from charlm.corpus.reading import Corpus
from charlm.engines.activations import Reading
from charlm.engines.chunks import are_chunk_tags
from charlm.engines.tag_scores import TagScore
from charlm.engines.tagging import (
    LETTERS,
    TAGS,
    UNSEEN,
    Found,
    best_tags,
    emissions,
    padded_tags,
    sequence_nats,
    spellings_of,
)
from charlm.errors import ModelError, OptionError
from charlm.model import crf
from charlm.model.activations import ObservedStack
from charlm.model.backend import Twins
from charlm.model.file import ModelFile
from charlm.model.names import strip_prefix
from charlm.model.numpy_sequences import NumpyTagger
from charlm.model.sequence_config import TaggerConfig
from charlm.options import argument
from charlm.pages.predicted import Looked
from charlm.parts import in_groups_of
from charlm.tasks.labelled import LabelModel
from charlm.tasks.trained import LoadOptions, one_line, one_line_end
from charlm.tokenizer import EOS, UNK, Characters, Encoding, Symbols, Vocabulary
from charlm.tokenizer.known_words import split_at_known
from charlm.tokenizer.symbols import SEPARATOR

if TYPE_CHECKING:
    pass

ACCURACY, F1 = "valid_accuracy", "valid_f1"
SENTENCES_AT_ONCE = 1024
MOST_SHOWN = 12  # tags
COLUMN_SUFFIXES = (".conll", ".conllu", ".iob", ".bio", ".col", ".tsv")


class TaggedWord(NamedTuple):
    """A word, its tag, and the probability that it has this tag."""

    word: str
    tag: str
    probability: float


class WordTagger(LabelModel):
    """A model that finds a tag for every word of a sentence.

    See `LabelModel`.
    """

    task = "tag"
    purpose = "tags words (charlm predict)"
    predicted = "tag"
    shape, labels_field = TaggerConfig, TAGS
    twins = Twins(NumpyTagger, "charlm.model.tagger", "Tagger")
    numbered = "position"
    page_shows = "Each word in the colour of its tag. Point at it for the probability."
    next_commands = ('charlm predict "a sentence"', "charlm predict --file FILE.conll")
    config: TaggerConfig

    def __init__(self, file: ModelFile, path: Path, options: LoadOptions) -> None:
        super().__init__(file, path, options)
        self._words: Symbols = file.vocabulary(TEXT, Symbols.from_state, self.config.vocab)
        letters = file.part(LETTERS, Characters.from_state)
        if letters is None:
            raise ModelError(f"{path}: the model file is damaged (letters); copy or train it again")
        self.tokenizer = letters

    @property
    def tags(self) -> list[str]:
        """All tags, in the order of the alphabet."""
        return self._labels.names

    @cached_property
    def are_chunks(self) -> bool:
        """Whether the tags mark chunks, such as B-NP and I-NP."""
        return are_chunk_tags(self.tags)

    def predict(self, sentences: Iterable[str | Sequence[str]]) -> list[list[TaggedWord]]:
        """The words of each sentence with their tags: the most probable sequence of tags.

        sentences:  texts, or lists of words. A text is split by
                    `charlm.tokenizer.known_words.split_at_known`
        """
        return list(self.iter_predict(sentences))

    def iter_predict(
        self, texts: Iterable[str | Sequence[str]], *, k: int = 1
    ) -> Iterator[list[TaggedWord]]:
        """`predict` for any number of sentences, in input order and in bounded memory."""
        if k != 1:
            raise OptionError(f"{argument('k', k)}: is not for `task={self.task}`")
        group: list[Sequence[str]] = []
        for text in texts:
            if isinstance(text, str):
                text = split_at_known(one_line(text), self._words)
            group.append(text)
            if len(group) == SENTENCES_AT_ONCE:
                yield from self._tagged(group)
                group = []
        yield from self._tagged(group)

    def _tagged(self, sentences: Sequence[Sequence[str]]) -> Iterator[list[TaggedWord]]:
        tagged: list[list[TaggedWord]] = [[] for _ in sentences]
        data = self._examples(sentences)
        numbers = [k for k, words in enumerate(sentences) if words]
        for found in self._found(data):
            tags = crf.best_tags(found.emissions, found.lengths, self._transitions)
            logprobs = crf.log_marginals(found.emissions, found.lengths, self._transitions)
            for column, k in enumerate(found.which.tolist()):
                words = sentences[numbers[k]]
                own = tags[: len(words), column]
                p = np.exp(logprobs[np.arange(len(words)), column, own])
                names = (self.tags[tag] for tag in own.tolist())
                zipped = zip(words, names, p.tolist(), strict=True)
                tagged[numbers[k]] = [TaggedWord(*each) for each in zipped]
        yield from tagged

    def are_columns(self, path: str) -> bool:
        """Whether a file looks like one of columns: by its suffix, or a TAB in its first line."""
        if Path(path).suffix.lower() in COLUMN_SUFFIXES:
            return True
        for block in Corpus([path]).blocks():
            return "\t" in block.lstrip().split("\n", 1)[0]
        return False

    def annotate(self, blocks: Iterable[str], **columns: str | None) -> Iterator[str]:
        """The sentences of a file of columns, with the tags as a further column; see
        `charlm.corpus.conll.with_tags`.

        columns:  text_column, label_column; without them those of the training

        Raises ExampleError, an InputError, for a line without that column.
        """
        own = ColumnOptions(**columns) if columns else self.columns
        column = conll.column_number("text_column", own.text_column)
        label_column = conll.column_number("label_column", own.label_column)
        for group in in_groups_of(conll.sentences(blocks), SENTENCES_AT_ONCE):
            words = [conll.words(s, column) if s.rows else [] for s in group]
            for sentence, tagged in zip(group, self._tagged(words), strict=True):
                yield conll.with_tags(sentence, [each.tag for each in tagged], label_column)

    def evaluate(self, text: str | Iterable[str], **options: Any) -> TagScore:
        """How well the tags of a text are found.

        text:     sentences in columns, as in training: a string, or blocks of it
        options:  text_column, label_column; without them those of the training

        Raises ExampleError, an InputError, for a line without these columns, and OptionError for
        options of a language model.
        """
        score = TagScore(chunks={} if self.are_chunks else None)
        blocks = [text] if isinstance(text, str) else text
        columns = self._columns(options)
        read = conll.tagged_sentences(blocks, columns)
        for group in in_groups_of(read, SENTENCES_AT_ONCE):
            score += self._measured([w for w, _ in group], [t for _, t in group])
        return score

    def _measured(self, words: Sequence[list[str]], tags: Sequence[list[str]]) -> TagScore:
        data = self._examples(words, tags)
        answers: list[list[str]] = [[] for _ in words]
        unseen: list[list[bool]] = [[] for _ in words]
        nats, unseen_tags = 0.0, 0
        for found in self._found(data):
            truth, best = padded_tags(data, found), best_tags(found, self._transitions)
            nats += sequence_nats(found, truth, best, self._transitions)
            unseen_tags += int(np.count_nonzero(truth == UNSEEN))
            for column, k in enumerate(found.which.tolist()):
                n = len(words[k])
                answers[k] = [self.tags[tag] for tag in best[:n, column].tolist()]
                unseen[k] = (self._words.encode_ids(SEPARATOR.join(words[k])) == UNK).tolist()
        return TagScore.of(
            tags, answers, unseen, nats, are_chunks=self.are_chunks, unseen_tags=unseen_tags
        )

    def warning(self, measure: TagScore, **options: Any) -> str | None:
        """How many tags of a text training has not seen."""
        if not measure.unseen_tags:
            return None
        return (
            f"{measure.unseen_tags:,} of {measure.tokens:,} words have a tag that the model does "
            "not know; none of them can be right"
        )

    def looked(self, text: str) -> list[tuple[list[Looked], str]]:
        """The words of a text with their tags, and what stands between them."""
        (tagged,) = self.predict([text])
        pieces, done = [], 0
        for word, tag, p in tagged:
            start = text.index(word, done)
            pieces += [Looked(text[done:start], tag="")] if start > done else []
            shown = "" if tag == "O" and self.are_chunks else tag
            pieces.append(Looked(word, tag=shown, title=f"{tag} {p:.1%}"))
            done = start + len(word)
        return [(pieces, "")]

    def reading(self, text: str) -> Reading:
        """The words of a text as the recurrent layers read them, each line by itself."""
        text, network = one_line_end(text), self.backends.numpy
        ids, spans, words, start = list[int](), [], list[str](), 0
        for line in text.split("\n"):
            own, done = split_at_known(line, self._words), start
            for word in own:
                done = text.index(word, done) + len(word)
                spans.append((done - len(word), done))
            ids += self._words.encode_ids(SEPARATOR.join(own)).tolist() if own else []
            ids.append(EOS)
            start += len(line) + 1
            spans.append((start - 1, start))
            words += own
        encoding = Encoding(np.array(ids[:-1], np.int64), np.array(spans[:-1], np.int64))
        stack = ObservedStack.of(
            self.config, strip_prefix("layers", network.weights), self._vectors(words)
        )
        is_word = encoding.ids != EOS
        return Reading.of(text, encoding, [stack], rows=np.cumsum(is_word) - is_word)

    def _vectors(self, words: Sequence[str]) -> NDArray[np.float32]:
        """(n, I) what the first recurrent layer reads of each word."""
        network, data = self.backends.numpy, self._examples([words])
        if not words:
            return np.zeros((1, self.config.inputs), np.float32)
        which = np.zeros(1, np.int64)
        ids = data.padded(TEXT, which)[: len(words)]
        spellings = spellings_of(data, which, len(ids)) if self.config.characters else ()
        vectors: NDArray[np.float32] = network.vectors(ids, *spellings)[:, 0]
        return vectors

    def _examples(
        self, words: Sequence[Sequence[str]], tags: Sequence[Sequence[str]] = ()
    ) -> Examples:
        """Those sentences that have words, in memory."""
        block = conll.as_lines(filter(None, words))
        vocabularies: dict[str, Vocabulary] = {
            TEXT: self._words, LETTERS: self.tokenizer, TAGS: self._labels,
            FEATURES: self._features,
        }  # fmt: skip
        of_tags, of_features = conll.as_lines(tags), block if self.linear else ""
        fields = {TEXT: block, LETTERS: block, TAGS: of_tags, FEATURES: of_features}
        encoded = {n: TokenFile.of(vocabularies[n].encode_ids(b)) for n, b in fields.items()}
        return Examples(encoded, vocabularies)

    @cached_property
    def _transitions(self) -> crf.Transitions:
        own = self.backends.numpy.transitions
        return own.times(self.linear.powers[0]) if self.linear else own

    def _found(self, data: Examples) -> Iterator[Found]:
        tokens = int(data.lengths(TEXT).sum())
        network = self.backends.for_tokens(tokens) if tokens else None
        return emissions(network, data, self.linear)

    def validation(self) -> str:
        figures = self.card.figures
        shown = [f"F1 {figures[F1]:.2%}"] if figures.get(F1) is not None else []
        if figures.get(ACCURACY) is not None:
            shown.append(f"accuracy {figures[ACCURACY]:.2%}")
        return ", ".join([*shown, super().validation()])

    def about(self) -> dict[str, str]:
        few = ", ".join(self.tags[:MOST_SHOWN]) + (", …" if len(self.tags) > MOST_SHOWN else "")
        return {
            "tags": f"{len(self.tags):,}: {few}",
            "tokens": f"words, a vocabulary of {self.config.vocab:,}",
        } | super().about()

    def record(self) -> dict[str, Any]:
        return {"level": "word", "tags": self.tags}
