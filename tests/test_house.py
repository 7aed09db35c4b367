"""The structure of the package: what may import what, and what importing costs."""

from __future__ import annotations

import ast
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from charlm.tasks import TABLE

PACKAGE = Path(__file__).parent.parent / "charlm"
# The floors of the house, from the ground up. A module imports only from floors below its own, or
# from its own package.
FLOORS: tuple[tuple[str, ...], ...] = (
    ("errors", "progress", "keywords"),
    ("files", "options", "parts"),
    ("tokenizer", "pages"),
    ("corpus", "model"),
    ("runs", "engines"),
    ("tasks",),
    ("training", "uses"),
    ("api", "server"),
    ("cli",),
    ("__main__",),
)
FLOOR = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}
ENGINES = ("scoring", "evaluation", "generation", "filling", "embedding", "activations")


def modules() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def name_of(path: Path) -> str:
    """The dotted name of a module within the package, such as "model.network"."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


def imports(path: Path, everything: bool = True) -> set[str]:
    """The dotted names within the package that a module imports.

    everything:  also imports inside functions; those for type checking alone never count
    """
    tree = ast.parse(path.read_text(encoding="utf-8"))
    found: set[str] = set()

    def visit(node: ast.AST) -> None:
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            return
        if isinstance(node, ast.FunctionDef) and not everything:
            return
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("charlm"):
            base = node.module.removeprefix("charlm").lstrip(".")
            is_package = (PACKAGE / base.replace(".", "/")).is_dir()
            for alias in node.names:
                inner = f"{base}.{alias.name}".lstrip(".")
                names_module = is_package and any(
                    (PACKAGE / f"{inner.replace('.', '/')}{end}").exists()
                    for end in (".py", "/__init__.py")
                )
                found.add(inner if names_module else base)
        for child in ast.iter_child_nodes(node):
            visit(child)

    visit(tree)
    return found - {""}


def room_of(name: str) -> str:
    return name.split(".")[0]


@pytest.mark.parametrize("path", modules(), ids=name_of)
def test_a_module_imports_only_from_floors_below(path: Path) -> None:
    name = name_of(path)
    if not name:  # charlm/__init__.py
        assert not imports(path, everything=False)
        return
    for imported in imports(path):
        same_package = room_of(imported) == room_of(name)
        assert same_package or FLOOR[room_of(imported)] < FLOOR[room_of(name)], imported


def test_every_module_has_a_floor() -> None:
    assert {room_of(name_of(path)) for path in modules()} - {""} == set(FLOOR)


def test_engines_and_tasks_do_not_import_each_other() -> None:
    for engine in ENGINES:
        imported = imports(PACKAGE / f"engines/{engine}.py")
        assert not imported & {f"engines.{other}" for other in ENGINES}, engine
    # The contract; what `lm` and `fill` have in common, and `classify` and `tag`; the start from a
    # model; models of two halves; and the classes of the models of `lm`, `tag`, `tree` and
    # `seq2seq`.
    shared = {
        *("base", "trained", "tokens", "labelled", "source", "halves"),
        *("language_model", "word_tagger", "tree_labeller", "transducer"),
    }
    tasks = {path.stem for path in (PACKAGE / "tasks").glob("*.py")} - {"__init__", *shared}
    assert tasks == {*TABLE}
    for task in tasks:
        imported = {name for name in imports(PACKAGE / f"tasks/{task}.py") if "tasks." in name}
        assert imported <= {f"tasks.{name}" for name in shared}, task


def test_the_model_knows_no_text_and_the_tokenizer_no_floats() -> None:
    for path in (PACKAGE / "model").glob("*.py"):
        corpus = {name for name in imports(path) if room_of(name) == "corpus"}
        assert not corpus, path
        if path.name != "file.py":  # the model file holds the tokenizer, too
            used = {name for name in imports(path) if room_of(name) == "tokenizer"}
            assert used <= {"tokenizer"}, path
    for path in (PACKAGE / "tokenizer").glob("*.py"):
        assert "np.float" not in path.read_text(encoding="utf-8"), path


def test_only_training_and_the_torch_network_import_torch_at_once() -> None:
    """Everything that `score` and `sample` need for small work starts without torch."""
    torch_allowed = {"training"}
    for path in modules():
        tree = ast.parse(path.read_text(encoding="utf-8"))
        direct = {
            alias.name.split(".")[0]
            for node in tree.body
            if isinstance(node, ast.Import)
            for alias in node.names
        } | {
            (node.module or "").split(".")[0]
            for node in tree.body
            if isinstance(node, ast.ImportFrom)
        }
        name = name_of(path)
        if "torch" in direct:
            assert room_of(name) in torch_allowed | {"model"}, name


def test_importing_the_package_leaves_the_environment_as_it_is() -> None:
    program = "import os; before = dict(os.environ); import charlm; print(before == os.environ)"
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, check=False)
    assert ran.stdout.decode().strip() == "True"


def test_the_oldest_numpy_that_is_allowed_has_what_is_used() -> None:
    """`np.vecdot` is new in 2.0."""
    project = tomllib.loads((PACKAGE.parent / "pyproject.toml").read_text(encoding="utf-8"))
    (numpy,) = (d for d in project["project"]["dependencies"] if d.startswith("numpy"))
    uses = any("np.vecdot" in path.read_text(encoding="utf-8") for path in modules())
    assert uses and numpy == "numpy>=2.0"


def test_importing_the_package_costs_nothing() -> None:
    program = (
        "import sys, charlm; heavy = {'numpy', 'torch', 'typer', 'rich', 'charlm.api'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
        "charlm.load, charlm.LanguageModel, charlm.FillModel, charlm.TextClassifier\n"
        "assert 'torch' not in sys.modules\n"
    )
    ran = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr
