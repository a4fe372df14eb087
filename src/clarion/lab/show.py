"""The demo on a terminal, or in a pipe: progress, the one screen, the live part until Ctrl-C."""

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from types import FrameType

from rich.columns import Columns
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.live import Live
from rich.segment import Segment

from clarion.lab import screen
from clarion.lab.demo import Demo, find_examples
from clarion.lab.netns import Lab
from clarion.lab.process import CLOCK, pause
from clarion.lab.screen import Row
from clarion.lab.topology import StandardLab

REFRESH_SECONDS = 2.0
PIPE_COLUMNS = 160
HINT = "clarion lab exec HOST COMMAND, in another terminal · Ctrl-C removes the lab"


class Tail:
    """The end of what would be shown, as many lines as the screen has room for.

    What is taller than the screen scrolls, and rich cannot take back what has scrolled away.
    """

    def __init__(self, whole: RenderableType) -> None:
        self._whole = whole

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Render all, and give the last lines."""
        lines = console.render_lines(self._whole, options.update(height=None), pad=False)
        for line in lines[-(console.height - 1) :]:
            yield from line
            yield Segment.line()


def run_demo(name: str, examples: Path | None, *, stay: bool) -> bool:
    """Build, go through the use cases, show, and remove; whether everything was verified."""
    folder = find_examples(examples)
    terminal = sys.stdout.isatty()
    console = Console(highlight=False, width=None if terminal else PIPE_COLUMNS)
    started = CLOCK.monotonic()
    with _interruptible(), Lab(name) as lab:
        standard = StandardLab(lab)
        console.print(
            "Lab: three nodes, an FRR router with another FRR behind it, a BIRD router, clients, "
            "the embedded API, a controller and a speaker per node."
        )
        standard.up()
        console.print(f"All of it answers after {CLOCK.monotonic() - started:.1f} s. Use cases:")
        demo = _run(console, standard, folder, terminal=terminal)
        _show(console, demo, CLOCK.monotonic() - started)
        if stay and demo.verified:
            _stay(console, standard)
    return demo.verified


def _run(console: Console, lab: StandardLab, folder: Path, *, terminal: bool) -> Demo:
    """Run, with a growing table on a terminal and a line per row in a pipe."""
    live = Live(console=console, transient=True, auto_refresh=False) if terminal else nullcontext()

    def report(row: Row) -> None:
        if isinstance(live, Live):
            live.update(Tail(screen.results(demo.rows)), refresh=True)
        else:
            console.print(row.text(), markup=False, soft_wrap=True)
            sys.stdout.flush()

    demo = Demo(lab, folder, report)
    with live:
        demo.run()
    return demo


def _show(console: Console, demo: Demo, seconds: float) -> None:
    """The one screen: all rows, and what the first router and the client see at the end."""
    console.print(screen.results(demo.rows))
    good = sum(row.verified for row in demo.rows)
    verdict = "Everything is verified" if demo.verified else "NOT everything is verified"
    console.print(f"{verdict}: {good} of {len(demo.rows)} rows, {seconds:.0f} s in all.")


def _stay(console: Console, lab: StandardLab) -> None:
    """Below the results, what routers and client see now, until Ctrl-C."""
    try:
        with Live(console=console, auto_refresh=False, transient=True) as live:
            while True:
                now = Columns([screen.owners(lab), screen.routes(lab, lab.frr, "FRR's table now")])
                live.update(Tail(Group(now, HINT)), refresh=True)
                pause(REFRESH_SECONDS)
    except KeyboardInterrupt:
        console.print("Removing the lab.")


@contextmanager
def _interruptible() -> Iterator[None]:
    """SIGTERM ends the run as Ctrl-C does, so that the lab is removed."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        del number, frame
        raise KeyboardInterrupt

    previous = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)
