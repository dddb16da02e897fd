"""What the import contracts cannot say: anatomy, size, and cores that reach for nothing."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SOURCES = sorted(path for folder in ("services", "shared") for path in (ROOT / folder).rglob("*.py"))
# Batch jobs and the command line have no loop that receives and publishes.
TOOLS = {"backtest", "cli", "trainer"}
SERVICES = sorted(one.parent for one in (ROOT / "services").glob("*/__main__.py") if one.parent.name not in TOOLS)
CORES = sorted(
    path for service in SERVICES for path in [service / "core.py", *(service / "core").rglob("*.py")] if path.exists()
)
PURE = [*CORES, *sorted((ROOT / "shared/domain").glob("*.py")), *sorted((ROOT / "shared/matching").glob("*.py"))]

LINES_MAX = 400
FUNCTION_LINES_MAX = 60
IMPURE_NAMES = {"wall_ns", "monotonic_ns", "SystemClock", "print", "open", "input", "breakpoint", "eval", "exec"}


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def functions(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def test_there_is_something_to_check() -> None:
    assert {"market_data", "rebalancer", "risk", "execution", "recorder", "dashboard"} <= {one.name for one in SERVICES}
    assert len(CORES) >= len(SERVICES)


@pytest.mark.parametrize("service", SERVICES, ids=lambda path: path.name)
def test_every_service_has_the_same_anatomy(service: Path) -> None:
    missing = [name for name in ("__init__.py", "config.py", "service.py") if not (service / name).exists()]
    assert missing == []
    assert (service / "core.py").exists() or (service / "core" / "__init__.py").exists()
    docstring = ast.get_docstring(tree_of(service / "__init__.py")) or ""
    assert re.match(r"\d+: ", docstring), "the docstring begins with the service's place in the flow"


def test_services_are_numbered_without_a_gap() -> None:
    numbers = []
    for service in SERVICES:
        match = re.match(r'"""(\d+): ', (service / "__init__.py").read_text(encoding="utf-8"))
        assert match is not None
        numbers.append(int(match[1]))
    assert sorted(numbers) == list(range(1, len(numbers) + 1))


def test_file_answers_one_question() -> None:
    lengths = {name_of(path): len(path.read_text(encoding="utf-8").splitlines()) for path in SOURCES}
    assert {name: lines for name, lines in lengths.items() if lines > LINES_MAX} == {}


def test_functions_fit_a_screen() -> None:
    lengths = {f"{name_of(path)} {one.name}": end(one) - one.lineno + 1 for path in SOURCES for one in functions(path)}
    assert {name: lines for name, lines in lengths.items() if lines > FUNCTION_LINES_MAX} == {}


def test_module_says_what_it_is_for() -> None:
    trees = {name_of(path): tree_of(path) for path in SOURCES}
    assert [name for name, tree in trees.items() if tree.body and not ast.get_docstring(tree)] == []


def test_core_reaches_for_no_clock_and_no_file() -> None:
    found: dict[str, set[str]] = {}
    for path in PURE:
        nodes = list(ast.walk(tree_of(path)))
        called = {node.func.id for node in nodes if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)}
        imported = {alias.name for node in nodes if isinstance(node, ast.ImportFrom) for alias in node.names}
        waits = {node.name for node in nodes if isinstance(node, ast.AsyncFunctionDef)}
        if reached := (called | imported) & IMPURE_NAMES | waits:
            found[name_of(path)] = reached
    assert found == {}


def tree_of(path: Path) -> ast.Module:
    """Return a file's syntax tree."""
    return ast.parse(path.read_text(encoding="utf-8"))


def end(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Return a function's last line."""
    assert function.end_lineno is not None
    return function.end_lineno
