"""The pages in docs/: their example runs, and their figures are those of the benchmarks."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

import charlm
from benchmarks import scale, strain, units
from benchmarks.cells import page as cells_page
from benchmarks.cells.learning import PLOT
from benchmarks.cells.variants import CELLS as COMPARED
from benchmarks.cells.variants import config_fields
from benchmarks.labels import __main__ as labels
from benchmarks.labels import page as labels_page
from benchmarks.mixture import __main__ as mixture
from benchmarks.mixture import page as mixture_page
from benchmarks.project import ROOT, load_results
from benchmarks.quality import page as quality_page
from benchmarks.quality.trainings import TRAININGS
from benchmarks.serving import harness, load
from benchmarks.speed import page as speed_page
from benchmarks.speed.parts import NANOGPT, PARTS
from benchmarks.targets import __main__ as targets
from benchmarks.targets import page as targets_page
from benchmarks.uses import __main__ as uses
from benchmarks.uses import page as uses_page
from benchmarks.uses.formats import Output, of_values
from charlm.model.combination import Linear, LogLinear
from charlm.model.config import ModelConfig
from charlm.model.equations import CELLS
from charlm.model.layers import Layer

PAGE = (ROOT / "docs/cells.md").read_text(encoding="utf-8")
OPTIONS = (
    "--activation relu",
    "--no-forget-gate",
    "--forget-bias",
    "--peepholes",
    "--reset before",
    "--layer-norm",
)


@pytest.mark.parametrize("layer_norm", [False, True])
def test_the_cell_of_eight_lines_trains_scores_and_samples(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, layer_norm: bool
) -> None:
    (program,) = re.findall(r"^```python\n(.*?)^```", PAGE, flags=re.MULTILINE | re.DOTALL)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(CELLS, "mgu", lambda: None)  # so that the entry is removed after the test
    exec(program, {})
    definition = program[program.index("def mgu") : program.index("CELLS[")]
    assert len(definition.strip().splitlines()) <= 8
    model = charlm.train(
        corpus,
        cell="mgu",
        layer_norm=layer_norm,
        steps=80,
        hidden=24,
        quiet=True,
        precision="fp32",
        lr=0.01,
    )
    assert model.card.valid_nats < 2.3
    assert model.score("the cat sat").logprob > model.score("tca eht tas").logprob
    assert model.sample("the", length=9, seed=1).startswith("the")
    fast, reference = (
        Layer(model.config.recurrence, 3, 5, layer_norm, reference=r).double()
        for r in (False, True)
    )
    for parameter in fast.parameters():
        torch.nn.init.normal_(parameter)
    reference.load_state_dict(fast.state_dict())
    x = torch.randn(4, 2, 3, dtype=torch.float64)
    state = (torch.randn(2, 5, dtype=torch.float64),)
    for layer in (fast, reference):
        layer(x, state)[0].square().sum().backward()
    for name, parameter in fast.named_parameters():
        expected = dict(reference.named_parameters())[name].grad
        torch.testing.assert_close(parameter.grad, expected, rtol=1e-10, atol=1e-10)


def test_every_cell_and_variant_is_on_the_page() -> None:
    for cell in CELLS:
        assert f"## {cell}\n" in PAGE
    for option in OPTIONS:
        assert option in PAGE


def test_the_figures_of_the_cells_are_those_of_the_benchmark() -> None:
    results = load_results(ROOT / "benchmarks/cells.json")
    for name, block in cells_page.blocks(results).items():
        assert f"<!-- {name} -->\n{block}<!-- end of {name} -->" in PAGE
    assert PLOT.is_file()
    for options in COMPARED.values():
        ModelConfig(9, **config_fields(options))


def test_the_figures_of_the_recipe_are_those_of_the_benchmark() -> None:
    results = load_results(ROOT / "benchmarks/quality.json")
    page = (ROOT / "docs/recipe.md").read_text(encoding="utf-8")
    for name, block in quality_page.blocks(results).items():
        assert f"<!-- {name} -->\n{block}<!-- end of {name} -->" in page
    assert set(results) <= set(TRAININGS)


def test_the_figures_of_speed_are_those_of_the_benchmark() -> None:
    results = load_results(ROOT / "benchmarks/speed.json")
    page = (ROOT / "docs/speed.md").read_text(encoding="utf-8")
    assert page.endswith(speed_page.tables(results))
    assert set(results) <= {"machine", NANOGPT, *PARTS}


def test_the_figures_of_the_mixture_are_those_of_the_benchmark() -> None:
    results = load_results(mixture.RESULTS)
    page = mixture_page.PAGE.read_text(encoding="utf-8")
    assert set(results) <= set(mixture.PARTS)
    for name, block in mixture_page.blocks(results).items():
        assert f"<!-- {name} -->\n{block}<!-- end of {name} -->" in page
    for kind in (LogLinear, Linear):
        assert kind.default.tolist() == results["defaults"][kind.name]


def test_the_figures_of_targets_are_those_of_the_benchmark() -> None:
    page = targets_page.PAGE.read_text(encoding="utf-8")
    results = load_results(targets.RESULTS)
    assert set(results) <= set(targets.PARTS)
    for name, block in targets_page.blocks(results).items():
        assert f"<!-- {name} -->\n{block}<!-- end of {name} -->" in page


def test_the_figures_of_labels_are_those_of_the_benchmark() -> None:
    results = load_results(labels.RESULTS)
    page = labels_page.PAGE.read_text(encoding="utf-8")
    assert set(results) <= set(labels.PARTS)
    for name, block in labels_page.blocks(results).items():
        assert f"<!-- {name} -->\n{block}<!-- end of {name} -->" in page


def test_the_figures_of_strain_are_those_of_the_benchmark() -> None:
    results = load_results(strain.RESULTS)
    page = strain.PAGE.read_text(encoding="utf-8")
    assert set(results) == set(strain.PARTS)
    for name, block in strain.page(results).items():
        assert f"<!-- {name} -->\n{block}<!-- end of {name} -->" in page


def test_the_figures_of_scale_are_those_of_the_benchmark() -> None:
    results = load_results(scale.RESULTS)
    page = scale.PAGE.read_text(encoding="utf-8")
    assert set(results) == set(scale.PARTS)
    for name, block in scale.page(results).items():
        assert f"<!-- {name} -->\n{block}<!-- end of {name} -->" in page


def test_the_figures_of_units_are_those_of_the_benchmark() -> None:
    page = units.PAGE.read_text(encoding="utf-8")
    for name, block in units.blocks(load_results(units.RESULTS)).items():
        assert f"<!-- {name} -->\n{block}<!-- end of {name} -->" in page


def test_the_page_of_the_uses_is_that_of_the_benchmark() -> None:
    results = load_results(uses.RESULTS)
    assert set(results) <= set(uses_page.SECTIONS)
    page = uses_page.PAGE
    assert page.exists() == bool(results)
    assert not results or page.read_text(encoding="utf-8") == uses_page.page(results)


def test_the_summaries_of_kenlm_and_srilm_from_values_of_kenlm() -> None:
    output = Output.read(
        "a=5 2 -1\tz=0 1 -2\t</s>=2 1 -0.5\tTotal: -3.5 OOV: 1\n"
        "b=7 2 -1.5\t</s>=2 1 -1\tTotal: -2.5 OOV: 0\n"
        f"Perplexity including OOVs:\t{10**1.2}\nPerplexity excluding OOVs:\t10\n"
        "OOVs:\t1\nTokens:\t5\n"
    )
    assert output.sums() == {"tokens": 5, "unknown": 1, "all": -6.0, "known": -4.0}
    results = of_values(output, ["a z", "b"])
    assert results["largest_difference"] == pytest.approx(0, abs=1e-6)
    assert results["kenlm"]["charlm"] == pytest.approx(output.summary, rel=1e-5)
    expected = {"sentences": 2, "words": 3, "unknown": 1, "logprob": -4, "ppl": 10, "ppl1": 100}
    assert results["srilm"]["charlm"] == pytest.approx(expected, rel=1e-5)
    assert results["srilm"]["formulas"] == pytest.approx(expected, rel=1e-5)


def test_the_figures_of_serving_are_those_of_the_benchmarks() -> None:
    page = load.PAGE.read_text(encoding="utf-8")
    for module in (load, harness):
        results = load_results(module.RESULTS)
        for name, block in module.blocks(results).items():
            assert f"<!-- {name} -->\n{block}<!-- end of {name} -->" in page
