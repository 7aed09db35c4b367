"""The task `classify`: examples with a label, its network, its models."""

from __future__ import annotations

import itertools
import json
import math
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

import charlm
from charlm import TextClassifier
from charlm.corpus.batches import BatchShape, Cursor
from charlm.corpus.encoding import TokenFile
from charlm.corpus.examples import Examples, whole_lines
from charlm.corpus.reading import Corpus
from charlm.engines.label_scores import LabelScore
from charlm.errors import InputError, ModelError, OptionError
from charlm.model.config import Dropout
from charlm.model.equations import lstm
from charlm.model.layers import BidirectionalLayer, Layer
from charlm.model.sequence_config import ClassifierConfig
from charlm.tasks.classify import TASK, TextLabelValidation
from charlm.tokenizer import Symbols, TextFeatures, train_tokenizer
from charlm.training.dataset import blocks_of, parsed, split
from charlm.training.options import TrainOptions
from conftest import Command
from tests.parts import check_gradients, check_resumed, check_totals

GOLDEN = Path(__file__).parent / "golden"
GOOD, BAD = ("lovely", "fine", "great", "bright"), ("awful", "poor", "dull", "grim")
SMALL: dict[str, Any] = {"hidden": 12, "batch": 4, "quiet": True, "precision": "fp32", "lr": 0.01}


