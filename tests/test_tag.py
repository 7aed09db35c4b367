"""The task `tag`: a tag for every word, its network, its models; columns in and out."""

from __future__ import annotations

import itertools
import json
import math
import random
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

import charlm
from charlm import WordTagger
from charlm.corpus.batches import BatchShape, Cursor
from charlm.corpus.encoding import TokenFile
from charlm.corpus.examples import Examples
from charlm.corpus.reading import Corpus
from charlm.engines.chunks import ChunkCounts, count_chunks
from charlm.errors import InputError, ModelError, OptionError
from charlm.model.config import Dropout
from charlm.model.sequence_config import TaggerConfig
from charlm.parts import WHOLE
from charlm.tasks.tag import TASK, TagValidation
from charlm.tokenizer import Characters, Symbols, VocabularyOptions, WindowFeatures
from charlm.training.dataset import parsed
from charlm.training.options import TrainOptions
from conftest import Command
from tests.parts import PARTS, check_gradients, check_resumed, check_totals

SMALL: dict[str, Any] = {"hidden": 8, "batch": 4, "quiet": True, "precision": "fp32", "lr": 0.01}
NOUNS, VERBS = ("cat", "dogs", "New York", "bird"), ("sings", "ran", "sleeps")
Sentence = list[tuple[str, str]]


def sentences() -> list[Sentence]:
    """Sentences in which a word's tag follows from the word and its neighbour."""
    made: list[Sentence] = []
    for noun, verb, other in itertools.product(NOUNS, VERBS, NOUNS):
        first = [("The", "B-NP"), (noun, "I-NP"), (verb, "B-VP")]
        made += [
            [*first, (".", "O")],
            [*first, ("near", "B-PP"), (other, "B-NP"), (".", "O")],
            [(other, "B-NP"), (verb, "B-VP"), ("today", "B-ADVP"), (".", "O")],
        ]
    random.Random(0).shuffle(made)
    return made


