"""House rules as tests. Sizes are warnings, to be weighed in review: a file that is one subject may be long."""

import ast
import re
import subprocess
import warnings
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from streamproc.adapters import prometheus

ROOT = Path(__file__).parents[1]
FILE_LINES, FUNCTION_LINES, PARAMETERS = 400, 50, 8

Function = ast.FunctionDef | ast.AsyncFunctionDef


@cache
def tracked(*patterns: str) -> list[Path]:
    """Files of the project, as git knows them."""
    listed = subprocess.run(["git", "ls-files", *patterns], cwd=ROOT, capture_output=True, text=True, check=True)
    return [ROOT / name for name in listed.stdout.splitlines() if (ROOT / name).is_file()]


def name_of(file: Path) -> str:
    return str(file.relative_to(ROOT))


def functions(file: Path) -> Iterator[tuple[str, Function]]:
    """(path:Class.function, node) of every function of a file."""

    def below(node: ast.AST, prefix: str) -> Iterator[tuple[str, Function]]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.ClassDef):
                yield from below(child, f"{prefix}{child.name}.")
            elif isinstance(child, Function):
                yield f"{name_of(file)}:{prefix}{child.name}", child
                yield from below(child, f"{prefix}{child.name}.")

    yield from below(ast.parse(file.read_text()), "")


def lines_of(function: Function) -> int:
    """Lines of a function without its docstring."""
    first = function.body[0]
    is_text = isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant)
    docstring = (first.end_lineno or 0) - first.lineno + 1 if is_text else 0
    return (function.end_lineno or 0) - function.lineno + 1 - docstring


SOURCE = ("streamproc/*.py", "handlers/*.py", "bench/*.py")


def test_sizes_are_told() -> None:
    for file in tracked(*SOURCE, "tests/*.py"):
        lines = len(file.read_text().splitlines())
        if lines > FILE_LINES:
            warnings.warn(f"{name_of(file)} has {lines} lines", stacklevel=1)
    for file in tracked(*SOURCE):
        for name, node in functions(file):
            arguments = [one.arg for one in (*node.args.args, *node.args.kwonlyargs) if one.arg not in ("self", "cls")]
            is_command = any("option" in ast.unparse(decorator) for decorator in node.decorator_list)
            if lines_of(node) > FUNCTION_LINES:
                warnings.warn(f"{name} has {lines_of(node)} lines", stacklevel=1)
            if len(arguments) > PARAMETERS and not is_command:
                warnings.warn(f"{name} takes {len(arguments)} parameters", stacklevel=1)


@cache
def documented_in_ports() -> set[str]:
    """Methods whose meaning a Protocol tells; an implementation need not repeat it."""
    return {node.name for _, node in functions(ROOT / "streamproc" / "ports.py")}


def test_public_names_are_documented() -> None:
    missing = []
    for file in tracked("streamproc/*.py", "handlers/*.py"):
        tree = ast.parse(file.read_text())
        if not ast.get_docstring(tree) and file.name != "__init__.py":
            missing.append(name_of(file))
        classes = [node for node in tree.body if isinstance(node, ast.ClassDef) and not node.name.startswith("_")]
        owners: list[ast.Module | ast.ClassDef] = [tree, *classes]
        inherited = documented_in_ports() | {node.name for _, node in functions(file) if ast.get_docstring(node)}
        missing += [
            f"{name_of(file)}:{node.name}"
            for owner in owners
            for node in owner.body
            if isinstance(node, Function) and not node.name.startswith("_")
            if node.name not in inherited and ast.unparse(node.body[0]) != "..."
        ]
        missing += [
            f"{name_of(file)}:{node.name}"
            for node in tree.body
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_") and not ast.get_docstring(node)
        ]
    assert missing == []


def test_modules_keep_no_state() -> None:
    broken = []
    for file in tracked("streamproc/*.py", "handlers/*.py"):
        for node in ast.parse(file.read_text()).body:
            value = getattr(node, "value", None)
            if isinstance(node, ast.Assign | ast.AnnAssign) and isinstance(value, ast.List | ast.Dict | ast.Set):
                target = node.targets[0] if isinstance(node, ast.Assign) else node.target
                if isinstance(target, ast.Name) and not target.id.lstrip("_").isupper() and target.id != "__all__":
                    broken.append(f"{name_of(file)}:{target.id}")
    assert broken == []


def test_metrics_are_documented() -> None:
    page = (ROOT / "streamproc" / "README.md").read_text()
    assert [name for name in prometheus.NAMES if name not in page] == []


@pytest.mark.parametrize("pattern", [r"/work/", r"/root/", r"pypi\.org", r"pythonhosted", r"maven\.org", r"repo1\."])
def test_no_file_names_a_machine_or_a_registry(pattern: str) -> None:
    found = [
        name_of(file)
        for file in tracked()
        if file != Path(__file__) and re.search(pattern, file.read_text(errors="replace"))
    ]
    assert found == []


def test_the_readme_runs() -> None:
    text = (ROOT / "README.md").read_text()
    blocks = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert blocks
    names: dict[str, object] = {"__name__": "readme"}
    for block in blocks:
        exec(compile(block, "README.md", "exec"), names)  # noqa: S102  (our own file)