def lines() -> list[str]:
    """Texts with one word that says which label they have."""
    words = [(word, "good") for word in GOOD] + [(word, "bad") for word in BAD]
    of_all = [
        f"{start} {word} {thing}\t{label}\n"
        for (word, label), start, thing in itertools.product(
            words, ("a", "the", "one", "that"), ("day", "film", "meal", "house", "song")
        )
    ]
    random.Random(0).shuffle(of_all)
    return of_all


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def reviews(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("reviews") / "reviews.tsv"
    path.write_text("".join(lines()), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def classifier(reviews: Path, tmp_path_factory: pytest.TempPathFactory) -> TextClassifier:
    folder = tmp_path_factory.mktemp("classifier")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        options = {**SMALL, "level": "word", "steps": 120}
        model = charlm.train(reviews, kind=TextClassifier, out=folder / "run", **options)
    assert isinstance(model, TextClassifier)
    return model


# --- models ---


def test_a_classifier_learns_which_words_make_the_label(classifier: TextClassifier) -> None:
    assert classifier.labels == ["bad", "good"]
    texts = ["a lovely house", "the grim song", "one fine day"]
    answers = classifier.predict(texts, k=2)
    assert [best.label for best, _ in answers] == ["good", "bad", "good"]
    for both in answers:
        assert sum(label.probability for label in both) == pytest.approx(1, abs=1e-6)
        assert both[0].probability > 0.9
    ((best,),) = classifier.predict("a lovely house")
    assert best.label == "good" and best.probability == pytest.approx(answers[0][0].probability)
    assert classifier.card.figures["valid_accuracy"] == 1.0
    assert classifier.card.valid_nats < 0.1 < math.log(2)


def test_evaluate_counts_the_right_answers(classifier: TextClassifier) -> None:
    text = "".join(lines()[:40]) + "a lovely day\tbad\n\nthe dull film\tunheard\n"
    score = classifier.evaluate(text)
    nats, right = 0.0, 0
    for line in filter(None, text.split("\n")):
        words, label = line.split("\t")
        p = dict(classifier.predict(words, k=2)[0])
        right += max(p, key=lambda name: p[name]) == label
        nats -= math.log(p.get(label, 0.5))  # an unheard label counts as much as a guess
    assert (score.examples, score.right) == (42, right) == (42, 40)
    assert score.nats == pytest.approx(nats, abs=1e-3)
    assert score.figures()["accuracy"] == pytest.approx(40 / 42)
    blocks = [text[:100], text[100:101], text[101:]]
    assert classifier.evaluate(blocks) == score
    more = score + LabelScore.of(["good"], ["good"], [0.7], 0.5)
    assert (more.examples, more.right) == (43, 41)
    assert more.nats == pytest.approx(score.nats + 0.5)
    warning = classifier.warning(score)
    assert warning and warning.startswith("1 of 42 texts have a label that the model does not know")


def test_texts_are_labelled_alone_and_in_any_order(classifier: TextClassifier) -> None:
    texts = ["fine", "", "the awful film " * 30, "unseen words only", "a great day"]
    together = classifier.predict(texts, k=2)
    for text, both in zip(texts, together, strict=True):
        (alone,) = classifier.predict(text, k=2)
        assert [label for label, _ in alone] == [label for label, _ in both]
        np.testing.assert_allclose([p for _, p in alone], [p for _, p in both], atol=1e-5)


def test_blank_lines_are_no_examples(classifier: TextClassifier) -> None:
    assert classifier.evaluate("\n\n").examples == 0
    assert classifier.evaluate(["\n", "a fine day\tgood\n", "\n\n"]).examples == 1
    with pytest.raises(InputError, match="line 3: should be a text, a TAB and a label"):
        classifier.evaluate(["a fine day\tgood\n\n", "a fine day\n"])


def test_predict_and_evaluate_on_the_command_line(
    classifier: TextClassifier, charlm_command: Command
) -> None:
    texts = ["a fine day", "the dull film"]
    model, as_json = ("--model", classifier.path), ("--format", "json")
    answers = charlm_command("predict", *texts, "-k", 2, *model, *as_json).objects
    assert [answer["text"] for answer in answers] == texts
    for answer, expected in zip(answers, classifier.predict(texts, k=2), strict=True):
        assert [(one["label"], one["probability"]) for one in answer["answers"]] == expected
    _, *rows = charlm_command("predict", *model, stdin="\n".join(texts).encode()).rows
    assert [(row[2], row[-1]) for row in rows] == [("good", texts[0]), ("bad", texts[1])]

    text = "a fine day\tgood\nthe dull film\tgood\n"
    Path("test.tsv").write_text(text, encoding="utf-8")
    (measured,) = charlm_command("evaluate", "test.tsv", *model, *as_json).objects
    expected = json.loads(json.dumps(classifier.evaluate(text).figures()))
    assert measured == {"file": "test.tsv", **expected}
    for content, message in (
        ("\n \n", "bad.tsv: the file is empty"),
        ("a fine day\n", "bad.tsv, line 1: should be a text, a TAB and a label"),
    ):
        Path("bad.tsv").write_text(content, encoding="utf-8")
        assert message in charlm_command("evaluate", "bad.tsv", *model).error
    refused = charlm_command("embed", "test.tsv", *model, "--out", "v.npz").error
    assert "was trained with --task classify: it labels texts" in refused


def test_the_columns_of_a_table_are_carried_through(
    classifier: TextClassifier, charlm_command: Command
) -> None:
    model = ("--model", classifier.path)
    Path("t.csv").write_text('id,text,label\n7,"a fine, fine day",x\n8,the dull film,y\n')
    table = ("predict", "--file", "t.csv", "--text-column", "text", *model)
    heading, *rows = charlm_command(*table).rows
    assert heading == ["id", "label", "text", "predicted_label", "probability"]
    found = [(row[0], row[1], row[2], row[3]) for row in rows]
    assert found == [("7", "x", "a fine, fine day", "good"), ("8", "y", "the dull film", "bad")]
    first, second = charlm_command(*table, "--format", "json").objects
    assert (first["id"], first["predicted_label"], second["predicted_label"]) == (
        "7",
        "good",
        "bad",
    )
    many = charlm_command(*table, "-k", 9, "--format", "json").objects[0]
    assert [answer["label"] for answer in many["answers"]] == ["good", "bad"]


def test_the_columns_of_training_are_remembered(charlm_command: Command) -> None:
    rows = [line.rstrip("\n").split("\t") for line in lines()]
    table = "id,review,kind\n" + "".join(f"1,{text},{label}\n" for text, label in rows)
    Path("t.csv").write_text(table, encoding="utf-8")
    columns: dict[str, Any] = {"text_column": "review", "label_column": "kind"}
    model = charlm.train("t.csv", kind=TextClassifier, out="run", steps=4, **columns, **SMALL)
    assert model.evaluate(table) == model.evaluate(table, **columns)
    assert model.evaluate(table).examples == len(rows)
    heading, *found = charlm_command("predict", "--file", "t.csv", "-m", "run").rows
    assert heading == ["id", "kind", "review", "label", "probability"] and len(found) == len(rows)


def test_no_evidence_gives_no_certainty(classifier: TextClassifier) -> None:
    """The halves are not weighed up without limit where all held-out answers are right."""
    assert classifier.linear and max(classifier.linear.powers) < 2


def test_models_are_measured_side_by_side(
    classifier: TextClassifier, charlm_command: Command, reviews: Path
) -> None:
    other = charlm.train(reviews, kind=TextClassifier, out="other", steps=2, **SMALL)
    Path("test.tsv").write_text("a fine day\tgood\nthe dull film\tbad\n", encoding="utf-8")
    models = ("-m", classifier.path, "-m", other.path)
    records = charlm_command("evaluate", "test.tsv", *models, "--format", "json").objects
    assert [r["model"] for r in records] == ["run", "other"]
    for record, model in zip(records, (classifier, other), strict=True):
        score = model.evaluate("a fine day\tgood\nthe dull film\tbad\n")
        assert record["accuracy"] == score.accuracy
        assert record["nats_per_label"] == pytest.approx(score.nats / 2)


def test_a_page_shows_where_the_network_looked(
    classifier: TextClassifier, charlm_command: Command
) -> None:
    ((pieces, answer),) = classifier.looked("the dull film")
    assert [piece.text.strip() for piece in pieces] == ["the", "dull", "film"]
    assert sum(piece.share for piece in pieces) == pytest.approx(1, abs=1e-5)
    ids = classifier.tokenizer.encode("the dull film").ids[:, None]
    shares = classifier.backends.torch.attention_weights(ids)[:, 0]
    np.testing.assert_allclose([piece.share for piece in pieces], shares, atol=0.05)
    assert answer.startswith("bad ")
    charlm_command("predict", "the dull film", "a < b", "-m", classifier.path, "--html", "p.html")
    page = Path("p.html").read_text(encoding="utf-8")
    assert page.count('<p class="text" dir="auto"><b style="--s:') == 2 and "&lt;" in page


def test_a_page_says_what_the_colours_leave_out(charlm_command: Command) -> None:
    path = GOLDEN / "classify-word-linear.safetensors"
    text = "a fine day"
    both, network = charlm.load(path), charlm.load(path, network_only=True)
    assert isinstance(both, TextClassifier) and isinstance(network, TextClassifier) and both.linear
    label, of_both = both.predict(text)[0][0]
    p = dict(network.predict(text, k=9)[0])[label]
    ids = TextFeatures().encode_ids(f"{text}\n")[:-1]
    q = np.exp(both.linear.logprobs(ids, np.array([0, len(ids)])))[0, both.labels.index(label)]
    charlm_command("predict", text, "-m", path, "--html", "page.html")
    page = Path("page.html").read_text(encoding="utf-8")
    assert f"{label} {of_both:.1%} (network alone {p:.1%}, linear part alone {q:.1%})" in page
    a, b = both.linear.powers
    assert f"together, p ∝ network^{a:.2g} · linear^{b:.2g}." in page
    assert "The colours show the network alone" in page
    assert "linear part" not in network.page_note and "alone" not in network.looked(text)[0][1]


def test_training_says_what_a_user_should_know(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("x.tsv").write_text("a day\tGood\n" * 6 + "a film\tgood\n" * 3 + "b\tbad\n")
    Path("v.tsv").write_text("a day\tgood\nb\tother\n", encoding="utf-8")
    charlm.train("x.tsv", task="classify", valid="v.tsv", steps=2, hidden=8)
    notes = capsys.readouterr().err
    assert "the labels 'Good' and 'good' differ only in upper and lower case" in notes
    assert "3 labels; the most frequent one, 'Good', is on 60.0% of the training examples" in notes
    assert "1 of 2 labels for validation do not occur in training" in notes


@pytest.mark.parametrize("source", ["lm", "fill"])
def test_a_classifier_starts_from_a_language_model(reviews: Path, source: str) -> None:
    texts = (line.split("\t")[0] for line in lines())
    Path("text.txt").write_text("".join(f"{text}\n" for text in texts), encoding="utf-8")
    shared: dict[str, Any] = {"quiet": True, "precision": "fp32", "lr": 0.01}
    lm: Any = charlm.train(
        "text.txt", task=source, level="word", lines=True, hidden=8, steps=5, out="lm", **shared
    )
    options: dict[str, Any] = {**shared, "from_": "lm", "steps": 3}
    frozen = charlm.train(reviews, kind=TextClassifier, freeze=True, out="frozen", **options)
    charlm.train(reviews, kind=TextClassifier, out="tuned", **options)
    assert frozen.tokenizer.state()[0] == lm.tokenizer.state()[0]
    kept, tuned = (load_file(f"{run}/model.safetensors") for run in ("frozen", "tuned"))
    theirs = {"embedding": lm.input_vectors()}
    theirs |= {f"layers.0.forwards.{n}": lm.weights[f"layers.0.{n}"] for n in "WUb"}
    if source == "fill":
        theirs |= {f"layers.0.backwards.{n}": lm.weights[f"reverse.0.{n}"] for n in "WUb"}
    for name, values in theirs.items():
        np.testing.assert_array_equal(kept[name], values)
        assert not np.array_equal(tuned[name], values)
        np.testing.assert_allclose(tuned[name], values, atol=0.1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"from_": "nowhere"}, "nowhere: no such model"),
        ({"from_": "lm", "level": "char"}, "was trained with `level=word`; start from a model"),
        ({"from_": "lm", "cell": "gru"}, "`cell=gru`: the model of `from_` has lstm"),
        ({"freeze": True}, "`freeze=True`: goes with `from_`"),
        ({"from_": "classifier"}, "a model of `task=classify`; start from one of `task=lm`"),
    ],
)
def test_a_model_that_is_no_start_is_refused(
    reviews: Path, classifier: TextClassifier, options: dict[str, Any], message: str
) -> None:
    Path("text.txt").write_text("a b c\n" * 40, encoding="utf-8")
    charlm.train("text.txt", level="word", lines=True, hidden=8, steps=2, out="lm", quiet=True)
    Path("classifier").symlink_to(classifier.path.parent)
    with pytest.raises((ModelError, OptionError), match=message):
        charlm.train(reviews, task="classify", steps=2, quiet=True, out="x", **options)
    assert not Path("x").exists()


