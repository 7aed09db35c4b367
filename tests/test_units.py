"""Values of hidden units, the search for units that follow a property, and the command."""

from __future__ import annotations

import base64
import json
import math
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

import charlm
from charlm import LanguageModel
from charlm.engines.activations import Reading, Unit, all_units, values_of
from charlm.engines.tagging import spellings_of
from charlm.errors import InputError, OptionError
from charlm.model.activations import BACKWARDS, FORWARDS, ObservedStack
from charlm.model.config import ModelConfig
from charlm.model.names import strip_prefix
from charlm.model.network import Network
from charlm.tokenizer import EOS, START, Characters, VocabularyOptions, as_inputs
from charlm.uses import text_properties
from charlm.uses.concordance import concordance, jackknifed, standard_error
from charlm.uses.text_properties import PROPERTIES
from charlm.uses.unit_search import Finding, search_units
from charlm.uses.units import panels
from conftest import Command, Trained

ROOT = Path(__file__).parent.parent
VOCAB, HIDDEN = 12, 6
SHAPES: dict[str, dict[str, Any]] = {
    "lstm": {},
    "lstm peepholes": {"peepholes": "ifo"},
    "lstm no forget gate": {"forget_gate": False},
    "lstm layer norm": {"layer_norm": True, "layers": 2},
    "gru": {"cell": "gru"},
    "gru reset before": {"cell": "gru", "reset": "before"},
    "gru-simple": {"cell": "gru-simple"},
    "rnn relu": {"cell": "rnn", "activation": "relu"},
    "three gru residual": {"cell": "gru", "layers": 3, "residual": True},
}
OF_CELL = {"lstm": "hcifgo", "gru": "hrun", "gru-simple": "hun", "rnn": "h"}


def network_of(shape: dict[str, Any], std: float = 0.4) -> Network:
    network = Network(ModelConfig(VOCAB, hidden=HIDDEN, **{"embedding": 4} | shape)).eval()
    generator = torch.Generator().manual_seed(1)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=std, generator=generator)
    return network


def reading_of(network: Network, ids: NDArray[np.int64]) -> Reading:
    """The reading of a text of these tokens, of one character each."""
    weights = network.weights()
    stack = ObservedStack.of(
        network.config, strip_prefix("layers", weights), weights["embedding"], before=START
    )
    spans = np.stack([np.arange(len(ids)), np.arange(len(ids)) + 1], axis=1)
    return Reading.of("x" * len(ids), (ids, spans), [stack], carried=True)  # type: ignore[arg-type]


def every(reading: Reading, kind: str) -> NDArray[np.float32]:
    """(n, H) the values of one kind, such as "1.h"."""
    return values_of(reading, [u for u in all_units(reading.stacks) if u.kind == kind])


# --- values ---


@pytest.mark.parametrize("name", SHAPES)
def test_the_states_are_those_of_the_network(name: str) -> None:
    """One token after the other, and the last state of every layer."""
    network, ids = network_of(SHAPES[name]), np.array([3, 5, EOS, 8, 2, 4, 4, 11])
    reading, state = reading_of(network, ids), network.initial_state(1)
    layers, outputs = network.config.layers, []
    for id in [START, *as_inputs(ids)]:
        _, state = network.read(np.array([[id]]), state)
        outputs.append(state)
    for layer in range(layers):
        for k, quantity in enumerate(network.config.recurrence.state):
            found = every(reading, f"{layer + 1}.{quantity}")
            expected = np.stack([s[layer][k][0].numpy() for s in outputs[1:]])
            read = ids != EOS
            np.testing.assert_allclose(found[read], expected[read], rtol=0, atol=1e-5)
            assert np.isnan(found[~read]).all()  # a line end has no value


@pytest.mark.parametrize("name", SHAPES)
def test_every_kind_of_a_cell_is_observed(name: str) -> None:
    network = network_of(SHAPES[name])
    kinds = OF_CELL[network.config.cell]
    if network.config.forget_gate is False:
        kinds = kinds.replace("f", "")
    (stack,) = reading_of(network, np.array([3])).stacks
    assert stack.quantities == kinds
    assert len(all_units([stack])) == len(kinds) * HIDDEN * network.config.layers


