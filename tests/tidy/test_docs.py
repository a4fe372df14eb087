"""Pages made from the sources equal what the sources say; UPDATE_GOLDEN=1 rewrites them."""

import ast
import os
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "src" / "clarion"
LAYERS = (
    "base",
    "model",
    "decide",
    "proto",
    "edge",
    "apiserver",
    "lab",
    "daemons",
    "cli",
    "testing",
)


def first_sentence(path: Path) -> str:
    return (
        (ast.get_docstring(ast.parse(path.read_text())) or "").split("\n\n")[0].replace("\n", " ")
    )


def modules_page() -> str:
    lines = [
        "# Modules",
        "",
        "Made from the first line of each module; `architecture.md` says how they work together.",
    ]
    for layer in LAYERS:
        folder = PACKAGE / layer
        lines += ["", f"## {layer}", "", first_sentence(folder / "__init__.py"), ""]
        for path in sorted(folder.rglob("*.py")):
            if path.name != "__init__.py":
                lines.append(f"- `{path.relative_to(folder)}`: {first_sentence(path)}")
    return "\n".join(lines) + "\n"


def test_the_page_of_modules_is_current() -> None:
    page = ROOT / "docs" / "modules.md"
    if os.environ.get("UPDATE_GOLDEN"):
        page.write_text(modules_page())
    assert page.read_text() == modules_page(), "run: UPDATE_GOLDEN=1 make check"


def test_every_layer_is_on_the_page() -> None:
    found = {path.name for path in PACKAGE.iterdir() if (path / "__init__.py").exists()}
    assert found == set(LAYERS)