def test_a_classifier_is_loaded_as_it_was_saved(classifier: TextClassifier) -> None:
    again = charlm.load(classifier.path, kind=TextClassifier)
    assert again.config == classifier.config and again.card == classifier.card
    assert again.predict(["a fine day"]) == classifier.predict(["a fine day"])
    with pytest.raises(ModelError, match=r"labels texts .*; to do this, .*`task=lm`"):
        charlm.load(classifier.path, kind=charlm.LanguageModel)
    with pytest.raises(OptionError, match="`cache=9`: is not for `task=classify`"):
        classifier.evaluate("a\tgood\n", cache=9)


@pytest.mark.parametrize("cell", ["gru", "rnn"])
def test_a_resumed_classifier_ends_with_the_very_same_weights(
    reviews: Path, monkeypatch: pytest.MonkeyPatch, cell: str
) -> None:
    options = {**SMALL, "cell": cell, "layers": 2, "dropout": 0.2, "steps": 20}
    check_resumed(reviews, TextClassifier, options, 11, monkeypatch)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("fine\tgood\nno label\n", r"x\.tsv, line 2: should be a text, a TAB and a label"),
        ("fine\tgood\n\ndull\t\n", r"x\.tsv, line 3: the label is empty"),
        ("fine\tgood\n" * 30, "all examples have the label 'good': there is nothing to learn"),
    ],
)
def test_a_file_that_is_no_list_of_labels_is_refused(text: str, message: str) -> None:
    Path("x.tsv").write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=message):
        charlm.train("x.tsv", task="classify", steps=2, quiet=True)
    assert not Path("runs").exists()


