"""What the server counts, for Prometheus."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

SECONDS = (0.005, 0.02, 0.1, 0.5, 2, 10, 60)
TEXTS = (1, 2, 4, 8, 16, 32, 64, 128)


class Metrics:
    """Counters of one server.

    requests:  answers, by path and status
    seconds:   from a request to the end of its answer, by path
    running:   requests in progress
    prompt_tokens, completion_tokens:  that were read, and written, by model
    batch:     texts that are written side by side, at each step
    """

    def __init__(self) -> None:
        self._registry = registry = CollectorRegistry()
        self.requests = Counter(
            "charlm_requests", "Answers.", ["path", "status"], registry=registry
        )
        self.seconds = Histogram(
            "charlm_request_seconds",
            "From a request to the end of its answer.",
            ["path"],
            registry=registry,
            buckets=SECONDS,
        )
        self.running = Gauge("charlm_requests_running", "Requests in progress.", registry=registry)
        self.prompt_tokens = Counter(
            "charlm_prompt_tokens", "Tokens of prompts.", ["model"], registry=registry
        )
        self.completion_tokens = Counter(
            "charlm_completion_tokens", "Tokens that were written.", ["model"], registry=registry
        )
        self.batch = Histogram(
            "charlm_batch_texts",
            "Texts that are written side by side, at each step.",
            registry=registry,
            buckets=TEXTS,
        )

    def text(self) -> bytes:
        """All of them, in the text format of Prometheus."""
        return generate_latest(self._registry)