def test_the_gates_of_an_lstm_are_those_of_its_equations() -> None:
    network, ids = network_of({}), np.array([3, 5, 8, 2])
    reading, layer = reading_of(network, ids), next(iter(network.encoder.layers))
    cell = torch.nn.LSTMCell(4, HIDDEN)
    with torch.no_grad():
        for own, other in zip(cell.parameters(), (layer.W, layer.U, layer.b, 0 * layer.b),
                              strict=True):  # fmt: skip
            own.copy_(other)
        h, c = torch.zeros(1, HIDDEN), torch.zeros(1, HIDDEN)
        for t, id in enumerate([START, *ids]):
            x = network.encoder.embedding[id][None]
            i, f, g, o = (x @ layer.W.T + h @ layer.U.T + layer.b).chunk(4, dim=1)
            gates = {"i": i.sigmoid(), "f": f.sigmoid(), "g": g.tanh(), "o": o.sigmoid()}
            h, c = cell(x, (h, c))
            for kind, expected in (gates | {"h": h, "c": c}).items() if t else ():
                found = every(reading, f"1.{kind}")[t - 1]
                np.testing.assert_allclose(found, expected[0], rtol=0, atol=1e-6)


@pytest.mark.parametrize("reset", ["after", "before"])
def test_the_gates_of_a_gru_are_those_of_its_equations(reset: str) -> None:
    network, ids = network_of({"cell": "gru", "reset": reset}), np.array([3, 5, 8, 2])
    p: Any = next(iter(network.encoder.layers))
    reading = reading_of(network, ids)
    with torch.no_grad():
        h = torch.zeros(HIDDEN)
        for t, id in enumerate([START, *ids]):
            x = (p.W @ network.encoder.embedding[id] + p.b).chunk(3)
            if reset == "after":
                u_h = (p.U @ h).chunk(3)
                r, u = (x[0] + u_h[0]).sigmoid(), (x[1] + u_h[1]).sigmoid()
                n = (x[2] + r * (u_h[2] + p.b_u)).tanh()
            else:
                r, u = (a.sigmoid() for a in (torch.cat(x[:2]) + p.U @ h).chunk(2))
                n = (x[2] + p.U_n @ (r * h)).tanh()
            h = u * h + (1 - u) * n
            for kind, expected in {"r": r, "u": u, "n": n, "h": h}.items() if t else ():
                found = every(reading, f"1.{kind}")[t - 1]
                np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)


def test_a_long_text_is_read_in_pieces_with_the_same_values() -> None:
    network = network_of({"cell": "gru", "layers": 2})
    ids = np.random.default_rng(0).integers(2, VOCAB, size=3000)
    ids[1500] = EOS
    y, _ = network.read(np.array([[START, *as_inputs(ids)]]), network.initial_state(1))
    found = every(reading_of(network, ids), "2.h")
    read = ids != EOS
    np.testing.assert_allclose(found[read], y[0, 1:][read], rtol=0, atol=1e-5)
    part = every(reading_of(network, ids).between(1000, 1200), "2.h")
    assert np.isfinite(part).any(axis=1).tolist() == [1000 <= k < 1200 for k in range(3000)]