def test_the_line_is_that_of_its_file() -> None:
    Path("a.tsv").write_text("fine\tgood\ndull\tbad", encoding="utf-8")
    Path("b.tsv").write_text("fine\tgood\noops\n", encoding="utf-8")
    with pytest.raises(InputError, match=r"b\.tsv, line 2"):
        charlm.train(["a.tsv", "b.tsv"], task="classify", steps=2, quiet=True)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lines": True}, "`lines=True`: is not for `task=classify`, but for `task=lm` or"),
        ({"ngram": 3}, "`ngram=3`: is not for `task=classify`, but for `task=lm`; only"),
        ({"characters": "recurrent", "level": "word"}, "`characters=recurrent`: is not for"),
    ],
)
def test_options_of_other_tasks_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        TrainOptions(task="classify", **options)


# --- examples ---


def test_a_split_keeps_text_and_label_together(reviews: Path) -> None:
    corpus = Corpus([reviews])
    parts = split(corpus, corpus.stats(), TrainOptions(task="classify"), TASK)
    found = []
    for passes in (parts.training, parts.validation):
        fields = blocks_of(passes, TASK.fields)
        text, labels = ("".join(fields[name]()).splitlines() for name in ("text", "label"))
        found.append({f"{a}\t{b}\n" for a, b in zip(text, labels, strict=True)})
    assert found[0] | found[1] == {*lines()} and not found[0] & found[1]
    assert 4 < len(found[1]) < 40 and parts.held_out


