"""The pages in docs/ say what the code does: their example runs, their figures are the script's."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch

import charlm
from charlm.model.config import ModelConfig
from charlm.model.equations import CELLS
from charlm.model.layers import Layer

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs/cells.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("layer_norm", [False, True])
def test_the_cell_of_eight_lines_trains_scores_and_samples(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, layer_norm: bool
) -> None:
    (program,) = re.findall(r"^```python\n(.*?)^```", PAGE, flags=re.MULTILINE | re.DOTALL)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(CELLS, "mgu", lambda: None)  # which is undone in the end
    exec(program, {})
    definition = program[program.index("def mgu") : program.index("CELLS[")]
    assert len(definition.strip().splitlines()) <= 8
    model = charlm.train(
        corpus, cell="mgu", layer_norm=layer_norm, steps=120, hidden=24, quiet=True,
        precision="fp32", lr=0.01,
    )  # fmt: skip
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
    for option in ("--activation relu", "--no-forget-gate", "--forget-bias", "--peepholes",
                   "--reset before", "--layer-norm"):  # fmt: skip
        assert option in PAGE


def test_the_figures_are_those_that_the_script_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    import cells

    results = json.loads((ROOT / "benchmarks/cells.json").read_text(encoding="utf-8"))
    for name, block in cells.blocks(results).items():
        assert f"<!-- {name} -->\n{block}<!-- end of {name} -->" in PAGE
    assert (ROOT / "docs" / cells.PLOT).is_file()
    for arguments in cells.CELLS.values():
        ModelConfig(9, **cells.options_of(arguments))


def test_the_recipes_figures_are_those_that_the_script_found(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    import quality

    results = json.loads((ROOT / "benchmarks/quality.json").read_text(encoding="utf-8"))
    page = (ROOT / "docs/recipe.md").read_text(encoding="utf-8")
    for name, block in quality.blocks(results).items():
        assert f"<!-- {name} -->\n{block}<!-- end of {name} -->" in page
    assert set(results) <= set(quality.TRAINED)


def test_the_speeds_are_those_that_the_script_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    import speed

    results = json.loads((ROOT / "benchmarks/speed.json").read_text(encoding="utf-8"))
    assert (ROOT / "docs/speed.md").read_text(encoding="utf-8").endswith(speed.tables(results))
    assert set(results) <= {"machine", "nanoGPT", *speed.PARTS}
