"""What the demo redraws never outgrows the screen: rich cannot take back what has scrolled away."""

import io

import pytest
from rich.console import Console

from clarion.lab.screen import Row, results
from clarion.lab.show import Tail


@pytest.mark.parametrize(("width", "height", "rows"), [(80, 24, 30), (200, 50, 30), (80, 24, 1)])
def test_the_end_of_a_table_that_fits(width: int, height: int, rows: int) -> None:
    table = results(Row(f"case {n}", "FRR", "planned " * 9, "seen " * 9, True) for n in range(rows))
    console = Console(file=io.StringIO(), width=width, height=height)
    with console.capture() as whole:
        console.print(table)
    with console.capture() as tail:
        console.print(Tail(table), end="")
    lines, shown = ([line.rstrip() for line in text.get().splitlines()] for text in (whole, tail))
    assert len(shown) == min(len(lines), height - 1)
    assert shown == lines[-len(shown) :]