def test_a_block_that_ends_within_an_example_does_not_cut_it() -> None:
    text = "".join(lines())
    for size in (1, 7, 1000):
        blocks = [text[k : k + size] for k in range(0, len(text), size)]
        parsed = [*TASK.parse(blocks)]
        assert "".join(a for a, *_ in parsed).count("\n") == len(lines())
        assert "".join(b for _, b, _ in parsed) == "".join(line.split("\t")[1] for line in lines())
        assert "".join(whole_lines(blocks)) == text


def examples(of: Sequence[str] | None = None) -> Examples:
    text, labels = zip(*(line.rstrip("\n").split("\t") for line in of or lines()), strict=True)
    words = train_tokenizer("word", lambda: ["\n".join(text) + "\n"])
    vocabularies: dict[str, Any] = {
        "text": words,
        "label": Symbols.train(lambda: ["\n".join(labels) + "\n"]),
        "features": TextFeatures(),
    }
    blocks = {"text": text, "label": labels, "features": text}
    fields = {
        name: TokenFile.of(vocabularies[name].encode_ids("\n".join(block) + "\n"))
        for name, block in blocks.items()
    }
    return Examples(fields, vocabularies)


def test_each_epoch_has_every_example_with_its_label() -> None:
    data = examples()
    batches = TASK.batches(data, BatchShape(2, 16, True, 1))
    words, names = data.vocabularies["text"], data.vocabularies["label"]
    for epoch in range(2):
        seen = set()
        cursor = Cursor(epoch)
        for batch in itertools.islice(batches.iterate(cursor), batches.steps_per_epoch):
            assert batch.text.shape[0] % 16 == 0 and batch.predicted == len(batch.labels)
            for column, label in zip(batch.text.T, batch.labels, strict=True):
                tokens = " ".join(words.token(id) for id in column[column > 0].tolist())
                seen.add(f"{tokens}\t{names.token(int(label) + 3)}\n")
        assert seen == {*lines()} and cursor.epoch == epoch


# --- the network ---


def config_of(data: Examples, **fields: Any) -> ClassifierConfig:
    sizes: dict[str, Any] = {"hidden": 6, "embedding": 5, "cell": "gru", **fields}
    return ClassifierConfig(vocab=data.vocabularies["text"].size, labels=2, **sizes)


def test_a_bidirectional_layer_is_torchs_own_for_sequences_of_any_length() -> None:
    torch.manual_seed(0)
    own = BidirectionalLayer(*(Layer(lstm(), 4, 3, layer_norm=False) for _ in range(2)))
    for parameter in own.parameters():
        torch.nn.init.normal_(parameter)
    theirs = torch.nn.LSTM(4, 3, bidirectional=True)
    with torch.no_grad():
        for layer, end in ((own.forwards, ""), (own.backwards, "_reverse")):
            theirs.get_parameter(f"weight_ih_l0{end}").copy_(layer.W)
            theirs.get_parameter(f"weight_hh_l0{end}").copy_(layer.U)
            theirs.get_parameter(f"bias_ih_l0{end}").copy_(layer.b)
            theirs.get_parameter(f"bias_hh_l0{end}").zero_()
    x, lengths = torch.randn(7, 3, 4), torch.tensor([7, 2, 5])
    y, state = own(x, own.zero_state(x, 3), lengths=lengths)
    for column, n in enumerate(lengths.tolist()):
        expected, _ = theirs(x[:n, column : column + 1])
        torch.testing.assert_close(y[:n, column], expected[:, 0])
    whole, _ = own(x, own.zero_state(x, 3))
    torch.testing.assert_close(whole, theirs(x)[0])
    assert [s.shape for s in state] == [(3, 3)] * 4