def conll(of: list[Sentence], columns: str = "{0}\tx\t{1}") -> str:
    return "".join("".join(columns.format(*t) + "\n" for t in s) + "\n" for s in of)


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tagged") / "tagged.conll"
    path.write_text(conll(sentences()), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def tagger(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> WordTagger:
    folder = tmp_path_factory.mktemp("tagger")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        model = charlm.train(corpus, kind=WordTagger, out=folder / "run", steps=80, **SMALL)
    assert isinstance(model, WordTagger)
    return model


# --- models ---


def test_a_tagger_learns_the_tags_of_words_and_their_neighbours(tagger: WordTagger) -> None:
    assert tagger.tags == ["B-ADVP", "B-NP", "B-PP", "B-VP", "I-NP", "O"] and tagger.are_chunks
    (tagged,) = tagger.predict([["The", "New York", "sleeps", "near", "bird", "."]])
    assert [w for w, *_ in tagged] == ["The", "New York", "sleeps", "near", "bird", "."]
    assert [t for _, t, _ in tagged] == ["B-NP", "I-NP", "B-VP", "B-PP", "B-NP", "O"]
    assert all(0.5 < p <= 1 for *_, p in tagged)
    assert tagger.card.figures["valid_accuracy"] == 1.0 == tagger.card.figures["valid_f1"]
    assert tagger.card.valid_nats < 0.2 < math.log(6)


def test_a_text_is_split_into_words(tagger: WordTagger) -> None:
    (tagged,) = tagger.predict(["The cat sings (today), didn't it?"])
    words = ["The", "cat", "sings", "(", "today", ")", ",", "didn't", "it", "?"]
    assert [w for w, *_ in tagged] == words
    assert tagger.predict(["", "The cat"])[0] == []


def test_a_clitic_is_split_off_where_the_training_text_has_it(tmp_path: Path) -> None:
    text = conll([[("Eva", "B-NP"), ("'s", "B-NP"), ("cat", "I-NP"), ("can", "B-VP")]] * 20)
    Path("x.conll").write_text(text.replace("can", "do\tx\tB-VP\nn't"), encoding="utf-8")
    model = charlm.train("x.conll", kind=WordTagger, out="run", steps=2, **SMALL)
    (tagged,) = model.predict(["Eva's cat don't 'tis Ann's"])
    words = ["Eva", "'s", "cat", "do", "n't", "'", "tis", "Ann's"]
    assert [word for word, *_ in tagged] == words


def test_sentences_are_tagged_alone_and_in_any_order(tagger: WordTagger) -> None:
    texts: list[Any] = [[w for w, _ in s] for s in sentences()[:6]]
    texts += [[], ["unheard"], ["x" * 300, "ran"], ["The"] * 120]
    together = tagger.predict(texts)
    for text, tagged in zip(texts, together, strict=True):
        (alone,) = tagger.predict([text])
        assert [(w, t) for w, t, _ in alone] == [(w, t) for w, t, _ in tagged]
        np.testing.assert_allclose(
            [p for *_, p in alone], [p for *_, p in tagged], atol=1e-4, rtol=0
        )


def test_both_backends_give_the_same_tags_and_probabilities(tagger: WordTagger) -> None:
    texts = [[w for w, _ in s] for s in sentences()[:20]]
    found = [charlm.load(tagger.path, backend=b, kind=WordTagger) for b in ("numpy", "torch")]
    for a, b in zip(*(model.predict(texts) for model in found), strict=True):
        assert [(w, t) for w, t, _ in a] == [(w, t) for w, t, _ in b]
        np.testing.assert_allclose([p for *_, p in a], [p for *_, p in b], atol=1e-4, rtol=0)


def test_evaluate_counts_tokens_unseen_words_and_chunks(tagger: WordTagger) -> None:
    text = [[("The", "B-NP"), ("zebra", "I-NP"), ("ran", "B-VP"), (".", "O")], sentences()[0]]
    text[1] = [(w, "B-NP") for w, _ in text[1]]
    score = tagger.evaluate(conll(text))
    predicted = tagger.predict([[w for w, _ in s] for s in text])
    truth = [[t for _, t in s] for s in text]
    answers = [[t for _, t, _ in s] for s in predicted]
    pairs = [(a, b) for s, o in zip(truth, answers, strict=True) for a, b in zip(s, o, strict=True)]
    assert (score.sentences, score.tokens) == (2, len(pairs))
    assert score.right == sum(a == b for a, b in pairs)
    assert score.unseen_words == 1
    counts = sum(count_chunks(answers, truth).values(), ChunkCounts())
    figures = score.figures()
    assert figures["f1"] == pytest.approx(counts.f1) and 0 < counts.f1 < 1
    assert figures["precision"] == pytest.approx(counts.precision)
    both = tagger.evaluate(conll(text[:1])) + tagger.evaluate(conll(text[1:]))
    assert both.nats == pytest.approx(score.nats, rel=1e-6)
    assert replace(both, nats=score.nats) == score


def test_the_loss_is_that_of_the_whole_sequence(tagger: WordTagger) -> None:
    """By enumeration: the probabilities of all sequences of tags for three words add up to 1."""
    words = ["The", "cat", "ran"]
    total = 0.0
    for tags in itertools.product(tagger.tags, repeat=3):
        score = tagger.evaluate(conll([list(zip(words, tags, strict=True))]))
        total += math.exp(-score.nats)
    assert total == pytest.approx(1, abs=1e-4)


def test_tags_that_training_has_not_seen_are_told(tagger: WordTagger) -> None:
    score = tagger.evaluate(conll([[("The", "B-NP"), ("cat", "B-XYZ")]]))
    assert score.unseen_tags == 1 and score.right == 1 and math.isfinite(score.nats)
    warning = tagger.warning(score)
    assert warning and warning.startswith("1 of 2 words have a tag that the model does not know")


def test_a_column_is_added_and_all_else_stays(tagger: WordTagger, charlm_command: Command) -> None:
    text = "-DOCSTART- -X- O\n\nThe DT O\ncat NN O\nran VBD O\n\n\nbird NN O\n"
    Path("in.conll").write_text(text, encoding="utf-8")
    out = charlm_command("predict", "--file", "in.conll", "-m", tagger.path).text
    tokens = [line.split(" ") for line in out.splitlines() if line and "DOCSTART" not in line]
    assert [row[:3] for row in tokens] == [
        line.split(" ") for line in text.splitlines() if line and "DOCSTART" not in line
    ]
    assert [row[3] for row in tokens][:3] == ["B-NP", "I-NP", "B-VP"]
    assert out.startswith("-DOCSTART- -X- O\n")


def test_predict_and_evaluate_on_the_command_line(
    tagger: WordTagger, charlm_command: Command
) -> None:
    model = ("--model", tagger.path)
    heading, *rows = charlm_command("predict", "The cat ran .", *model).rows
    assert heading == ["number", "position", "word", "tag", "probability", "text"]
    assert [(r[1], r[2], r[3]) for r in rows][:2] == [("1", "The", "B-NP"), ("2", "cat", "I-NP")]
    (record,) = charlm_command("predict", "The cat", *model, "--format", "json").objects
    assert [a["tag"] for a in record["answers"]] == ["B-NP", "I-NP"]
    Path("test.conll").write_text(conll(sentences()[:5]), encoding="utf-8")
    (measured,) = charlm_command("evaluate", "test.conll", *model, "--format", "json").objects
    expected = json.loads(json.dumps(tagger.evaluate(conll(sentences()[:5])).figures()))
    assert measured == {"file": "test.conll", **expected}
    assert "-k 2: is not for --task tag" in charlm_command("predict", "a", "-k", 2, *model).error
    refused = charlm_command("score", "The cat", *model).error
    assert "was trained with --task tag: it tags words (charlm predict)" in refused
    charlm_command("predict", "The cat ran near bird", *model, "--html", "page.html")
    page = Path("page.html").read_text(encoding="utf-8")
    assert page.count('class="tag"') == 5 and "<small>B-VP</small>" in page


def test_a_tagger_is_loaded_as_it_was_saved(tagger: WordTagger) -> None:
    again = charlm.load(tagger.path, kind=WordTagger)
    assert again.config == tagger.config and again.card == tagger.card
    assert again.predict(["The cat ran ."]) == tagger.predict(["The cat ran ."])
    alone = charlm.load(tagger.path, kind=WordTagger, network_only=True)
    assert alone.linear is None and tagger.linear is not None
    assert alone.predict(["The cat ran ."])[0][1].tag == "I-NP"
    with pytest.raises(ModelError, match=r"tags words .*; to do this, .*`task=lm`"):
        charlm.load(tagger.path, kind=charlm.LanguageModel)


def test_predicting_a_line_does_not_import_torch(tagger: WordTagger) -> None:
    program = (
        "import sys, charlm; model = charlm.load(sys.argv[1])\n"
        "model.predict(['The cat ran .']); print('torch' in sys.modules)"
    )
    ran = subprocess.run(
        [sys.executable, "-c", program, str(tagger.path)], capture_output=True, check=True
    )
    assert ran.stdout.decode().strip() == "False"


@pytest.mark.parametrize(
    "options",
    [
        {"cell": "gru", "crf": False, "characters": "convolutional", "dropout": 0.2},
        {"layers": 1, "characters": "none", "directions": 1, "token_dropout": 0.2},
    ],
)
def test_a_resumed_tagger_ends_with_the_very_same_weights(
    corpus: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any]
) -> None:
    options = {**SMALL, **options, "steps": 12}
    check_resumed(corpus, WordTagger, options, 7, monkeypatch)


def test_a_tagger_starts_from_a_language_model(corpus: Path) -> None:
    Path("text.txt").write_text(
        "".join(" ".join(w for w, _ in s) + "\n" for s in sentences()), encoding="utf-8"
    )
    shared: dict[str, Any] = {"hidden": 8, "quiet": True, "precision": "fp32"}
    lm: Any = charlm.train("text.txt", level="word", lines=True, out="lm", steps=5, **shared)
    options: dict[str, Any] = {"quiet": True, "from_": "lm", "freeze": True, "lr": 0.01, "steps": 3}
    tagger = charlm.train(corpus, kind=WordTagger, out="tagger", **options)
    weights = load_file("tagger/model.safetensors")
    vectors = lm.input_vectors()
    names: list[str] = [tagger._words.token(id) for id in range(tagger._words.size)]
    for word in ("cat", "ran", "near"):
        np.testing.assert_array_equal(
            weights["embedding"][names.index(word)], vectors[lm.word_id(word)]
        )
    own, theirs = weights["layers.0.forwards.U"], lm.weights["layers.0.U"]
    np.testing.assert_array_equal(own, theirs)
    with pytest.raises(OptionError, match="`hidden=9`: the model of `from_` has 8"):
        charlm.train(corpus, task="tag", **{**options, "hidden": 9})


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        ("a\n\nb\n", {}, r"x\.conll, line 1: .*same column"),
        ("a X\nb\n", {"label_column": "2"}, r"x\.conll, line 2: `label_column=2`: no such column"),
        ("a X\n", {"text_column": "5"}, r"x\.conll, line 1: `text_column=5`: no such column"),
        ("a X\n\nb X\n" * 30, {}, "all examples have the label 'X': there is nothing to learn"),
        ("a X\n", {"text_column": "word"}, "`text_column=word`: give a number, from 1"),
        ("a X\nb Y\n", {"level": "char"}, "`level=char`: is not for `task=tag`, which reads words"),
        ("a X\nb Y\n", {"split": "whitespace"}, "`split=whitespace`: is not for `task=tag`"),
        ("a X\nb Y\n", {"ngram": 3}, "`ngram=3`: is not for `task=tag`"),
    ],
)
def test_what_cannot_be_learnt_is_refused_in_one_line(
    text: str, options: dict[str, Any], message: str
) -> None:
    Path("x.conll").write_text(text, encoding="utf-8")
    with pytest.raises((InputError, OptionError), match=message):
        charlm.train("x.conll", task="tag", steps=2, quiet=True, **options)
    assert not Path("runs").exists()


