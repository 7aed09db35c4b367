"""The notebook in docs/ runs from its first cell to its last."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

ROOT = Path(__file__).parent.parent
NOTEBOOK = ROOT / "docs/tour.ipynb"
CORPUS, LINES = "corpora/sentences.txt", 4000  # the test trains on the first lines


def read() -> Any:
    return nbformat.read(NOTEBOOK, as_version=4)  # type: ignore[no-untyped-call]


def code_cells(notebook: Any) -> list[Any]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def test_the_notebook_holds_no_outputs() -> None:
    for cell in code_cells(read()):
        assert not cell.outputs and cell.execution_count is None


@pytest.mark.slow
def test_the_notebook_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "corpora").mkdir()
    lines = (ROOT / CORPUS).read_text(encoding="utf-8").splitlines(keepends=True)
    (tmp_path / CORPUS).write_text("".join(lines[:LINES]), encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    for name in ("IPYTHONDIR", "JUPYTER_RUNTIME_DIR"):
        monkeypatch.setenv(name, str(tmp_path / name))
    notebook = read()
    first, *_ = code_cells(notebook)
    assert "SECONDS = 20" in first.source
    first.source = first.source.replace("SECONDS = 20", "SECONDS = 3")
    resources = {"metadata": {"path": str(tmp_path / "docs")}}
    NotebookClient(notebook, timeout=120, resources=resources).execute()
    shown: list[str] = []
    for cell in code_cells(notebook):
        for output in cell.outputs:
            assert output.get("name") != "stderr", output.text
            data = output.get("data", {})
            shown.append(data.get("text/html") or data.get("text/plain") or output.get("text"))
    model, coloured, several, frame, *_, samples = (text for text in shown if "Figure" not in text)
    assert "LanguageModel('runs/tour/model.safetensors')" in model
    assert coloured.count("<b style=") == len("the apple and pear salad") + 1
    assert several.count('class="scored"') == 2 and "<table" in frame
    assert [line[:5] for line in samples.splitlines()] == ["Cats "] * 3
