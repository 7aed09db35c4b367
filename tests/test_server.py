"""The server: the protocol of OpenAI by its own client, charlm's paths, limits and bad input."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from typing import Any

import numpy as np
import openai
import pytest

from charlm import LanguageModel, TextClassifier
from charlm.engines.generation import Generation
from charlm.errors import OptionError
from charlm.server.options import ServeOptions
from charlm.server.prompts import Prompt
from charlm.server.tokens import NEVER, TokenList
from charlm.tokenizer import EOS, START, Tokenizer, train_tokenizer
from conftest import Trained
from tests.serving import SMALL, Running, running, wait_for


@pytest.fixture(scope="module")
def document(trained: Trained) -> LanguageModel:
    model: LanguageModel = trained(**SMALL)
    return model


@pytest.fixture(scope="module")
def lines(trained: Trained) -> LanguageModel:
    model: LanguageModel = trained(lines=True, **SMALL)
    return model


@pytest.fixture(scope="module")
def words(trained: Trained) -> LanguageModel:
    model: LanguageModel = trained(level="word", **SMALL)
    return model


@pytest.fixture(scope="module")
def server(
    document: LanguageModel, lines: LanguageModel, words: LanguageModel
) -> Iterator[Running]:
    with running({"document": document, "lines": lines, "words": words}) as server:
        yield server


def test_the_models_are_listed(server: Running, document: LanguageModel) -> None:
    assert [model.id for model in server.client.models.list()] == ["document", "lines", "words"]
    found = server.client.models.retrieve("lines")
    assert (found.object, found.owned_by) == ("model", "charlm")
    assert found.created == int(document.path.stat().st_mtime) or found.created > 0
    with pytest.raises(openai.NotFoundError, match="choose document, lines, words") as caught:
        server.client.models.retrieve("more")
    assert caught.value.code == "model_not_found"


def test_a_completion_is_a_sample(server: Running, document: LanguageModel) -> None:
    options: dict[str, Any] = {"temperature": 0.9, "top_p": 0.95, "seed": 7}
    answer = server.client.completions.create(
        model="document", prompt="the ", max_tokens=40, n=3, **options
    )
    expected = ["".join(document.stream("the ", sample=k, length=40, **options)) for k in range(3)]
    assert [choice.text for choice in answer.choices] == expected
    assert [choice.index for choice in answer.choices] == [0, 1, 2]
    assert {choice.finish_reason for choice in answer.choices} == {"length"}
    assert answer.usage and answer.usage.model_dump(exclude_none=True) == {
        "prompt_tokens": 4, "completion_tokens": 120, "total_tokens": 124,
    }  # fmt: skip


def test_a_line_of_a_model_of_lines_ends(server: Running, lines: LanguageModel) -> None:
    answer = server.client.completions.create(
        model="lines",
        prompt=["the cat", "a bird"],
        max_tokens=200,
        seed=3,
        temperature=0.8,
        logprobs=0,
    )
    for prompt, choice in zip(("the cat", "a bird"), answer.choices, strict=True):
        assert prompt + choice.text == lines.sample(prompt, seed=3, temperature=0.8)
        assert choice.finish_reason == "stop"
        assert choice.logprobs and choice.logprobs.tokens and choice.logprobs.tokens[-1] == "\n"
        assert choice.logprobs.text_offset and choice.logprobs.text_offset[-1] == len(choice.text)


def test_an_unfinished_word_is_finished(server: Running, words: LanguageModel) -> None:
    answer = server.client.completions.create(
        model="words", prompt="the cat sl", max_tokens=1, seed=1, temperature=0
    )
    assert answer.choices[0].text == "ept"
    # Ids stay as they are.
    ids = words.tokenizer.encode("the cat").ids.tolist()
    answer = server.client.completions.create(model="words", prompt=ids, max_tokens=1)
    assert answer.choices[0].text[0] in " \n"
    # A whole word is spelled again, which is none of the tokens that are asked for.
    answer = server.client.completions.create(
        model="words", prompt="the cat", max_tokens=2, seed=1, temperature=0
    )
    assert len(answer.choices[0].text.split()) == 2
    assert answer.usage and answer.usage.completion_tokens == 2


def test_a_stream_is_the_same_text_in_pieces(server: Running) -> None:
    asked: dict[str, Any] = {
        "model": "document", "prompt": ["the ", "my a"], "max_tokens": 60, "seed": 5, "logprobs": 2,
    }  # fmt: skip
    whole = server.client.completions.create(**asked)
    texts, tokens, reasons = ["", ""], [[], []], {}  # type: ignore[var-annotated]
    usage = None
    for chunk in server.client.completions.create(
        **asked, stream=True, stream_options={"include_usage": True}
    ):
        usage = chunk.usage or usage
        for choice in chunk.choices:
            texts[choice.index] += choice.text
            tokens[choice.index] += choice.logprobs.token_logprobs
            if choice.finish_reason:
                reasons[choice.index] = choice.finish_reason
    assert texts == [choice.text for choice in whole.choices]
    expected = [choice.logprobs.token_logprobs for choice in whole.choices if choice.logprobs]
    np.testing.assert_allclose(tokens, np.array(expected, float), atol=1e-4)
    assert reasons == {0: "length", 1: "length"}
    assert usage == whole.usage


@pytest.mark.parametrize("name", ["document", "lines", "words"])
def test_an_echo_has_the_log_probabilities_of_score(
    server: Running, name: str, request: pytest.FixtureRequest
) -> None:
    model: LanguageModel = request.getfixturevalue(name)
    text = "the cat sat on the mat\nmy aunt sang"
    score = model.score(text, eos=False, details=True)
    ids = model.tokenizer.encode(text).ids.tolist()
    for prompt in (text, ids, [EOS, *ids], [START, *ids]):
        answer = server.client.completions.create(
            model=name, prompt=prompt, max_tokens=1, temperature=0, echo=True, logprobs=1, seed=1
        )
        (choice,) = answer.choices
        assert choice.text.startswith(text) and choice.logprobs
        logprobs, top = choice.logprobs.token_logprobs, choice.logprobs.top_logprobs
        assert logprobs and top and choice.logprobs.text_offset
        skipped = len(prompt) - len(ids) if isinstance(prompt, list) else 0
        assert len(logprobs) == len(ids) + skipped + 1  # lm-eval relies on exactly one more
        if skipped:
            assert logprobs[0] is None and top[0] is None
        own = logprobs[skipped:-1]
        np.testing.assert_allclose(own, score.logprobs, atol=1e-4)
        likeliest = [token.likeliest[0] for token in score.token_scores if token.likeliest]
        for logprob, of_token, (_, best), rank in zip(
            own, top[skipped:-1], likeliest, [t.rank for t in score.token_scores], strict=True
        ):
            assert max(of_token.values()) == pytest.approx(best, abs=1e-4)
            assert logprob in of_token.values()  # the same float
            assert (logprob == max(of_token.values())) == (rank == 1)
        offsets = choice.logprobs.text_offset[skipped:]
        assert offsets == [0, *score.spans[:, 1].tolist()]


def test_the_written_tokens_have_the_log_probabilities_of_score(
    server: Running, document: LanguageModel
) -> None:
    answer = server.client.completions.create(
        model="document", prompt="the cat", max_tokens=30, echo=True, logprobs=3, seed=2
    )
    (choice,) = answer.choices
    expected = document.score(choice.text, eos=False).logprobs
    assert choice.logprobs
    np.testing.assert_allclose(np.array(choice.logprobs.token_logprobs, float), expected, atol=1e-4)
    assert "".join(choice.logprobs.tokens or []) == choice.text


def test_nothing_is_written_if_nothing_is_asked_for(server: Running) -> None:
    answer = server.client.completions.create(
        model="document", prompt="the cat", max_tokens=0, echo=True, logprobs=0
    )
    (choice,) = answer.choices
    assert choice.text == "the cat" and choice.finish_reason == "length"
    assert choice.logprobs and len(choice.logprobs.token_logprobs or []) == 7
    assert all(len(top) == 1 for top in choice.logprobs.top_logprobs or [])


@pytest.mark.parametrize("stream", [False, True])
def test_a_stop_text_is_never_sent(server: Running, document: LanguageModel, stream: bool) -> None:
    asked: dict[str, Any] = {
        "model": "document", "prompt": "the ", "max_tokens": 200, "seed": 11, "logprobs": 0,
    }  # fmt: skip
    free = server.client.completions.create(**asked).choices[0].text
    stop = free[20:23]
    expected = free[: free.index(stop)]
    if stream:
        text, reason = "", None
        offsets: list[int] = []
        for chunk in server.client.completions.create(**asked, stop=["zzz", stop], stream=True):
            text += chunk.choices[0].text
            offsets += (chunk.choices[0].logprobs and chunk.choices[0].logprobs.text_offset) or []
            assert expected.startswith(text)
            reason = chunk.choices[0].finish_reason or reason
    else:
        (choice,) = server.client.completions.create(**asked, stop=["zzz", stop]).choices
        text, reason = choice.text, choice.finish_reason
        offsets = (choice.logprobs and choice.logprobs.text_offset) or []
    assert (text, reason) == (expected, "stop")
    assert offsets == list(range(len(expected)))


def test_requests_at_once_get_what_they_get_alone(server: Running) -> None:
    def ask(seed: int) -> str:
        answer = server.client.completions.create(
            model="document", prompt="the cat"[: seed % 8], max_tokens=20 + seed, seed=seed
        )
        return answer.choices[0].text

    alone = [ask(seed) for seed in range(24)]
    with ThreadPoolExecutor(24) as pool:
        assert list(pool.map(ask, range(24))) == alone


def test_scores_at_once_are_those_alone(server: Running, document: LanguageModel) -> None:
    texts = [f"the cat sat {'on the mat ' * k}" for k in range(12)]

    def ask(text: str) -> float:
        answer = server.http.post("/score", json={"text": text}).json()
        return float(answer["scores"][0]["logprob"])

    with ThreadPoolExecutor(12) as pool:
        found = list(pool.map(ask, texts))
    assert found == pytest.approx([s.logprob for s in document.score(texts)], abs=1e-4)


def test_tokens_there_and_back(server: Running, words: LanguageModel) -> None:
    """As lm-eval asks for them, which cannot name a model."""
    info = server.http.get("/words/tokenizer_info").json()
    assert info["vocab_size"] == words.tokenizer.size
    ends = server.http.post("/words/tokenize", json={"prompt": info["eos_token"]}).json()
    assert ends["tokens"] == [EOS]
    text = "the cat sat\na bird sang"
    tokens = server.http.post(
        "/words/tokenize", json={"prompt": text, "add_special_tokens": False}
    ).json()["tokens"]
    assert tokens == words.tokenizer.encode(text).ids.tolist()
    back = server.http.post("/words/detokenize", json={"tokens": tokens}).json()
    assert back == {"prompt": text}
    whole = server.http.post(
        "/tokenize", json={"prompt": text, "add_special_tokens": True, "model": "words"}
    ).json()
    assert whole == {"tokens": [START, *tokens], "count": len(tokens) + 1}


def test_charlms_own_paths(server: Running, document: LanguageModel) -> None:
    text = "the cat sat on the mat"
    (score,) = server.http.post(
        "/score", json={"text": text, "words": True, "tokens": True, "context": "a bird sang\n"}
    ).json()["scores"]
    expected = document.score(text, details=True, context="a bird sang\n")
    assert score["logprob"] == pytest.approx(expected.logprob, abs=1e-4)
    assert [word["word"] for word in score["words"]] == [w.word for w in expected.words()]
    assert sum(w["bits"] for w in score["words"]) == pytest.approx(expected.bits, abs=1e-3)
    assert len(score["token_scores"]) == expected.tokens
    best = score["token_scores"][0]["likeliest"][0]
    assert best["token"] == expected.token_scores[0].likeliest[0][0]  # type: ignore[index]
    blanks = server.http.post("/fill", json={"text": "the ___ sat", "k": 2}).json()["blanks"]
    (fillers,) = document.fill("the ___ sat", k=2)
    assert [f["filler"] for f in blanks[0]] == [f.text for f in fillers]
    (comparison,) = server.http.post(
        "/compare", json={"texts": ["the cat sat", "the cat xat"]}
    ).json()["comparisons"]
    assert comparison["first"]["text"] == "the cat sat"
    assert comparison["difference"] > 0


def test_hidden_units(server: Running) -> None:
    text = "the cat sat on the mat\n"
    answer = server.http.post("/units", json={"text": text, "unit": "1.c3", "html": True}).json()
    (picture,) = answer["pictures"]
    assert picture["unit"] == "1.c3" and len(picture["values"]) == len(text) - 1
    assert "</html>" in answer["html"]
    for body, param in (
        ({"text": "x", "unit": "9.c1"}, "unit"), ({"text": "x" * 60_000}, "text"),
    ):  # fmt: skip
        refused = server.http.post("/units", json=body)
        assert (refused.status_code, refused.json()["error"]["param"]) == (400, param)


def test_models_of_other_tasks(trained: Trained, tmp_path: Any) -> None:
    import charlm

    corpus = tmp_path / "labels.tsv"
    corpus.write_text("good day\tgood\nbad day\tbad\n" * 20, encoding="utf-8")
    path = tmp_path / "run"
    charlm.train(corpus, task="classify", steps=10, hidden=8, out=path, quiet=True)
    model = charlm.load(path, kind=TextClassifier)
    with running({"labels": model}) as server:
        answer = server.http.post("/predict", json={"text": ["good day", "bad day"], "k": 2})
        for record, expected in zip(
            answer.json()["predictions"], model.predict(["good day", "bad day"], k=2), strict=True
        ):
            assert [a["label"] for a in record["answers"]] == [label.label for label in expected]
        for path_, body in (
            ("/v1/completions", {"prompt": "x"}),
            ("/score", {"text": "x"}),
            ("/fill", {"text": "___"}),
            ("/tokenize", {"prompt": "x"}),
        ):
            refused = server.http.post(path_, json=body)
            assert refused.status_code == 400
            assert "`task=classify`" in refused.json()["error"]["message"]


WRONG: Sequence[tuple[bytes, int, str | None]] = [
    (b"", 400, None),
    (b"{", 400, None),
    (b"[]", 400, None),
    (b"\xff\xfe", 400, None),
    (b'{"prompt": NaN}', 400, None),
    (b"[" * 100_000, 400, None),
    (b'{"prompt": "x", "max_tokens": "many"}', 400, "max_tokens"),
    (b'{"prompt": "x", "max_tokens": -1}', 400, "max_tokens"),
    (b'{"prompt": "x", "max_tokens": true}', 400, "max_tokens"),
    (b'{"prompt": "x", "max_tokens": 1e400}', 400, "max_tokens"),
    (b'{"prompt": "x", "max_tokens": 1000000000}', 400, "max_tokens"),
    (b'{"prompt": {"a": 1}}', 400, "prompt"),
    (b'{"prompt": []}', 400, "prompt"),
    (b'{"prompt": "x", "n": 128, "max_tokens": 100000}', 400, "max_tokens"),
    (b'{"prompt": ["x", "y", "z", "x", "y", "z", "x", "y", "z"], "n": 128}', 400, "n"),
    (b'{"prompt": [[1], "x"]}', 400, "prompt"),
    (b'{"prompt": [1, 2, 4294967296]}', 400, "prompt"),
    (b'{"prompt": [5, -1]}', 400, "prompt"),
    (b'{"prompt": [5, 0, 5]}', 400, "prompt"),
    (b'{"prompt": "\\ud800"}', 400, "prompt"),
    (b'{"prompt": "x", "model": "gpt"}', 404, "model"),
    (b'{"prompt": "x", "model": 3}', 400, "model"),
    (b'{"prompt": "x", "temperature": -1}', 400, "temperature"),
    (b'{"prompt": "x", "top_p": 0}', 400, "top_p"),
    (b'{"prompt": "x", "n": 0}', 400, "n"),
    (b'{"prompt": "x", "stop": ""}', 400, "stop"),
    (b'{"prompt": "x", "stop": [1]}', 400, "stop"),
    (b'{"prompt": "x", "stop": "' + b"x" * 201 + b'"}', 400, "stop"),
    (b'{"prompt": "x", "logprobs": 21}', 400, "logprobs"),
    (b'{"prompt": "x", "logit_bias": {"5": 3}}', 400, "logit_bias"),
    (b'{"prompt": "x", "best_of": 4}', 400, "best_of"),
    (b'{"prompt": "x", "presence_penalty": 1}', 400, "presence_penalty"),
]


def test_what_is_wrong_is_named_and_the_server_goes_on(server: Running) -> None:
    for body, status, param in WRONG:
        answer = server.http.post("/v1/completions", content=body)
        error = answer.json()["error"]
        assert (answer.status_code, error["param"]) == (status, param), body
        assert error["type"] == "invalid_request_error" and error["message"]
    for method, path, status in (
        ("GET", "/v1/chat/completions", 404),
        ("GET", "/v1/completions", 405),
        ("POST", "/health", 405),
        ("GET", "/document/nothing", 404),
    ):
        answer = server.http.request(method, path)
        assert answer.status_code == status and answer.json()["error"]["message"]
    assert server.http.get("/health").json() == {"status": "ok"}
    # What the protocol has, but no request may need, is ignored.
    answer = server.http.post(
        "/v1/completions", json={"prompt": "the", "user": "x", "max_tokens": None, "stop": None}
    )
    assert answer.json()["usage"]["completion_tokens"] == 16


def test_broken_connections_leave_the_server_answering(server: Running) -> None:
    pieces = (
        b"", b"GET", b"GET /health HTTP/1.1\r\n", b"\x00\xff" * 50, b"GET / HTTP/9\r\n\r\n",
        b"POST /score HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{",
        b"POST /score HTTP/1.1\r\nHost: localhost\r\nContent-Length: x\r\n\r\n{}",
        b"POST /score HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    )  # fmt: skip
    open_ones = []
    for k in range(104):
        connection = socket.create_connection(("127.0.0.1", server.port))
        connection.sendall(pieces[k % len(pieces)])
        if k % 2:
            connection.close()
        else:
            open_ones.append(connection)
    assert server.http.get("/health").status_code == 200
    answer = server.http.post("/score", json={"text": "the cat"})
    assert answer.status_code == 200
    for connection in open_ones:
        connection.close()


def test_a_client_that_goes_away_stops_its_texts(document: LanguageModel) -> None:
    steps: list[int] = []
    step = Generation.step

    def counting(self: Generation) -> None:
        steps.append(len(self.open))
        step(self)

    with pytest.MonkeyPatch.context() as patch, running({"m": document}) as server:
        patch.setattr(Generation, "step", counting)
        for stream in (True, False):
            steps.clear()
            connection = HTTPConnection("127.0.0.1", server.port)
            body = json.dumps({"prompt": "the", "max_tokens": 150_000, "stream": stream})
            connection.request("POST", "/v1/completions", body)
            if stream:
                assert connection.getresponse().read(10)
            wait_for(lambda: len(steps) > 10)
            connection.close()
            wait_for(lambda: running_requests(server) == 1)  # the one that asks
            done = len(steps)
            time.sleep(0.3)
            assert len(steps) <= done + 1
            assert done < 150_000


def running_requests(server: Running) -> float:
    found = re.search(r"^charlm_requests_running (\S+)", server.http.get("/metrics").text, re.M)
    assert found
    return float(found[1])


def test_what_takes_too_long_ends(document: LanguageModel) -> None:
    with running({"m": document}, timeout=0.3) as server:
        answer = server.http.post("/v1/completions", json={"prompt": "x", "max_tokens": 150_000})
        assert answer.status_code == 504
        with pytest.raises(openai.APIError, match="too long"):
            for _ in server.client.completions.create(
                model="m", prompt="x", max_tokens=150_000, stream=True
            ):
                pass
        answer = server.http.post("/v1/completions", json={"prompt": "x", "max_tokens": 3})
        assert answer.status_code == 200


def test_a_fault_of_the_server_is_an_error_and_it_goes_on(
    document: LanguageModel, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.MonkeyPatch.context() as patch, running({"m": document}) as server:
        patch.setattr(Generation, "step", lambda self: 1 / 0)
        answer = server.http.post("/v1/completions", json={"prompt": "x"})
        assert answer.status_code == 500
        assert answer.json()["error"]["type"] == "server_error"
        answer = server.http.post("/v1/completions", json={"prompt": "x", "stream": True})
        assert "server_error" in answer.text
        assert caplog.text.count("ZeroDivisionError") >= 2  # the log says more, for both
        patch.undo()
        assert server.http.post("/v1/completions", json={"prompt": "x"}).status_code == 200


def test_limits(document: LanguageModel) -> None:
    with running({"m": document}, max_tokens=50, max_bytes=500, queue=1) as server:
        answer = server.http.post("/v1/completions", json={"prompt": "x" * 40})
        assert answer.json()["error"]["code"] == "context_length_exceeded"
        assert server.http.post("/score", json={"text": "x" * 500}).status_code == 413
        answer = server.http.post("/score", json={"text": ["x" * 30, "x" * 30]})
        assert answer.json()["error"]["code"] == "context_length_exceeded"
        body = iter([b'{"text": "', b"x" * 300, b"x" * 300, b'"}'])
        assert server.http.post("/score", content=body).status_code == 413
        # A request whose body does not come takes the only place.
        waiting = socket.create_connection(("127.0.0.1", server.port))
        waiting.sendall(b"POST /score HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n{")
        wait_for(lambda: running_requests(server) == 2)
        refused = server.http.post("/score", json={"text": "x"})
        assert refused.status_code == 503 and refused.headers["Retry-After"]
        waiting.close()
        wait_for(lambda: running_requests(server) == 1)
        assert server.http.post("/score", json={"text": "x"}).status_code == 200


def test_the_key_the_host_and_other_sites(document: LanguageModel) -> None:
    with running({"m": document}, api_key="secret") as server:
        assert server.http.get("/v1/models", headers={"Authorization": ""}).status_code == 401
        wrong = server.http.get("/v1/models", headers={"Authorization": "Bearer x"})
        assert wrong.json()["error"]["code"] == "invalid_api_key"
        assert server.http.get("/health", headers={"Authorization": ""}).status_code == 200
        with pytest.raises(openai.AuthenticationError):
            server.client.with_options(api_key="x").models.list()
        for host in ("example.org", "example.org:99999", "127.0.0.1/health?", "localhost, x"):
            elsewhere = server.http.get("/health", headers={"Host": host})
            assert elsewhere.status_code == 403
        lower = server.http.get("/v1/models", headers={"Authorization": "bearer secret"})
        assert lower.status_code == 200
        bare = server.http.get("/v1/models", headers={"Authorization": "secret"})
        assert bare.status_code == 401
        for origin, allowed in (
            ("http://localhost:3000", True), ("https://example.org", False),
        ):  # fmt: skip
            answer = server.http.options(
                "/v1/completions",
                headers={
                    "Origin": origin,
                    "Access-Control-Request-Method": "POST",
                    "Access-Control-Request-Headers": "authorization, x-stainless-os",
                },
            )
            assert ("access-control-allow-origin" in answer.headers) == allowed
            # A page of another site cannot make the server work, either.
            asked = server.http.post("/tokenize", json={"prompt": "x"}, headers={"Origin": origin})
            assert asked.status_code == (200 if allowed else 403)
    with pytest.raises(OptionError, match="ASCII"):
        ServeOptions(api_key="clé")
    with running({"m": document}, cors_origin=["https://example.org"]) as server:
        answer = server.http.get("/health", headers={"Origin": "https://example.org"})
        assert answer.headers["access-control-allow-origin"] == "https://example.org"


def test_names_of_models_take_no_path_away(document: LanguageModel, words: LanguageModel) -> None:
    with running({"v1": document, "a b/c": words}) as server:
        assert len(server.http.get("/v1/models").json()["data"]) == 2
        assert server.http.get("/v1/tokenizer_info").json()["vocab_size"] == document.config.vocab
        assert server.http.get("/a%20b/c/tokenizer_info").json()["vocab_size"] < 100
        body = {"prompt": "the", "max_tokens": 1}
        assert server.http.post("/v1/v1/completions", json=body).json()["model"] == "v1"
        assert server.http.post("/a b/c/v1/completions", json=body).json()["model"] == "a b/c"
        assert server.http.post("/v1/completions/", json=body).status_code == 404
        assert server.http.post("/v1/a b/c/v1/completions", json=body).status_code == 404


def test_events_have_no_line_ends_of_unicode(server: Running) -> None:
    body = {"prompt": "a\u2028b\x85c", "echo": True, "stream": True, "max_tokens": 1}
    with server.http.stream("POST", "/v1/completions", json=body) as answer:
        lines = [line for line in answer.iter_lines() if line.startswith("data: {")]
    assert (
        "".join(json.loads(line[6:])["choices"][0]["text"] for line in lines)[:5] == body["prompt"]
    )


def test_a_single_token_does_not_depend_on_the_figures(server: Running) -> None:
    body = {"prompt": "the cat", "max_tokens": 1, "temperature": 0, "echo": True}
    for penalty in (1.0, 5.0):
        texts = [
            server.http.post(
                "/v1/completions", json={**body, "repetition_penalty": penalty, "logprobs": k}
            ).json()["choices"][0]["text"]
            for k in (None, 1)
        ]
        assert texts[0] == texts[1]


def test_much_work_lets_other_requests_pass(document: LanguageModel) -> None:
    many = ["the cat sat on the mat"] * 4000
    with running({"m": document}) as server, ThreadPoolExecutor(1) as pool:
        long = pool.submit(lambda: server.http.post("/score", json={"text": many, "words": True}))
        wait_for(lambda: running_requests(server) == 2)
        assert server.http.post("/score", json={"text": "a"}).status_code == 200
        assert not long.done()
        scores = long.result().json()["scores"]
        expected = document.score(many[0]).logprob
        assert len(scores) == 4000 and scores[-1]["logprob"] == pytest.approx(expected, abs=1e-4)


def test_metrics_count(document: LanguageModel) -> None:
    with running({"m": document}) as server:
        server.http.post("/v1/completions", json={"prompt": "the", "max_tokens": 5, "n": 2})
        server.http.post("/v1/completions", json={"prompt": 5})
        server.http.get("/x/y/z")
        text = server.http.get("/metrics").text
        for line in (
            'charlm_requests_total{path="/v1/completions",status="200"} 1.0',
            'charlm_requests_total{path="/v1/completions",status="400"} 1.0',
            'charlm_requests_total{path="other",status="404"} 1.0',
            'charlm_prompt_tokens_total{model="m"} 3.0',
            'charlm_completion_tokens_total{model="m"} 10.0',
            "charlm_batch_texts_count 5.0",
            "charlm_batch_texts_sum 10.0",
        ):
            assert line in text


def test_the_description_has_every_path(server: Running) -> None:
    described = server.http.get("/openapi.json").json()
    for path, operations in described["paths"].items():
        for method in operations:
            answer = server.http.request(method, path.replace("{name}", "lines"), content=b"{}")
            assert answer.status_code in (200, 400), path
    completion = described["paths"]["/v1/completions"]["post"]["requestBody"]
    properties = completion["content"]["application/json"]["schema"]["properties"]
    assert properties["temperature"]["anyOf"][0]["minimum"] == 0 and properties["n"]["default"] == 1


# --- parts ---


class TwoOfOneText(Tokenizer):
    """Two ids add the same text, and two are no text."""

    level = "test"

    def __init__(self) -> None:
        super().__init__([b"a", b"a", b"\xe2", b"\xc3"])

    train = encode = encode_ids = state = from_state = None  # type: ignore[assignment]


TwoOfOneText.__abstractmethods__ = frozenset()


def test_tokens_of_one_text_have_names_of_their_own() -> None:
    lists = TokenList(TwoOfOneText())
    lists.add(4, 0, -1.0, [(3, -0.5), (5, -2.0), (2, -3.0)])
    lists.add(6, 1, -np.inf, [])
    assert lists.tokens == ["a", "<0xC3>"]
    assert lists.top_logprobs == [
        {"a": -0.5, "<0xE2>": -2.0, "<UNK>": -3.0, "a (4)": -1.0},
        {"<0xC3>": NEVER},
    ]


def test_ids_that_are_no_whole_characters() -> None:
    tokenizer = train_tokenizer("byte", lambda: ["aé\n"])
    ids = tokenizer.encode("é!").ids.tolist()
    prompt = Prompt.of_ids(ids, tokenizer)
    assert prompt.primed.ids.tolist() == ids
    assert (prompt.text, prompt.offsets, prompt.size) == ("é!", [0, 0, 1], 3)
    assert Prompt.of_ids([EOS, *ids], tokenizer).first == EOS
    assert Prompt.of_ids([EOS, *ids], tokenizer).size == 4
    assert Prompt.of_ids([], tokenizer).size == 0


# --- the command ---


def serve(*arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "charlm", "serve", *map(str, arguments)]
    return subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


@pytest.mark.slow
def test_the_command_serves_until_it_is_stopped_and_then_drains(document: LanguageModel) -> None:
    with serve("--model", document.path, "--port", 0) as process:
        assert process.stderr
        port = 0
        for line in process.stderr:
            if found := re.search(r"http://127\.0\.0\.1:(\d+)", line):
                port = int(found[1])
                break
        connection = HTTPConnection("127.0.0.1", port)
        body = json.dumps({"prompt": "the", "max_tokens": 3000, "stream": True, "seed": 1})
        connection.request("POST", "/v1/completions", body)
        answer = connection.getresponse()
        first = answer.readline()
        assert first.startswith(b"data: ")
        process.send_signal(signal.SIGTERM)
        events = [
            line for line in answer.read().decode().splitlines() if line.startswith("data: {")
        ]
        reasons = [json.loads(event[6:])["choices"][0]["finish_reason"] for event in events]
        assert reasons[-1] == "length"  # the text is written to its end
        connection.close()
        assert process.wait(20) in (128 + signal.SIGTERM, -signal.SIGTERM)
        assert "Traceback" not in process.stderr.read()
        with pytest.raises(OSError):
            socket.create_connection(("127.0.0.1", port), timeout=1)


def test_a_port_in_use(document: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    from charlm.cli import serve as command

    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(OptionError, match=rf"`port={port}`: .*in use"):
            command._listen("127.0.0.1", port)
    with pytest.raises(OptionError, match=r"`host=no\.such\.host\.here`"):
        command._listen("no.such.host.here", 0)


def test_without_the_extra(monkeypatch: pytest.MonkeyPatch, document: LanguageModel) -> None:
    program = (
        "import sys; sys.modules['starlette'] = None\n"
        f"sys.argv = ['charlm', 'serve', '--model', {str(document.path)!r}]\n"
        "from charlm.__main__ import main; main()"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    ran = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, env=environment,
        check=False,
    )  # fmt: skip
    assert ran.returncode == 1
    assert "pip install starlette uvicorn prometheus-client" in ran.stderr
    assert len(ran.stderr.splitlines()) == 1


@pytest.mark.slow
def test_the_description_holds_for_generated_requests(
    document: LanguageModel, tmp_path: Any
) -> None:
    """By schemathesis. It cannot know which ids a vocabulary has, or that a line needs a blank, so
    it does not check that every request that fits the description is accepted."""
    with running({"m": document}, timeout=5) as server:
        command = [
            *(sys.executable, "-m", "schemathesis.cli", "run"),
            f"http://127.0.0.1:{server.port}/openapi.json",
            *("--max-examples", "8", "--seed", "1", "--phases", "coverage,fuzzing"),
            *("--exclude-checks", "positive_data_acceptance", "--no-color"),
        ]
        ran = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert ran.returncode == 0, ran.stdout[-3000:]
        assert "Tested: 14" in ran.stdout
        assert server.http.get("/health").status_code == 200