def test_options_of_a_tagger_are_refused_elsewhere() -> None:
    refused: list[dict[str, Any]] = [{"crf": False}, {"directions": 1}, {"label_column": "2"}]
    for options in refused:
        with pytest.raises(OptionError, match="is not for `task=lm`, but for `task="):
            TrainOptions(task="lm", **options)


# --- the network ---


def examples() -> Examples:
    words, tags = ([[t[k] for t in s] for s in sentences()[:40]] for k in (0, 1))
    blocks = {"text": words, "letters": words, "tags": tags, "features": words}
    lines = {n: "".join("\t".join(s) + "\n" for s in b) for n, b in blocks.items()}
    vocabularies: dict[str, Any] = {
        "text": Symbols.train(lambda: [lines["text"]], folded=True),
        "letters": Characters.train(lambda: [lines["text"]], VocabularyOptions()),
        "tags": Symbols.train(lambda: [lines["tags"]]),
        "features": WindowFeatures(),
    }
    fields = {n: TokenFile.of(vocabularies[n].encode_ids(text)) for n, text in lines.items()}
    return Examples(fields, vocabularies)


def config_of(data: Examples, **fields: Any) -> TaggerConfig:
    sizes: dict[str, Any] = {
        "hidden": 6, "embedding": 5, "layers": 2, "residual": True, "characters": "recurrent",
        "char_features": 4, "alphabet": data.vocabularies["letters"].size, **fields,
    }  # fmt: skip
    tags = data.vocabularies["tags"].size - 3
    return TaggerConfig(vocab=data.vocabularies["text"].size, tags=tags, **sizes)


