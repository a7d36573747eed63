"""What importing the package costs and does, and how its modules are named."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).resolve().parents[1] / "src"
MODULES = sorted((SOURCE / "twotower").rglob("*.py"))
HEAVY = (
    "torch",
    "sentence_transformers",
    "transformers",
    "faiss",
    "onnxruntime",
    "lightning_fabric",
    "fastapi",
    "sqlalchemy",
)
SERVING = {"factors", "index", "bundle", "inference", "service"}


def dotted(path: Path) -> str:
    return ".".join(path.relative_to(SOURCE).with_suffix("").parts).removesuffix(".__init__")


def run(code: str) -> str:
    """Output of a fresh interpreter, both streams."""
    done = subprocess.run(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def loaded_after(code: str, modules: tuple[str, ...]) -> set[str]:
    output = run(f"{code}\nimport sys\nprint()\nprint(*(m for m in {modules} if m in sys.modules))")
    return set(output.splitlines()[-1].split())


def heavy_after(code: str) -> set[str]:
    return loaded_after(code, HEAVY)


def test_importing_the_package_loads_nothing_heavy() -> None:
    assert heavy_after("import twotower, twotower.data") == set()


def test_command_line_help_loads_nothing_heavy() -> None:
    code = (
        "import sys\n"
        "from twotower.cli import main\n"
        "sys.argv = ['twotower', '--help']\n"
        "try:\n"
        "    main()\n"
        "except SystemExit as end:\n"
        "    assert not end.code, end.code"
    )
    assert heavy_after(code) == set()
    assert loaded_after(code, ("polars", "numpy", "pydantic", "rich")) == set()


def test_recommending_loads_what_it_uses(bundle_of_blocks: Path) -> None:
    line = ["recommend", "--bundle", str(bundle_of_blocks), "--user", "u01"]
    code = (
        "from twotower.cli import main\n"
        "try:\n"
        f"    main({line})\n"
        "except SystemExit as end:\n"
        "    assert not end.code, end.code"
    )
    unused = (
        "torch", "pyarrow", "httpx", "sqlalchemy", "fastapi", "tokenizers", "plotly", "pandas",
        "scipy", "onnx", "asyncio", "jinja2", "matplotlib", "faiss", "rich.progress",
        "twotower.service", "twotower.models", "twotower.cli.source", "twotower.cli.study",
        "fsspec", "ray",
    )  # fmt: skip
    assert loaded_after(code, unused) == set()


def test_a_command_is_built_without_the_others() -> None:
    from typer.main import get_command

    from twotower.cli import _app

    def built(only: str | None) -> set[str]:
        return set(get_command(_app(only=only)).commands)  # type: ignore[attr-defined]

    every = built(None)
    assert {"hold-out", "recommend", "bench"} < every
    assert {only: built(only) for only in every} == {only: {only} for only in every}
    assert built("no such command") == built("--help") == every


def test_serving_never_loads_torch() -> None:
    names = [dotted(path) for path in MODULES if SERVING & set(path.parts)]
    loaded = heavy_after(f"import {', '.join(names)}")
    assert loaded <= {"faiss", "onnxruntime", "fastapi", "sqlalchemy"}


def test_evaluation_never_loads_torch() -> None:
    names = [dotted(path) for path in MODULES if "evaluation" in path.parts[:-1]]
    assert heavy_after(f"import {', '.join(names)}") <= {"faiss"}


def test_the_pipeline_loads_nothing_of_the_service() -> None:
    assert heavy_after("import twotower.inference") <= {"faiss", "onnxruntime"}


def test_importing_every_module_says_nothing() -> None:
    assert run(f"import {', '.join(dotted(p) for p in MODULES if p.stem != '__main__')}") == ""


DECLARATIONS = (ast.Import, ast.ImportFrom, ast.Assign, ast.AnnAssign, ast.ClassDef)


def is_declaration(node: ast.stmt) -> bool:
    if isinstance(node, ast.Expr):
        return isinstance(node.value, ast.Constant)
    if isinstance(node, ast.If):  # if TYPE_CHECKING, if __name__ == "__main__"
        return any(isinstance(part, ast.Name) for part in ast.walk(node.test))
    return isinstance(node, (*DECLARATIONS, ast.FunctionDef, ast.AsyncFunctionDef))


@pytest.mark.parametrize("path", MODULES, ids=dotted)
def test_a_module_only_declares(path: Path) -> None:
    statements = ast.parse(path.read_text()).body
    assert [node.lineno for node in statements if not is_declaration(node)] == []


@pytest.mark.parametrize("path", MODULES, ids=dotted)
def test_a_module_is_named_for_what_it_holds(path: Path) -> None:
    assert not {"utils", "util", "helpers", "helper", "common", "misc"} & {
        path.stem,
        path.parent.name,
    }
