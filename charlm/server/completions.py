"""`/v1/completions`: prompts are continued, or scored."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import aclosing
from typing import Any

import numpy as np
from numpy.typing import NDArray

from charlm.engines.generation import Beginning
from charlm.engines.sampling import SampleOptions, random_stream
from charlm.engines.scoring import score_tokens
from charlm.engines.stream import Figures, Limits
from charlm.server.choices import Choice, likeliest_of
from charlm.server.errors import ProtocolError, log, to_bytes
from charlm.server.metrics import Metrics
from charlm.server.models import Served
from charlm.server.options import ServeOptions
from charlm.server.prompts import Prompt
from charlm.server.requests import CompletionRequest
from charlm.server.writer import Order, Writing
from charlm.tasks.trained import one_line_end
from charlm.tokenizer import EOS, UNK, IntArray

SEEDS = 1 << 63
MOST_TEXTS = 1024  # of a request


class Completion:
    """The answer to one request.

    asked:    the request
    served:   the model
    options:  of the server, with the limits
    """

    def __init__(
        self, asked: CompletionRequest, served: Served, options: ServeOptions, metrics: Metrics
    ) -> None:
        self.asked, self.served, self.metrics = asked, served, metrics
        self.model, self.writer = served.language_model, served.writer
        self.limits = options
        self._head = {
            "id": f"cmpl-{secrets.token_hex(12)}",
            "object": "text_completion",
            "created": int(time.time()),
            "model": served.name,
        }
        self._news = asyncio.Event()
        self._orders: list[Order] = []
        self._choices: list[Choice] = []
        self._prompt_tokens = 0
        self._loop = asyncio.get_running_loop()
        self._deadline = self._loop.time() + options.timeout

    async def begin(self) -> None:
        """Read the prompts, and prepare their completions.

        Raises ProtocolError or OptionError for a request that cannot be followed.
        """
        asked, options = self.asked, self.asked.options
        async with asyncio.timeout_at(self._deadline):
            prompts = await asyncio.to_thread(self._read_prompts)
            self._prompt_tokens = sum(prompt.size for prompt in prompts)
            self._check_size(prompts)
            scored = await self._scored(prompts) if asked.scores_prompt else [None] * len(prompts)
            await asyncio.to_thread(self._prepare_all, prompts, scored, options)
        self.metrics.prompt_tokens.labels(self.served.name).inc(self._prompt_tokens)

    def _check_size(self, prompts: Sequence[Prompt]) -> None:
        asked, most = self.asked, self.limits.max_tokens
        texts = len(prompts) * asked.n
        if texts > MOST_TEXTS:
            raise ProtocolError(400, f"{texts:,} texts; ask for {MOST_TEXTS:,} at the most", "n")
        of_prompts = self._prompt_tokens * (asked.n if asked.scores_prompt else 1)
        size = of_prompts + texts * asked.max_tokens
        if size > most:
            raise ProtocolError(
                400,
                f"the prompts and their completions have up to {size:,} tokens; this server allows "
                f"{most:,}",
                "max_tokens",
                "context_length_exceeded",
            )

    def _prepare_all(
        self,
        prompts: Sequence[Prompt],
        scored: Sequence[NDArray[np.void] | None],
        options: SampleOptions,
    ) -> None:
        for prompt, records in zip(prompts, scored, strict=True):
            self._prepare(prompt, records, options)

    def _read_prompts(self) -> list[Prompt]:
        tokenizer = self.model.tokenizer
        return [
            Prompt.of_text(one_line_end(prompt), tokenizer, exact=self.asked.echo)
            if isinstance(prompt, str)
            else Prompt.of_ids(prompt, tokenizer)
            for prompt in self.asked.prompts
        ]

    async def _scored(self, prompts: Sequence[Prompt]) -> list[NDArray[np.void]]:
        """The records of `Likeliest` for each prompt's tokens, and for a line end after them.

        Before that line end is the distribution of the first token of a completion.
        """
        alternatives = max(self.asked.logprobs or 0, 2)  # the second, if the first is <UNK>

        def score(sequences: list[IntArray]) -> list[NDArray[np.void]]:
            return score_tokens(self.model.text_model, sequences, alternatives)

        sequences: list[IntArray] = [np.append(prompt.ids, EOS) for prompt in prompts]
        return await self.served.batcher.do(score, ("tokens", alternatives), sequences)

    def _prepare(
        self, prompt: Prompt, records: NDArray[np.void] | None, options: SampleOptions
    ) -> None:
        """Prepare the completions of a prompt. records: see `_scored`"""
        asked, model = self.asked, self.model
        seed = secrets.randbits(32) if asked.seed is None else asked.seed % SEEDS
        limits = Limits.of(
            options,
            independent_lines=model.independent_lines,
            normalized=model.tokenizer.normalized,
        )
        beginning = Beginning(model.text_model, prompt.primed)
        respells = len(prompt.primed.ids) < len(prompt.ids)
        writings = []
        for k in range(asked.n):
            sample = beginning.sample(options, limits)
            sample.random, sample.alternatives = random_stream(seed, k), asked.logprobs
            writings.append(Writing(sample, asked.max_tokens, respells))
        choices = [
            Choice(
                len(self._choices) + k, prompt, writing, model.tokenizer, asked.echo, asked.logprobs
            )
            for k, writing in enumerate(writings)
        ]
        self._choices += choices
        if records is not None:
            for choice in choices:
                choice.score(prompt, records[:-1])
        if asked.max_tokens == 0:
            for choice in choices:
                choice.reason = "length"
        elif records is not None and asked.is_greedy_step:
            self._write_likeliest(writings, likeliest_of(records[-1]))  # the prompt has been read
        else:
            order = Order(beginning, writings, asked.stream, self._loop, self._news)
            self._orders.append(order)

    def _write_likeliest(
        self, writings: Sequence[Writing], likeliest: Sequence[tuple[int, float]]
    ) -> None:
        """Write the likeliest token in every text. likeliest: tokens with their log p"""
        id, logprob = next(token for token in likeliest if token[0] != UNK)
        for writing in writings:
            writing.sample.push(id, Figures(logprob, list(likeliest[: self.asked.logprobs])))
            writing.take_piece()

    async def whole(self) -> dict[str, Any]:
        """The whole answer."""
        await self.begin()
        async with aclosing(self._arrivals()) as arrivals:
            async for _ in arrivals:
                pass
        choices = await asyncio.to_thread(lambda: [choice.take() for choice in self._choices])
        return {**self._head, "choices": choices, "usage": self._usage()}

    async def events(self) -> AsyncIterator[bytes]:
        """The answer as events of a stream, piece by piece."""
        try:
            usage = {"usage": None} if self.asked.includes_usage else {}
            async with aclosing(self._arrivals()) as arrivals:
                async for _ in arrivals:
                    for choice in self._choices:
                        if piece := choice.take():
                            yield _event({**self._head, "choices": [piece], **usage})
        except Exception as error:
            answer = ProtocolError.of(error)
            if answer.status == 500:
                log.exception("a stream of %s", self.served.name)
            yield _event(answer.to_json())
        if self.asked.includes_usage:
            yield _event({**self._head, "choices": [], "usage": self._usage()})
        yield b"data: [DONE]\n\n"

    async def _arrivals(self) -> AsyncGenerator[None, None]:
        """Have the texts written; each time when tokens have come, until all have."""
        try:
            for order in self._orders:
                self.writer.submit(order)
            while True:
                self._news.clear()
                for choice in self._choices:
                    choice.receive()
                if error := next((order.error for order in self._orders if order.error), None):
                    raise error
                yield
                if all(choice.reason for choice in self._choices):
                    return
                async with asyncio.timeout_at(self._deadline):
                    await self._news.wait()
        finally:
            for order in self._orders:
                order.is_given_up = True
            written = sum(choice.writing.written for choice in self._choices)
            self.metrics.completion_tokens.labels(self.served.name).inc(written)

    def _usage(self) -> dict[str, int]:
        written = sum(choice.writing.written for choice in self._choices)
        return {
            "prompt_tokens": self._prompt_tokens,
            "completion_tokens": written,
            "total_tokens": self._prompt_tokens + written,
        }


def _event(record: Mapping[str, Any]) -> bytes:
    return b"data: " + to_bytes(record) + b"\n\n"