def test_the_processes_have_the_gradient_of_one() -> None:
    data = examples()
    dropout = Dropout(outputs=0.3, inputs=0.3, state=0.2, tokens=0.3)
    check_gradients(TASK, config_of(data), data, dropout)


def test_the_parts_of_a_validation_add_up() -> None:
    data = examples()
    network, validation = TASK.network(config_of(data), {}).eval(), TagValidation(data)
    whole = check_totals(validation, network)
    assert validation.total(network) == pytest.approx(whole[0])
    assert validation.predicted == sum(map(len, sentences()[:40]))
    assert validation.first(50).data.tokens <= 50


def test_the_validation_loss_is_the_training_loss_without_dropout() -> None:
    data = examples()
    network = TASK.network(config_of(data), {}).eval()
    total = 0.0
    batches = TASK.batches(data, BatchShape(1, 1, True, 1))
    for batch in itertools.islice(batches.iterate(Cursor()), batches.steps_per_epoch):
        kept = batch._replace(words=batch.words.copy())
        total += float(TASK.loss(network, kept, [])[0].detach())
    # Training replaces some rare words; every word here occurs several times.
    assert TagValidation(data).total(network) == pytest.approx(total, rel=1e-4)


def test_sentences_end_where_their_file_ends() -> None:
    first, second = Path("a.conll"), Path("b.conll")
    first.write_text("The B-NP\ncat I-NP\n\nran B-VP", encoding="utf-8")
    second.write_text("dogs B-NP\nran B-VP\n", encoding="utf-8")
    options = TrainOptions(task="tag")
    words, *_ = zip(*parsed(Corpus([first, second]), options, TASK), strict=True)
    assert "".join(words) == "The\tcat\nran\ndogs\tran\n"
    second.write_text("dogs B-NP\nran\n", encoding="utf-8")
    with pytest.raises(InputError, match=r"b\.conll, line 2"):
        list(parsed(Corpus([first, second]), options, TASK))


