"""Plain and rich text of plans and reasons. rich is imported only when a terminal reads."""

import gc
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click
import msgspec

from clarion.decide.reasontree import ReasonTree

if TYPE_CHECKING:
    from rich.tree import Tree

SIGNS = {"yes": "✓", "no": "✗", "note": "·"}
STYLES = {"yes": "green", "no": "red", "note": "dim"}
ROWS_MAX = 200
"""Rows of one table on a screen; JSON holds them all."""


@contextmanager
def collector_at_rest() -> Iterator[None]:
    """Rounds of the garbage collector cost a fifth of a command that ends before they matter."""
    used = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if used:
            gc.enable()


def on_terminal() -> bool:
    """True if a person reads the output as it appears."""
    return sys.stdout.isatty()


def print_json(value: Any) -> None:
    """Indented JSON."""
    click.echo(msgspec.json.format(msgspec.json.encode(value), indent=2).decode())


def print_yaml(value: Any) -> None:
    """YAML."""
    from clarion.model.codec import dump_yaml

    click.echo(dump_yaml([value]), nl=False)


def print_table(title: str, head: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """A table: drawn on a terminal, aligned columns in a pipe; nothing if there are no rows."""
    cells = [tuple(map(str, row)) for row in rows]
    if not cells:
        return
    shown, rest = cells[:ROWS_MAX], len(cells) - ROWS_MAX
    if on_terminal():
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text

        table = Table(title=title, title_justify="left", title_style="bold")
        for name in head:
            table.add_column(name, overflow="fold")
        for row in shown:
            # Cells are text that may be coloured already, and no markup: `[code]` is a code.
            table.add_row(*map(Text.from_ansi, row))
        Console().print(table)
    else:
        click.echo(title)
        widths = [max(map(len, column)) for column in zip(head, *shown, strict=True)]
        for line in (tuple(head), *shown):
            text = "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True))
            click.echo(f"  {text}".rstrip())
    if rest > 0:
        click.echo(f"  ({rest} more; -o json shows all)")
    if not on_terminal():
        click.echo()


def tree_lines(tree: ReasonTree, depth: int = 0) -> Iterable[str]:
    """A tree as indented lines, each remedy under what it remedies."""
    yield f"{'  ' * depth}{SIGNS[tree.status]} {tree.label}"
    if tree.remedy and tree.status == "no":
        yield f"{'  ' * (depth + 1)}→ {tree.remedy}"
    for child in tree.children:
        yield from tree_lines(child, depth + 1)


def print_tree(tree: ReasonTree) -> None:
    """A tree: coloured on a terminal, indented in a pipe."""
    if not on_terminal():
        click.echo("\n".join(tree_lines(tree)))
        return
    from rich.console import Console

    Console().print(_rich_tree(tree))


def _rich_tree(tree: ReasonTree) -> "Tree":
    from rich.text import Text
    from rich.tree import Tree

    label = Text(f"{SIGNS[tree.status]} {tree.label}", style=STYLES[tree.status])
    if tree.remedy and tree.status == "no":
        label.append(f"\n  → {tree.remedy}", style="yellow")
    drawn = Tree(label)
    for child in tree.children:
        drawn.children.append(_rich_tree(child))
    return drawn


def styled(text: str, colour: str) -> str:
    """The text in a colour, on a terminal."""
    return click.style(text, fg=colour) if on_terminal() else text
