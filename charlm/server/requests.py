"""The bodies of requests. Their fields describe themselves, see `charlm.server.bodies`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass
from typing import Any

from charlm.engines.filling import FillOptions
from charlm.engines.sampling import SampleOptions
from charlm.engines.scoring import SentenceOptions
from charlm.options import ANSWERS, Range, option
from charlm.server.errors import ProtocolError

ENDLESS = 1 << 40  # characters of a text that only its tokens limit
MOST_STOPS, LONGEST_STOP = 16, 200  # each is looked for at every token
# Fields of the protocol that this server knows in one value only.
FIXED: Mapping[str, Sequence[Any]] = {
    "best_of": (None,),
    "frequency_penalty": (None, 0),
    "presence_penalty": (None, 0),
    "logit_bias": (None, {}),
    "suffix": (None, ""),
}


@dataclass(frozen=True)
class ModelRequest:
    """A request to a model."""

    model: str | None = option(None, "The name of the model; the first one without a name.")


@dataclass(frozen=True, kw_only=True)
class TokenizeRequest(ModelRequest):
    """A request for the tokens of a text."""

    prompt: str = option(MISSING, "The text.")
    add_special_tokens: bool = option(False, "Begin with <START>, which is read in any case.")


@dataclass(frozen=True, kw_only=True)
class DetokenizeRequest(ModelRequest):
    """A request for the text of tokens."""

    tokens: Sequence[int] = option(MISSING, "The ids of the tokens.")


@dataclass(frozen=True, kw_only=True)
class TextsRequest(ModelRequest):
    """A request about one text or several."""

    text: str | Sequence[str] = option(MISSING, "A text, or several.")

    @property
    def texts(self) -> list[str]:
        """The texts, one or several."""
        return [self.text] if isinstance(self.text, str) else list(self.text)


@dataclass(frozen=True, kw_only=True)
class ScoreRequest(SentenceOptions, TextsRequest):
    """A request for the probability of sentences."""

    tokens: bool = option(False, "Give every token, with the likeliest ones in its place.")
    words: bool = option(False, "Give every word.")
    html: bool = option(False, "Give the sentences in colours, too, as HTML.")


@dataclass(frozen=True, kw_only=True)
class CompareRequest(SentenceOptions, ModelRequest):
    """A request to compare sentences."""

    texts: Sequence[str] = option(MISSING, "Two sentences, or more.")
    html: bool = option(False, "Give the sentences in colours and charts, too, as HTML.")


@dataclass(frozen=True, kw_only=True)
class FillRequest(FillOptions, ModelRequest):
    """A request to fill the blanks of a line."""

    text: str = option(MISSING, "The line, with ___ where a word is missing.")


@dataclass(frozen=True, kw_only=True)
class PredictRequest(TextsRequest):
    """A request for what a model of another task predicts."""

    k: int = option(1, "Answers for each text.", ANSWERS)
    html: bool = option(False, "Give the texts with their answers, too, as HTML.")


@dataclass(frozen=True, kw_only=True)
class UnitsRequest(ModelRequest):
    """A request for the values of hidden units along a text."""

    text: str = option(MISSING, "The text; in a long one units are found.")
    unit: str | Sequence[str] | None = option(None, "Names of units to show, such as 1.c17.")
    html: bool = option(False, "Give a page with the values of many units, too, as HTML.")


@dataclass(frozen=True)
class CompletionRequest(ModelRequest):
    """A request for completions. The fields describe themselves."""

    prompt: str | Sequence[str] | Sequence[int] | Sequence[Sequence[int]] = option(
        "", "A text, token ids, or several of one kind."
    )
    max_tokens: int = option(16, "Tokens to write at the most; 0 writes nothing.", Range(0))
    temperature: float = option(1.0, "Divides the logits; 0 takes the likeliest token.", Range(0))
    top_p: float = option(
        1.0, "Draw from the likeliest tokens with this probability.", Range(0, 1, exclude_low=True)
    )
    n: int = option(1, "Completions of each prompt.", Range(1, 128))
    stop: str | Sequence[str] | None = option(None, "Texts that end a completion.")
    seed: int | None = option(None, "The same seed gives the same text.")
    echo: bool = option(False, "Give the prompt back, too.")
    logprobs: int | None = option(
        None, "Give log p of every token, and this number of the likeliest tokens.", Range(0, 20)
    )
    stream: bool = option(False, "Send the text while it is written.")
    stream_options: Mapping[str, Any] | None = option(
        None, "With include_usage, a stream ends with the numbers of tokens."
    )
    top_k: int | None = option(None, "Draw from the K likeliest; 0 or -1 for all.", Range(-1))
    min_p: float | None = option(
        None,
        "Draw from tokens at least this share as likely as the likeliest one; 0 for all.",
        Range(0, 1),
    )
    typical_p: float | None = option(
        None,
        "Draw from tokens of typical surprisal with this probability.",
        Range(0, 1, exclude_low=True),
    )
    repetition_penalty: float = option(
        1.0, "Multiplies log p of tokens that were used.", Range(0, 10, exclude_low=True)
    )
    best_of: int | None = option(None, "Must be `n`.")
    frequency_penalty: float | None = option(None, "Must be 0.")
    presence_penalty: float | None = option(None, "Must be 0.")
    logit_bias: Mapping[str, Any] | None = option(None, "Must be empty.")
    suffix: str | None = option(None, "Must be empty.")

    def __post_init__(self) -> None:
        for name, values in FIXED.items():
            if getattr(self, name) not in (*values, *([self.n] if name == "best_of" else [])):
                raise ProtocolError(400, f"`{name}`: is not supported here; leave it out", name)
        if self.prompt == []:
            raise ProtocolError(400, "`prompt`: there is none in the list", "prompt")
        stops = [self.stop] if isinstance(self.stop, str) else self.stop or []
        if len(stops) > MOST_STOPS or any(len(stop) > LONGEST_STOP for stop in stops):
            message = f"`stop`: give {MOST_STOPS} texts of {LONGEST_STOP} characters at the most"
            raise ProtocolError(400, message, "stop")

    @property
    def prompts(self) -> Sequence[str | Sequence[int]]:
        """The prompts, one or several."""
        if isinstance(self.prompt, str):
            return [self.prompt]
        if self.prompt and isinstance(self.prompt[0], int):
            return [self.prompt]  # type: ignore[list-item]
        return self.prompt  # type: ignore[return-value]

    @property
    def options(self) -> SampleOptions:
        """How tokens are drawn."""
        return SampleOptions(
            length=ENDLESS,
            temperature=self.temperature,
            top_k=self.top_k if self.top_k and self.top_k > 0 else None,
            top_p=None if self.top_p == 1 else self.top_p,
            min_p=self.min_p or None,
            typical_p=self.typical_p,
            repetition_penalty=self.repetition_penalty,
            stop=self.stop,
        )

    @property
    def includes_usage(self) -> bool:
        """Whether a stream ends with the numbers of tokens."""
        return bool((self.stream_options or {}).get("include_usage"))

    @property
    def is_greedy_step(self) -> bool:
        """Whether a single token is asked for, the likeliest."""
        return self.max_tokens == 1 and self.temperature == 0 and self.repetition_penalty == 1

    @property
    def scores_prompt(self) -> bool:
        """Whether log p of the prompt's tokens is asked for."""
        return self.echo and self.logprobs is not None