@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
def test_the_shapes_of_a_classifier_are_those_of_its_weights(cell: str) -> None:
    data = examples()
    config = config_of(data, cell=cell, layers=2, layer_norm=True)
    weights = TASK.network(config, {}).weights()
    assert {name: w.shape for name, w in weights.items()} == config.shapes()
    matrices = [w for name, w in weights.items() if name.startswith("layers.") and w.ndim > 1]
    assert config.multiplied_weights() == sum(w.size for w in matrices)


def test_the_label_does_not_depend_on_what_fills_up_a_text() -> None:
    network = TASK.network(config_of(examples()), {}).eval()
    text = torch.tensor([[3, 4, 5, 6]]).T
    longer = torch.cat([text, torch.zeros(9, 1, dtype=torch.int64)])
    torch.testing.assert_close(network(longer), network(text))
    assert network(torch.zeros(3, 1, dtype=torch.int64)).isfinite().all()


def test_the_processes_have_the_gradient_of_one() -> None:
    data = examples()
    dropout = Dropout(outputs=0.3, inputs=0.3, state=0.2, weights=0.2)
    check_gradients(TASK, config_of(data), data, dropout, rtol=1e-4)


def test_the_parts_of_a_validation_add_up() -> None:
    data = examples()
    network, validation = TASK.network(config_of(data), {}).eval(), TextLabelValidation(data)
    whole = check_totals(validation, network)
    assert whole[0] / len(data) == pytest.approx(validation.chance, abs=0.2)
    few = validation.first(50)
    assert few.data.tokens <= 50 and 5 < few.predicted < 20


def test_a_part_of_a_validation_is_a_sample_of_a_sorted_corpus() -> None:
    data = examples(sorted(lines(), key=lambda line: line.split("\t")[1]))
    few = TextLabelValidation(data).first(250).data
    labels = few.single("label", np.arange(len(few))).tolist()
    assert len(few) > 40 and 0.25 < labels.count(labels[0]) / len(labels) < 0.75
    whole = [data.padded("text", np.array([k]))[:, 0].tolist() for k in range(len(data))]
    for k in range(len(few)):
        assert few.padded("text", np.array([k]))[:, 0].tolist() in whole


def test_a_long_text_among_short_ones_is_labelled_in_bounded_memory(
    classifier: TextClassifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = ["a fine day"] * 20 + ["the dull film " * 100]
    expected = classifier.predict(texts)
    monkeypatch.setattr("charlm.corpus.buckets.TOKENS_AT_ONCE", 40)
    shapes: list[tuple[int, ...]] = []
    logprobs = classifier.backends.numpy.logprobs

    def noted(text: np.ndarray) -> Any:
        shapes.append(text.shape)
        return logprobs(text)

    monkeypatch.setattr(classifier.backends.numpy, "logprobs", noted)
    found = classifier.predict(texts)
    for of_text, before in zip(found, expected, strict=True):
        assert of_text[0].label == before[0].label
        assert of_text[0].probability == pytest.approx(before[0].probability, abs=1e-5)
    assert [shape[1] for shape in shapes] == [13, 7, 1]


def test_a_label_is_one_label_in_either_normal_form() -> None:
    text = "a\ttal\u00e9\nb\ttale\u0301\n"
    assert [labels for _, labels, _ in TASK.parse([text])] == ["tal\u00e9\ntal\u00e9\n"]


def test_every_table_has_its_own_heading() -> None:
    Path("a.csv").write_text("text,label\na fine day,good\n", encoding="utf-8")
    Path("b.csv").write_text("label,id,text\nbad,3,the dull film\n", encoding="utf-8")
    options = TrainOptions(task="classify", label_column="label")
    read = list(parsed(Corpus(["a.csv", "b.csv"]), options, TASK))
    assert [(text, label) for text, label, _ in read] == [
        ("a fine day\n", "good\n"),
        ("the dull film\n", "bad\n"),
    ]