def test_a_long_text_is_read_from_its_end_with_the_same_values(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    network, ids = network_of({}), np.random.default_rng(1).integers(3, VOCAB, 3000)
    weights = network.weights()
    layers, table = strip_prefix("layers", weights), weights["embedding"]
    stack = ObservedStack.of(network.config, layers, table, direction=BACKWARDS, before=START)
    reading = replace(reading_of(network, ids), stacks=[stack])
    in_pieces = every(reading, "1b.c")
    monkeypatch.setattr("charlm.engines.activations.PIECE", len(ids))
    np.testing.assert_allclose(in_pieces, every(reading, "1b.c"), rtol=0, atol=1e-4)


def test_layers_of_a_fill_model_read_from_both_ends(trained: Trained) -> None:
    model = trained(task="fill", steps=20, hidden=16)
    text = "the cat sat\n\nmy aunt waited"
    reading = model.reading(text)
    vectors = np.concatenate([each.vectors for each in model.embed(text.split("\n"))])
    both = np.concatenate([every(reading, "1.h"), every(reading, "1b.h")], axis=1)
    np.testing.assert_allclose(both[reading.counted], vectors, rtol=0, atol=1e-5)


@pytest.mark.parametrize("level", ["char", "word"])
def test_values_of_a_language_model_are_its_vectors(trained: Trained, level: str) -> None:
    model = trained(lines=True, steps=20, hidden=16, level=level)
    text = "the cat sat\nmy aunt waited"
    reading = model.reading(text)
    vectors = np.concatenate([each.vectors for each in model.embed(text.split("\n"))])
    found = every(reading, "1.h")[reading.counted]
    np.testing.assert_allclose(found, vectors, rtol=0, atol=1e-5)
    words = [text[a:b] for a, b in reading.spans[reading.counted]]
    assert words == (text.split() if level == "word" else list(text.replace("\n", "")))


@pytest.fixture(scope="module")
def of_tasks(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Models of the other tasks, hardly trained."""
    files = {"classify": "labelled.tsv", "tag": "tagged.conll", "seq2seq": "numbers.tsv",
             "tree": "opinions.trees"}  # fmt: skip
    folder, models = tmp_path_factory.mktemp("tasks"), {}
    for task, file in files.items():
        lines = (ROOT / "corpora" / file).read_text(encoding="utf-8").splitlines(keepends=True)
        corpus = folder / file
        corpus.write_text("".join(lines[:300]), encoding="utf-8")
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(folder)
            options: dict[str, Any] = {"task": task, "steps": 3, "hidden": 8, "quiet": True}
            if task != "tree":
                options["layers"] = 2
            models[task] = charlm.train(corpus, out=folder / task, **options)
    return models


def test_a_classifier_reads_each_line_from_both_ends(of_tasks: dict[str, Any]) -> None:
    model = of_tasks["classify"]
    reading = model.reading("The soup was salty\n\nWe liked it")
    for line, (start, end) in zip(["The soup was salty", "We liked it"], reading.sequences,
                                  strict=True):  # fmt: skip
        ids = model.tokenizer.encode(line).ids
        expected = model.backends.numpy.states(ids[:, None])[:, 0]
        x = np.concatenate([every(reading, f"2{d}.h") for d in ("", "b")], axis=1)[start:end]
        np.testing.assert_allclose(x, expected, rtol=0, atol=1e-5)


def test_a_tagger_reads_words_and_their_letters(of_tasks: dict[str, Any]) -> None:
    """Its second layer is residual: the output is the sum of both."""
    model, sentences = of_tasks["tag"], [["Eva", "zzyzx"], ["the", "kitchen"]]
    reading = model.reading("Eva zzyzx\n\n the kitchen")
    words = [reading.text[a:b] for a, b in reading.spans[reading.counted]]
    assert words == [*sentences[0], *sentences[1]]
    assert model.config.residual
    first, second = (
        np.concatenate([every(reading, f"{layer}{d}.h") for d in ("", "b")], axis=1)
        for layer in (1, 2)
    )
    found = first + second
    data, which = model._examples(sentences), np.arange(2)
    ids = data.padded("text", which)[:2]
    expected = model.backends.numpy.states(ids, *spellings_of(data, which, 2))
    for k, (start, end) in enumerate(reading.sequences):
        np.testing.assert_allclose(found[start:end], expected[:, k], rtol=0, atol=1e-5)


def test_an_encoder_reads_the_source_and_a_decoder_the_target(of_tasks: dict[str, Any]) -> None:
    model = of_tasks["seq2seq"]
    network, source = model.backends.numpy, model.source.encode("4031").ids
    reading = model.reading("4031")
    found = np.concatenate([every(reading, f"2{d}.h") for d in ("", "b")], axis=1)
    expected = network._encoder.states(source[:, None])[:, 0]
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)
    target = "forty"
    ids = model.tokenizer.encode(target).ids
    _, state = network.memory_of(source[:, None])
    y, _ = network.read(np.array([[START, *ids]]), state)
    decoder = every(model.given("4031").reading(target), "2.h")
    np.testing.assert_allclose(decoder, y[0, 1:], rtol=0, atol=1e-5)


def test_a_model_of_trees_or_of_n_grams_alone_has_no_values(
    of_tasks: dict[str, Any], trained: Trained
) -> None:
    with pytest.raises(InputError, match="`task=tree` has no values along a text"):
        charlm.units(of_tasks["tree"], "the pie")
    path = trained(lines=True, steps=20, hidden=16, level="char").path
    with pytest.raises(OptionError, match="`ngram_only=True`: n-grams have no units"):
        charlm.units(charlm.load(path, ngram_only=True), "the pie")


# --- the search ---


def planted(text: str) -> Reading:
    """A network with random weights, in which unit 1 counts the characters of a line, and unit 2
    is 1 from “ to ” and 0 elsewhere: both in the cell state."""
    tokenizer = Characters.train(lambda: [text], VocabularyOptions())
    v, hidden = tokenizer.size, 10
    rng = np.random.default_rng(0)
    W, U = rng.normal(0, 0.3, (4 * hidden, v)), rng.normal(0, 0.3, (4 * hidden, hidden))
    b = np.zeros(4 * hidden)
    opening, closing = tokenizer.encode("“”").ids
    i, f, g = (k * hidden for k in range(3))
    for row in (i, f, g):
        W[row : row + 2], U[row : row + 2] = 0, 0
    b[[i, f, f + 1]], b[g] = 20, 0.01  # the counter adds 0.01
    W[f, START] = W[f + 1, closing] = -40
    b[i + 1], W[i + 1, opening], W[g + 1, opening] = -20, 40, 20
    weights = {"W": W, "U": U, "b": b}
    layers = {f"0.{name}": w.astype(np.float32) for name, w in weights.items()}
    config = ModelConfig(v, hidden=hidden, embedding=v)
    stack = ObservedStack.of(config, layers, np.eye(v, dtype=np.float32), before=START)
    return Reading.of(text, tokenizer.encode(text), [stack], carried=True)


def written(lines: int = 200) -> str:
    """Lines of different lengths, with quotations of several words."""
    rng = np.random.default_rng(1)
    text = []
    for _ in range(lines):
        words = ["ab", "cde", "fghi", "jklmno", "pqr", "stuvw", "xyz"]
        line = [words[k] for k in rng.integers(0, 7, size=rng.integers(4, 14))]
        line.insert(rng.integers(0, len(line)), "“" + " ".join(words[: rng.integers(2, 5)]) + "”")
        text.append(" ".join(line))
    return "\n".join(text) + "\n"


def test_planted_units_are_found_first() -> None:
    found = {f.text_property.name: f for f in search_units(planted(written())).believed}
    line, quotes = found["position in the line"], found["in quotes"]
    assert (line.unit.name, quotes.unit.name) == ("1.c1", "1.c2")
    assert line.rising and quotes.rising
    assert line.figure > 0.999 and quotes.figure > 0.999
    assert max(line.simpler.values()) < 0.8 and max(quotes.simpler.values()) < 0.9
    assert quotes.mean == pytest.approx(0.2, abs=0.1)


@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
def test_a_random_network_has_no_unit_that_is_believed(cell: str) -> None:
    text = (ROOT / "corpora/tales.txt").read_text(encoding="utf-8")[:12_000]
    tokenizer = Characters.train(lambda: [text], VocabularyOptions())
    network = Network(ModelConfig(tokenizer.size, hidden=24, embedding=12, cell=cell)).eval()
    weights = network.weights()
    stack = ObservedStack.of(
        network.config, strip_prefix("layers", weights), weights["embedding"], before=START
    )
    found = search_units(Reading.of(text, tokenizer.encode(text), [stack], carried=True))
    assert len(found.findings) >= 5 and not found.believed
    by_name = {finding.text_property.name: finding for finding in found.findings}
    assert by_name["capital letter"].simpler["token"] > 0.999
    assert by_name["capital letter"].verdict == "no: token"
    assert by_name["start of a word"].simpler["two tokens"] > 0.99
    assert "in a comment" in [p.name for p in found.rare]


def test_the_verdict_names_what_is_as_good() -> None:
    unit = Unit(1, False, "h", 1)

    def finding(error: float = 0.01, **simpler: float) -> Finding:
        figures = {"token": 0.6, "two tokens": 0.6, "shuffled": 0.6} | simpler
        return Finding(PROPERTIES[0], unit, True, 0.5, 0.8, error, figures)

    assert finding().verdict == "yes" and finding().believed
    assert finding(token=0.76).verdict == "no: token"
    assert finding(shuffled=0.9).verdict == "no: shuffled"
    assert finding(error=0.1).verdict == "no: uncertain" and not finding(error=0.1).believed


def test_a_property_in_one_tenth_of_the_text_leaves_the_figure_uncertain() -> None:
    truth = np.zeros(1000)
    truth[500:560:2] = 1
    assert concordance(truth, truth) == 1
    assert standard_error(jackknifed(truth, truth)) == math.inf
    unit = Unit(1, False, "h", 1)
    figures = {"token": 0.5, "two tokens": 0.5, "shuffled": 0.5}
    finding = Finding(PROPERTIES[0], unit, True, 0.0, 1.0, math.inf, figures)
    assert finding.verdict == "no: uncertain" and finding.to_json()["error"] is None


def test_a_text_without_properties_has_no_findings(model: LanguageModel) -> None:
    letters = np.random.default_rng(0).choice(list("abcdehimnost"), 3000)
    found = charlm.units(model, search="".join(letters))
    assert not found.findings and not found.pictures and found.longer == "".join(letters[:1500])
    assert len(found.rare) == len(PROPERTIES) and found.note is None


def test_nothing_is_searched_where_most_is_unknown_or_repeated(model: LanguageModel) -> None:
    rng = np.random.default_rng(0)
    chinese = "".join(rng.choice(list("的一是不了人我在有他这，。\n"), 3000))
    unknown = charlm.units(model, search=chinese)
    assert re.match("100% of the tokens are unknown to the model", str(unknown.note))
    assert not unknown.findings and not unknown.pictures
    written = "".join(rng.choice(list("abcdehimnost      \n"), 1500))
    assert charlm.units(model, search=written + written[::-1]).note is None
    for text in (written * 2, "the cat sat on the mat\n" * 100):
        repeated = charlm.units(model, search=text)
        assert re.match(r"\d+% of the second half repeats the first", str(repeated.note))
        assert not repeated.findings
    assert len(charlm.units(model, "the cat sat on the mat\n" * 100).pictures) == 5


@pytest.mark.parametrize("direction", [FORWARDS, BACKWARDS])
def test_the_place_in_the_line_explains_a_property(direction: str) -> None:
    """In words that stand at the same places in each line, a unit that counts finds their starts.
    For a layer that reads from the end, they stand at the same distance to the end."""
    rng = np.random.default_rng(0)
    letters = list("abcdefghijklmnopqrstuvwxyz")
    before = [rng.integers(1, 30) if direction == BACKWARDS else 0 for _ in range(150)]
    lines = ["-" * n + "".join(rng.choice(letters, 9)) + "-" * 6 for n in before]
    text = "".join(f"{line}\n" for line in lines)
    tokenizer = Characters.train(lambda: [text], VocabularyOptions())
    network = Network(ModelConfig(tokenizer.size, hidden=8, embedding=4)).eval()
    weights = network.weights()
    stack = ObservedStack.of(
        network.config, strip_prefix("layers", weights), weights["embedding"], direction=direction
    )
    search = search_units(Reading.of(text, tokenizer.encode(text), [stack]))
    found = {finding.text_property.name: finding for finding in search.findings}
    for name in ("start of a word", "end of a word", "position in the word"):
        assert found[name].simpler["line"] == pytest.approx(1, abs=1e-3)
        assert not found[name].believed
    assert "line" not in found["position in the line"].simpler
    assert found["position in the line"].to_json()["line"] is None


def test_two_properties_that_are_the_same_are_found_once() -> None:
    text = written().replace("\n", ".\n").replace(" ", "(", 1)
    names = [finding.text_property.name for finding in search_units(planted(text)).findings]
    assert "position in the line" in names and "position in the sentence" not in names


def test_a_shuffled_layer_has_the_same_weights_in_other_places() -> None:
    (stack,) = reading_of(network_of({"layer_norm": True}), np.array([3])).stacks
    own, other = (s.layers[0][FORWARDS] for s in (stack, stack.shuffled(np.random.default_rng(0))))
    for name, w in own.items():
        assert np.array_equal(np.sort(w, axis=-1), np.sort(other[name], axis=-1))
        assert np.array_equal(w, other[name]) == (w.ndim == 1)


# --- concordance ---


def test_concordance_equals_a_count_of_all_pairs() -> None:
    rng = np.random.default_rng(0)
    for levels in (2, 7):
        truth = rng.integers(0, levels, 60).astype(float)
        values = np.round(truth + rng.normal(0, 2, 60))
        pairs = [(a, b) for a in range(60) for b in range(60) if truth[a] < truth[b]]
        right = [float(values[a] < values[b]) + 0.5 * (values[a] == values[b]) for a, b in pairs]
        assert concordance(values, truth) == pytest.approx(np.mean(right), abs=1e-12)
    assert np.isnan(concordance(values, np.ones(60)))


def test_the_jackknife_leaves_parts_out() -> None:
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 2, 400).astype(float)
    values = truth + rng.normal(0, 1, 400)
    estimates = jackknifed(values, truth)
    for k, estimate in enumerate(estimates[1:]):
        kept = np.delete(np.arange(400), np.arange(40 * k, 40 * k + 40))
        assert estimate == pytest.approx(concordance(values[kept], truth[kept]), abs=1e-12)
    # Independent positions: the error of a ROC area (Hanley and McNeil 1982) at this area.
    a, n = estimates[0], 200
    q = (n - 1) * (a / (2 - a) + 2 * a * a / (1 + a) - 2 * a * a)
    assert standard_error(estimates) == pytest.approx(((a - a * a + q) / n**2) ** 0.5, rel=0.6)


# --- properties, marked by hand ---

MARKED = {
    "line_ends_soon": ("abcdefghijklmno\nab", "000001111111111111"),
    "in_quotes": ('a "b c" d “e” f\n"g\n\nh', "001111000011000011000"),
    # Three quotes last over a blank line. Escaped ones, and those in single quotes, do not count.
    "in_quotes_of_code": ('"""a\n\nb""" c \'"\' "a\\"b" "" d', "1111111000000000011111001000"),
    "in_brackets": ("a (b [c]) d) (e\n\nf", "00111111000001100" + "0"),
    "bracket_depth": ("f(a[b], {c})", "011221112210"),
    "in_quotes_of_languages": ("„a“ b “c” »d« e «f» 「g『h』」i ‹j›",
                               "110" "000" "110" "0" "110" "000" "110" "0" "11111" "000" "110"),
    "in_brackets_of_chinese": ("a（b）c【d】", "01100110"),
    "word_begins": ("the cat's 3rd,no_x", "100010000010001001"),
    "word_ends": ("the cat's no", "001000001001"),
    "capital_letter": ("Aé É1", "10010"),
    "in_capitalised_word": ("The cat, Éva 3D", "111000000111000"),
    "in_upper_case_word": ("I am NATO Now", "0000011110000"),
    "in_number": ("a 3.5, 12: x2.", "00111001100010"),
    "in_comment": ('a = "#" # b\nhttp://c // d\n/* e\nf */ g',
                   "00000000" "1110" "000000000" "1111" "0" "111111111" "00"),
}  # fmt: skip


@pytest.mark.parametrize("name", MARKED)
def test_a_property_of_a_text_that_was_marked_by_hand(name: str) -> None:
    text, marks = MARKED[name]
    found = getattr(text_properties, re.sub("_of_.*", "", name))(text)
    shown = "".join(str(int(value)) for value in found)
    assert (len(text), shown) == (len(marks), marks)


def test_positions_and_indentation() -> None:
    text = "ab cd.  Ef\n  gh\n\n\ti"
    line = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 0, 1, 2, 3, 4, 0, 0, 1]
    assert text_properties.position_in_line(text).tolist() == line
    word = [1, 2, 0, 1, 2, 0, 0, 0, 1, 2, 0, 0, 0, 1, 2, 0, 0, 0, 1]
    assert text_properties.position_in_word(text).tolist() == word
    sentence = text_properties.position_in_sentence(text).tolist()
    assert sentence[:10] == [0, 1, 2, 3, 4, 5, 0, 1, 2, 3] and sentence[17:] == [0, 1]
    assert text_properties.indentation(text).tolist() == [0] * 11 + [2] * 6 + [8] * 2


@pytest.mark.parametrize("text_property", PROPERTIES, ids=lambda p: p.name)
def test_properties_of_odd_texts(text_property: Any) -> None:
    for text in ("", "\n", "\n\n\n", "\udcff\u2028a", "((((((((((((", '"' * 5):
        values = text_property.measure(text)
        assert values.shape == (len(text),) and values.dtype == np.float32
        assert not text_property.is_yes or set(values.tolist()) <= {0.0, 1.0}


# --- the command ---


def test_units_of_a_short_text(charlm_command: Command, model: LanguageModel) -> None:
    text = "the cat sat on the mat"
    ran = charlm_command("units", text, "-m", model.path, "--unit", "1.c3", "--unit", "1.f2",
                         "--format", "json")  # fmt: skip
    first, second = ran.objects
    assert (first["unit"], second["described"]) == ("1.c3", "layer 1, forget gate of unit 2")
    assert first["tokens"] == [[k, k + 1] for k in range(len(text))] and first["finding"] is None
    expected = charlm.units(model, text, unit=["1.c3", "1.f2"]).pictures
    for picture, record in zip(expected, ran.objects, strict=True):
        assert record["values"] == pytest.approx(picture.values.tolist(), abs=1e-5)
    heading, *rows = charlm_command("units", text, "-m", model.path, "--unit", "1.c3").rows
    assert heading == ["unit", "property", "start", "end", "token", "value"]
    assert [row[4] for row in rows] == list(text)
    assert [float(row[5]) for row in rows] == pytest.approx(first["values"], abs=1e-4)


def test_a_text_that_is_too_short_shows_what_varies(
    charlm_command: Command, model: LanguageModel
) -> None:
    ran = charlm_command("units", "the cat sat", "-m", model.path, "--format", "table")
    assert "the text has 11 tokens: too short to find units in (2,000)" in ran.notes[-1]
    assert "these are the units that vary most" in ran.notes[-1]
    lines = ran.text.splitlines()
    assert lines.count("the cat sat") == 5
    values = every(model.reading("the cat sat"), "1.h")
    most = np.argsort(-values.std(axis=0), kind="stable")[0] + 1
    assert f"1.h{most}, layer 1, hidden state of unit {most}" in lines
    bars = lines[lines.index("the cat sat") + 1]
    heights = ["▁▂▃▄▅▆▇█".index(bar) for bar in bars]
    shades = values[:, most - 1] / max(np.abs(values[:, most - 1]).max(), 1)
    assert heights == np.minimum((shades + 1) / 2 * 8, 7).astype(int).tolist()


def test_a_file_is_searched(charlm_command: Command, model: LanguageModel, tmp_path: Path) -> None:
    file = tmp_path / "long.txt"
    file.write_text(written(), encoding="utf-8")
    found = charlm_command("units", "--file", file, "-m", model.path, "--format", "json").objects
    library = charlm.units(model, search=file.read_text(encoding="utf-8"))
    assert found == [json.loads(json.dumps(finding.to_json())) for finding in library.findings]
    assert {"position in the line", "start of a word"} <= {record["property"] for record in found}
    believed = [record["believed"] for record in found]
    assert believed == sorted(believed, reverse=True)
    for picture in library.pictures:
        assert picture.text in file.read_text(encoding="utf-8")
        assert picture.finding is not None and picture.finding.believed
    ran = charlm_command("units", "--file", file, "-m", model.path, "--format", "table")
    assert "in brackets" in next(line for line in ran.text.splitlines() if "Too rare" in line)
    few = charlm_command("units", "--file", file, "-m", model.path, "--chars", 500)
    assert re.search("too short to find units in: [34].. tokens", few.error)


def test_columns_of_a_corpus_are_searched_without_labels(
    charlm_command: Command, of_tasks: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    searched: list[str] = []

    def remember(model: Any, texts: Any, *, search: str, **more: Any) -> Any:
        searched.append(search)
        raise InputError("enough")

    monkeypatch.setattr("charlm.uses.units.units", remember)
    for task, file in (("classify", "labelled.tsv"), ("tag", "tagged.conll"),
                       ("seq2seq", "numbers.tsv"), ("classify", "tales.txt")):  # fmt: skip
        ran = charlm_command("units", "-m", of_tasks[task].path, "--file", ROOT / "corpora" / file)
        assert ran.error == "enough"
    first = [text.split("\n")[0] for text in searched]
    lines = [
        (ROOT / "corpora" / file).read_text(encoding="utf-8").split("\n")
        for file in ("labelled.tsv", "tagged.conll", "numbers.tsv", "tales.txt")
    ]
    sentence = lines[1][: lines[1].index("")]
    assert first == [
        lines[0][0].split("\t")[0], " ".join(line.split()[0] for line in sentence),
        lines[2][0].split("\t")[0], lines[3][0],
    ]  # fmt: skip


def test_a_page_has_the_values_and_needs_nothing_else(
    charlm_command: Command, model: LanguageModel, tmp_path: Path
) -> None:
    page, text = tmp_path / "page.html", "the </script> cat"
    ran = charlm_command("units", text, "-m", model.path, "--html", page)
    varying = [picture.unit.name for picture in charlm.units(model, text).pictures]
    buttons = re.findall('data-unit="(.*?)"', page.read_text(encoding="utf-8"))
    assert buttons == varying
    assert "too short to find units in" in page.read_text(encoding="utf-8")
    assert ran.notes[-1] == f"page: {page}"
    written = page.read_text(encoding="utf-8")
    assert "http" not in written and "src=" not in written
    (values,) = re.findall(r'<script type="application/json" id="values">(.*?)</script>', written)
    (shown,) = json.loads(values)["panels"]
    assert shown["text"] == text
    reading = model.reading(text)
    for kind in shown["kinds"]:
        rows = np.frombuffer(base64.b64decode(kind["shades"]), np.int8).reshape(-1, len(text))
        assert kind["units"] == list(range(1, model.config.hidden + 1))
        scales = np.array(kind["scales"])[:, None]
        found = (rows / 127 + 1) / 2 if kind["gate"] else rows / 127 * scales
        np.testing.assert_allclose(found, every(reading, kind["name"]).T, atol=0.01 * scales.max())


def test_a_page_keeps_the_units_that_vary_most(
    model: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("charlm.uses.units.MOST_ON_PAGE", 7 * 6 * 3)
    kept = Unit(1, False, "c", 9)
    (panel,) = panels(model, ["the cat"], [kept])
    values = every(model.reading("the cat"), "1.h")
    most = sorted((np.argsort(-values.std(axis=0), kind="stable")[:3] + 1).tolist())
    assert [unit.number for unit in panel.units if unit.quantity == "h"] == most
    assert kept in panel.units and len(panel.units) in (18, 19)


def test_a_unit_along_the_beginning_of_a_file(
    charlm_command: Command, model: LanguageModel, tmp_path: Path
) -> None:
    file = tmp_path / "long.txt"
    file.write_text(written(), encoding="utf-8")
    ran = charlm_command("units", "--file", file, "-m", model.path, "--unit", "1.c3")
    tokens = [row[4] for row in ran.rows[1:]]
    assert 120 < len(tokens) <= 240
    assert written().replace("\n", "").startswith("".join(tokens))
    assert {row[0] for row in ran.rows[1:]} == {"1.c3"}
    ran = charlm_command("units", str(file), "-m", model.path, "--unit", "1.c3")
    assert ran.notes[-1].endswith(f"was read as a text; to search the file: --file {file}")


def test_what_cannot_be_done_is_told_in_one_line(
    charlm_command: Command, model: LanguageModel, of_tasks: dict[str, Any], tmp_path: Path
) -> None:
    def error(*arguments: Any, path: Any = model.path) -> str:
        ran = charlm_command("units", "-m", path, *arguments)
        assert ran.code == 1
        return ran.notes[-1].removeprefix("charlm: ")

    assert "no text; give one, or --file" in error()
    assert "the text is empty" in error("")
    assert "the text is empty" in error("\n")
    for name in ("2.c1", "1.c0", "1.c33", "1.x1", "1b.c1", "c1", "1.c"):
        assert error("a", "--unit", name).startswith(
            f"--unit {name}: no such unit; there are LAYER.QUANTITY and a number, of layer 1: "
            "h c i f g o, 1 to 32"
        )
    assert "no such folder" in error("a", "--html", tmp_path / "none" / "page.html")
    assert "--task tree has no values" in error("a", path=of_tasks["tree"].path)
    empty = tmp_path / "empty.txt"
    empty.write_text("")
    assert "empty" in error("--file", empty)


def test_names_of_units(trained: Trained) -> None:
    stacks = trained(task="fill", steps=20, hidden=16).reading("a").stacks
    assert [list(layer) for stack in stacks for layer in stack.layers] == [[FORWARDS], [BACKWARDS]]
    for name in ("1.h1", "1b.c16", "1.f7"):
        assert Unit.parse(name, stacks).name == name
    assert Unit.parse("1b.g2", stacks).described == "layer 1 backwards, candidate of unit 2"
