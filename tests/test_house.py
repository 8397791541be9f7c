"""The rules of the house that no linter knows."""

import ast
from collections.abc import Iterator
from pathlib import Path

from aquiline.host.protocol import Host, Reading

TOP = Path(__file__).parent.parent
SOURCE = TOP / "src" / "aquiline"
EFFECTS = {name for name in vars(Host) if not name.startswith("_")} - set(vars(Reading))


def is_host(node: ast.expr) -> bool:
    name = node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else ""
    return name.strip("_") == "host" or name.endswith("_host")


def effects_called(tree: ast.AST) -> Iterator[tuple[int, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr in EFFECTS and is_host(node.value):
            yield node.lineno, node.attr


def test_an_effect_is_recognised() -> None:
    """The check below sees an effect on a host by whatever name the host goes."""
    source = "host.publish(x)\nself._host.remove(y)\nreal_host.link(z)\nhost.read(y)\nnames.remove(x)"

    assert [(1, "publish"), (2, "remove"), (3, "link")] == sorted(effects_called(ast.parse(source)))


def test_only_perform_changes_a_host() -> None:
    """Outside the hosts themselves, the effects of a `Host` are called in changes/perform.py and nowhere else."""
    allowed = SOURCE / "changes" / "perform.py"
    modules = [m for m in SOURCE.rglob("*.py") if m != allowed and SOURCE / "host" not in m.parents]

    found = [
        f"{module.relative_to(TOP)}:{line}: {effect}"
        for module in modules
        for line, effect in effects_called(ast.parse(module.read_text()))
    ]

    assert [] == found


def test_every_test_states_its_promise() -> None:
    """Each test function has a docstring that says what is promised."""
    found = [
        f"{module.relative_to(TOP)}:{node.lineno}: {node.name}"
        for module in (TOP / "tests").rglob("test_*.py")
        for node in ast.walk(ast.parse(module.read_text()))
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_") and ast.get_docstring(node) is None
    ]

    assert [] == found
