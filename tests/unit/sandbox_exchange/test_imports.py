"""The venue's modules form no circle, imports for types included."""

import ast
from graphlib import TopologicalSorter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
PACKAGE = ROOT / "services/sandbox_exchange"


def name_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def test_no_module_needs_itself_by_way_of_others() -> None:
    names = {name_of(path): path for path in PACKAGE.rglob("*.py")}
    needs: dict[str, set[str]] = {}
    for name, path in names.items():
        found = needs.setdefault(name, set())
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module is not None:
                inside = {f"{node.module}.{one.name}" for one in node.names}
                found |= {one if one in names else node.module for one in inside}
            elif isinstance(node, ast.Import):
                found |= {one.name for one in node.names}
        found &= set(names)
        found.discard(name)
    assert "services.sandbox_exchange.binance.feed" in needs["services.sandbox_exchange.binance.operation"]
    TopologicalSorter(needs).prepare()  # raises CycleError, which names the circle
