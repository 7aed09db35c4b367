"""What the tasks share whose networks predict the tokens of a text: `lm` and `fill`."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self, Unpack, overload

import numpy as np
from numpy.typing import NDArray

from charlm.corpus.batches import find_rare
from charlm.corpus.examples import TEXT
from charlm.engines.activations import Reading
from charlm.engines.embedding import LineVectors, embed_lines
from charlm.engines.filling import Filler, Filling, FillOptions
from charlm.engines.scores import written_perplexity
from charlm.errors import OptionError
from charlm.model.activations import BACKWARDS, FORWARDS, ObservedStack, block_diagonal
from charlm.model.backend import Backends
from charlm.model.config import Dropout, ModelConfig
from charlm.model.file import ModelFile, Storable
from charlm.model.lexicon import Lexicon
from charlm.model.mixture import Mixture
from charlm.model.names import strip_prefix
from charlm.model.numpy_network import NumpyEncoder
from charlm.model.split_softmax import softmax_rows, split_softmax
from charlm.options import options_of_call
from charlm.tasks.base import B, Candidate, Defaults, Rows, Sizes, Task, Validation, stack_options
from charlm.tasks.source import (
    completed_by_start,
    source_of,
    weights_to_start_from,
)
from charlm.tasks.trained import LoadOptions, TrainedModel, one_line, one_line_end, several
from charlm.tokenizer import (
    EOS,
    START,
    TOKENIZERS,
    UNK,
    Blocks,
    Tokenizer,
    Vocabularies,
    Vocabulary,
    load_tokenizer,
)
from charlm.tokenizer.letters import Letters

if TYPE_CHECKING:
    import torch

    from charlm.corpus.examples import Examples
    from charlm.corpus.stats import CorpusInfo
    from charlm.keywords import FillKeywords
    from charlm.model.network import Network
    from charlm.training.options import TrainOptions

NGRAM, LEXICON = "ngram", "lexicon"  # names of parts of a model file
START_RATE = 0.25  # of the learning rate, for a network that starts from another one
CHAR_FEATURES = 150  # features of a word's vector that come from its characters
BITS_PER_CHAR = "valid_bits_per_char"


class TokenModel(TrainedModel):
    """A model whose network predicts the tokens of a text.

    backends:  what runs the network
    mixture:   what the network is combined with; None for the network alone
    ngram_only:  the n-gram model predicts alone
    lexicon:   the words of the training text; None if unknown

    validation_note:  what the validation loss is of, in words
    """

    task = "lm"  # if nothing else is asked for
    validation_note: ClassVar[str] = ""
    config: ModelConfig

    def __init__(self, file: ModelFile, path: Path, options: LoadOptions) -> None:
        super().__init__(file, path, options)
        self.config, self._weights = file.network(ModelConfig)
        self.tokenizer: Tokenizer = file.vocabulary(TEXT, load_tokenizer, self.config.vocab)
        self.backends = Backends(
            self.config,
            self._weights,
            options.backend,
            options.device,
            options.threads,
            precision=options.precision,
        )
        self.mixture = None if options.network_only else file.part(NGRAM, Mixture.from_state)
        self.ngram_only = options.ngram_only
        self.lexicon = file.part(LEXICON, Lexicon.from_state)

    @property
    def independent_lines(self) -> bool:
        return self.card.lines

    @property
    def companions(self) -> dict[str, Storable]:
        """What the model has beside its network and its tokenizer, by name."""
        parts = {NGRAM: self.mixture, LEXICON: self.lexicon}
        return {name: part for name, part in parts.items() if part is not None}

    @property
    def weights(self) -> Mapping[str, NDArray[np.float32]]:
        """The weights of the network, by their names."""
        return self._weights

    @property
    def networks(self) -> list[dict[str, NDArray[np.float32]]]:
        """The weights of each network of the model."""
        return self.config.by_network(self._weights)

    def input_vectors(self) -> NDArray[np.float32]:
        """(V, inputs) what the first recurrent layer reads of each token.

        Of several networks, side by side.
        """
        config, ids = self.config.one, np.arange(self.config.vocab)
        each = [NumpyEncoder(config, weights).vectors(ids) for weights in self.networks]
        return np.concatenate(each, axis=1)

    @property
    def _filling(self) -> Filling:
        raise NotImplementedError

    @overload
    def fill(  # type: ignore[overload-overlap]  # a string is an iterable of strings too
        self, lines: str, **options: Unpack[FillKeywords]
    ) -> list[list[Filler]]: ...

    @overload
    def fill(
        self, lines: Iterable[str], **options: Unpack[FillKeywords]
    ) -> list[list[list[Filler]]]: ...

    def fill(
        self, lines: str | Iterable[str], **options: Unpack[FillKeywords]
    ) -> list[list[Filler]] | list[list[list[Filler]]]:
        """The best fillers of each blank of a line, most probable first.

        A model of the task `fill` reads both sides of a blank; a language model ranks fillers by
        P(left · filler · right), which is slower and less good.

        lines:    one line, for a list of its blanks, or several, for a list of lines
        options:  of `charlm.engines.filling.FillOptions`: k, blank

        >>> (fillers,) = model.fill("the cat ___ on the mat", k=3)
        >>> len(fillers)
        3
        """
        chosen = options_of_call(FillOptions, "fill", options)
        if isinstance(lines, str):
            return self._filling.fill(one_line(lines), chosen)
        return [self._filling.fill(one_line(line), chosen) for line in several(lines)]

    def embed(self, lines: Iterable[str]) -> Iterator[LineVectors]:
        """A vector for each token of each line, each line by itself, see `LineVectors`.

        >>> (line,) = model.embed(["the cat"])
        >>> line.vectors.shape == (7, model.config.hidden)
        True
        """
        return embed_lines(self.backends, self.tokenizer, map(one_line, several(lines)))

    def reading(self, text: str) -> Reading:
        """The text as the recurrent layers read it, see `Reading`.

        The units of several networks are numbered as those of one, one network after the other.

        Raises OptionError for the n-gram part alone, which has no layers.
        """
        if self.ngram_only:
            raise OptionError("`ngram_only=True`: n-grams have no units; leave the option out")
        table, ways = self.input_vectors(), ((FORWARDS, START), (BACKWARDS, EOS))
        stacks = [
            ObservedStack.of(
                self.config,
                block_diagonal([strip_prefix(name, w) for w in self.networks], self.config.hidden),
                table,
                direction=direction,
                before=before,
                networks=self.config.networks,
            )
            for name, (direction, before) in zip(self.config.directions, ways, strict=False)
        ]
        text = one_line_end(text)
        carried = not self.independent_lines
        return Reading.of(text, self.tokenizer.encode(text), stacks, carried=carried)

    def word_vectors(self, words: Sequence[str] | None = None) -> NDArray[np.float32]:
        """The vectors of words or other tokens, as the network reads them, (n, inputs).

        Those of several networks stand side by side.

        words:  None for the whole vocabulary, in the order of `vocabulary`

        A word that is not in the vocabulary has the vector of `<UNK>`; in a character-aware
        network its character features are computed from its characters.
        """
        parts = ("embedding", "char_features") if self.config.characters else ("embedding",)
        each = [np.concatenate([w[part] for part in parts], axis=1) for w in self.networks]
        if words is not None:
            ids = [self.word_id(word) for word in words]
            each = [table[[UNK if id is None else id for id in ids]] for table in each]
            unseen = [k for k, id in enumerate(ids) if id is None]
            if unseen and self.config.characters:
                characters = Letters(self.tokenizer).spell([words[k] for k in unseen])
                features = self.backends.torch.word_features(characters)
                own = np.split(features, len(each), axis=1)
                for vectors, of_network in zip(each, own, strict=True):
                    vectors[unseen, self.config.embedding :] = of_network
        return np.concatenate(each, axis=1)

    @property
    def vocabulary(self) -> list[str]:
        """The printable forms of all tokens, in the order of their ids."""
        return [self.tokenizer.token(id) for id in range(self.tokenizer.size)]

    def word_id(self, word: str) -> int | None:
        """The id of a word; None if it is not in the vocabulary."""
        ids = self.tokenizer.encode(word).ids
        return int(ids[0]) if len(ids) == 1 and ids[0] != UNK else None

    def unknown_in(self, text: str) -> list[str]:
        """The pieces of a text that are not in the vocabulary, each once, in their order."""
        ids, spans = self.tokenizer.encode(text)
        unknown = [text[start:end] for start, end in spans[ids == UNK].tolist()]
        return list(dict.fromkeys(unknown))

    def validation(self) -> str:
        nats = self.card.valid_nats
        perplexity = math.exp(min(nats, 700))
        shown = written_perplexity(perplexity)
        bits = self.card.figures.get(BITS_PER_CHAR, math.nan)
        note = f"{self.validation_note}, " if self.validation_note else ""
        if self.tokenizer.tokens_are_words:  # `score` and `evaluate` spell them
            note += "unknown words as <UNK>, "
        return f"{note}{nats:.4f} nats/token, perplexity {shown}, {bits:.4f} bits/char"

    def about(self) -> dict[str, str]:
        size = f"a vocabulary of {self.config.vocab:,}"
        return {"tokens": f"{self.tokenizer.level}, {size}"}

    def record(self) -> dict[str, Any]:
        return {"level": self.tokenizer.level, "ngram": None}


class TokenTask(Task["Network", B]):
    """A task whose networks are a `charlm.model.network.Network` over the tokens of a text.

    parts:  fields of `ModelConfig` that the task sets; options may raise the numbers among them
    """

    config = ModelConfig
    parts: ClassVar[dict[str, Any]] = {}

    def independent_lines(self, options: TrainOptions) -> bool:
        return options.lines

    def completed(self, options: TrainOptions) -> TrainOptions:
        return completed_by_start(options)

    def vocabulary(self, field: str, blocks: Blocks, options: TrainOptions) -> Vocabulary:
        source = source_of(options)
        if not source:
            return super().vocabulary(field, blocks, options)
        if source.config.characters:  # new words would change the alphabet
            return source.tokenizer
        return source.tokenizer.grown(blocks, options.vocab_size)

    def notes(self, data: Examples, held_out: Examples, options: TrainOptions) -> Iterator[str]:
        if source := source_of(options):
            ids = data.fields[TEXT].ids
            known = np.mean((ids < source.tokenizer.size) & (ids != UNK))
            yield (
                f"from {source.path}: it knows {known:.1%} of the tokens of this text, and "
                f"{data.vocabularies[TEXT].size - source.tokenizer.size:,} are new"
            )

    def defaults(self, options: TrainOptions, train_tokens: int) -> Defaults:
        defaults = super().defaults(options, train_tokens)
        return defaults._replace(rate=START_RATE) if options.from_ else defaults

    def initial(
        self, config: Any, vocabularies: Vocabularies, options: TrainOptions
    ) -> dict[str, Rows]:
        source = source_of(options)
        return weights_to_start_from(source, config) if source else {}

    def shape(self, options: TrainOptions, sizes: Sizes, hidden: int) -> ModelConfig:
        """See `Task.shape`. A large vocabulary ties the softmax to the embedding, which halves
        the weights."""
        large = TOKENIZERS[options.level].large_vocabulary
        embedding = options.embedding or sizes.vectors
        if not embedding:
            embedding = hidden if large or options.residual else min(128, hidden)
        parts = {"feedforward": 0, "highway": int(bool(options.characters)), **self.parts}
        for name in ("feedforward", "highway"):
            if getattr(options, name) is not None:
                parts[name] = getattr(options, name)
        return ModelConfig(
            sizes.vocabularies[TEXT],
            hidden=hidden,
            embedding=embedding,
            tied=large and embedding == hidden and not options.freeze_embeddings,
            characters=options.characters,
            char_features=CHAR_FEATURES if options.characters else 0,
            alphabet=sizes.alphabet,
            **stack_options(options),
            **parts,
        )

    def candidates(
        self, options: TrainOptions, data: Examples, sizes: Sizes, hidden: Sequence[int]
    ) -> list[Candidate]:
        counts = data.fields[TEXT].counts(sizes.vocabularies[TEXT])
        if source := source_of(options):
            shape = dataclasses.replace(source.config.one, vocab=sizes.vocabularies[TEXT])
            rows = softmax_rows(counts, shape.cutoffs)
            return [Candidate(shape, shape.multiplied_weights(rows))]
        cutoffs = split_softmax(counts)
        rows = softmax_rows(counts, cutoffs)
        shapes = [self.shape(options, sizes, size) for size in hidden]
        split = [dataclasses.replace(shape, cutoffs=cutoffs) for shape in shapes]
        return [Candidate(shape, shape.multiplied_weights(rows)) for shape in split]

    def network(
        self,
        config: ModelConfig,
        vocabularies: Vocabularies,
        dropout: Dropout | None = None,
        generator: torch.Generator | None = None,
        *,
        forget_bias: float = 1.0,
    ) -> Network:
        from charlm.model import several

        spellings = None
        if config.characters:
            tokenizer = vocabularies[TEXT]
            assert isinstance(tokenizer, Tokenizer)
            spellings = Letters(tokenizer).of_vocabulary()
        return several.network(
            config, dropout, generator, spellings=spellings, forget_bias=forget_bias
        )


class TokenValidation(Validation["Network"]):
    """A held-out text whose tokens are predicted.

    ids:      (n,) tokens; every line ends with an `<EOS>`
    bounds:   (lines + 1,) where the lines start
    independent_lines:  each line is read from the zero state
    vocab:    number of token ids
    chars_per_token:  characters of the text, its line ends counted, by its tokens
    """

    def __init__(
        self,
        ids: NDArray[np.integer],
        bounds: NDArray[np.int64],
        *,
        independent_lines: bool,
        vocab: int = 2,
        chars_per_token: float = 1.0,
    ) -> None:
        self.ids, self.bounds, self.independent_lines = ids, bounds, independent_lines
        self.vocab, self.chars_per_token = vocab, chars_per_token
        self.chance = math.log(vocab)

    @classmethod
    def of(cls, data: Examples, info: CorpusInfo, independent_lines: bool) -> Self:
        """The validation part of a corpus."""
        file = data.fields[TEXT]
        return cls(
            file.ids,
            file.bounds,
            independent_lines=independent_lines,
            vocab=data.vocabularies[TEXT].size,
            chars_per_token=info.valid_chars / max(len(file.ids), 1),
        )

    def first(self, tokens: int) -> Self:
        """The first `tokens` tokens; of independent lines whole lines, if there is a whole one."""
        if self.independent_lines:
            whole = np.searchsorted(self.bounds, tokens, side="right") - 1
            tokens = int(self.bounds[whole]) or tokens
        return type(self)(
            np.asarray(self.ids[:tokens]),
            self.bounds,
            independent_lines=self.independent_lines,
            vocab=self.vocab,
            chars_per_token=self.chars_per_token,
        )

    def figures(self, totals: Sequence[float]) -> dict[str, float | None]:
        # A token that is not predicted is a line end: one character.
        chars = self.chars_per_token * len(self.ids) - (len(self.ids) - self.predicted)
        return {BITS_PER_CHAR: totals[0] / max(chars, 1) / math.log(2)}


def rare_tokens(data: Examples) -> NDArray[np.bool_]:
    """(V,) the ids of which training replaces some by `<UNK>`, see `find_rare`."""
    tokenizer = data.vocabularies[TEXT]
    assert isinstance(tokenizer, Tokenizer)
    return find_rare(data.fields[TEXT], tokenizer.size, tokenizer.has_unknown)