def test_a_model_gives_the_loss_that_was_measured_in_training(tagger: WordTagger) -> None:
    """Both halves together, the transitions weighed like the network that they belong to."""
    some = [*sentences()[:9], [("zebra", "I-NP"), ("ran", "B-VP")]]
    data = tagger._examples(*([[t[k] for t in s] for s in some] for k in (0, 1)))
    assert tagger.linear
    of_training = TagValidation(data).totals(tagger.backends.torch, {"linear": tagger.linear})
    score = tagger.evaluate(conll(some))
    assert score.nats == pytest.approx(of_training[0], abs=1e-3)
    assert score.right == of_training[1]
    doubled = charlm.load(tagger.path, kind=WordTagger)
    doubled.linear = tagger.linear.with_powers((2.0, 0.0))
    plain = doubled.backends.numpy.transitions
    np.testing.assert_allclose(doubled._transitions.transitions, 2 * plain.transitions)


def test_an_unseen_tag_counts_as_a_guess(tagger: WordTagger) -> None:
    (tagged,) = tagger.predict([["The"]])
    alone = tagger.evaluate(conll([[("The", tagged[0].tag)]]))
    unseen = tagger.evaluate(conll([[("The", "B-XYZ")]]))
    assert unseen.nats == pytest.approx(alone.nats + math.log(len(tagger.tags)), abs=1e-4)


def test_a_batch_predicts_a_tag_for_every_word() -> None:
    data = examples()
    for part in (WHOLE, *PARTS):
        batches = TASK.batches(data, BatchShape(3, 16, True, 1, part))
        of_all = TASK.batches(data, BatchShape(3, 16, True, 1))
        pairs = zip(batches.iterate(Cursor()), of_all.iterate(Cursor()), strict=False)
        for batch, whole in itertools.islice(pairs, batches.steps_per_epoch):
            assert batch.predicted == np.count_nonzero(whole.words)
