"""Children: restarted, stopped in reverse, ended with their supervisor whatever ends it."""

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import msgspec

from clarion.base import limits
from clarion.base.duration import parse_duration
from clarion.daemons.standalone import StandaloneOptions, programs
from clarion.daemons.supervisor import Child, Children
from clarion.edge.logs import Log

from .daemons_kit import run

LIVE = """
import pathlib, signal, sys, time
folder, name = pathlib.Path(sys.argv[1]), sys.argv[2]
def note(what):
    with (folder / "notes").open("a") as notes:
        notes.write(f"{name} {what}\\n")
def stop(*_):
    note("stopped")
    sys.exit(0)
signal.signal(signal.SIGTERM, stop)
import os
(folder / f"{name}.pid").write_text(str(os.getpid()))
note("ready")
signal.pause()
"""
STUBBORN = """
import pathlib, signal, sys
signal.signal(signal.SIGTERM, signal.SIG_IGN)
(pathlib.Path(sys.argv[1]) / "notes").open("a").write(f"{sys.argv[2]} ready\\n")
signal.pause()
"""
SUPERVISOR = """
import asyncio, pathlib, sys
from clarion.daemons.supervisor import Child, Children
from clarion.edge.logs import Log
async def main():
    children = Children(Log("test"))
    for name in ("one", "two"):
        children.start(Child(name, (sys.executable, "-c", sys.argv[2], sys.argv[1], name)))
    await asyncio.Event().wait()
asyncio.run(main())
"""


def child(folder: Path, name: str, script: str = LIVE) -> Child:
    return Child(name, (sys.executable, "-c", script, str(folder), name))


def notes(folder: Path) -> list[str]:
    path = folder / "notes"
    return path.read_text().splitlines() if path.exists() else []


async def noted(folder: Path, *lines: str) -> None:
    async with asyncio.timeout(20):
        while not set(lines) <= set(notes(folder)):  # noqa: ASYNC110 - a child tells a file
            await asyncio.sleep(0.01)


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def test_children_stop_in_the_reverse_order_each_after_the_other(tmp_path: Path) -> None:
    async def play() -> None:
        children = Children(Log("test"))
        for name in ("one", "two", "three"):
            children.start(child(tmp_path, name))
        await noted(tmp_path, "one ready", "two ready", "three ready")
        await children.stop()

    run(play)
    assert notes(tmp_path)[3:] == ["three stopped", "two stopped", "one stopped"]


def test_a_child_that_ends_is_started_again(tmp_path: Path) -> None:
    async def play() -> None:
        children = Children(Log("test"))
        children.start(child(tmp_path, "one"))
        await noted(tmp_path, "one ready")
        pid = int((tmp_path / "one.pid").read_text())
        (tmp_path / "notes").unlink()
        os.kill(pid, signal.SIGKILL)
        await noted(tmp_path, "one ready")
        assert int((tmp_path / "one.pid").read_text()) != pid
        await children.stop()

    run(play)


def test_a_child_that_does_not_stop_in_its_time_is_killed(tmp_path: Path) -> None:
    async def play() -> None:
        children = Children(Log("test"))
        stubborn = child(tmp_path, "one", STUBBORN)
        children.start(msgspec.structs.replace(stubborn, stop_seconds=0.2))
        await noted(tmp_path, "one ready")
        await children.stop()

    run(play)


def test_a_speaker_that_sheds_its_traffic_has_time_for_it(tmp_path: Path) -> None:
    options = StandaloneOptions(
        data_dir=tmp_path,
        listen="127.0.0.1:6480",
        node_name="solo",
        speaker_http="",
        controller_http="",
        graceful_shutdown=90.0,
    )
    *others, speaker = programs(options)
    assert speaker.stop_seconds == limits.CHILD_STOP_SECONDS + 90
    assert {other.stop_seconds for other in others} == {limits.CHILD_STOP_SECONDS}
    flag = speaker.command.index("--bgp-graceful-shutdown")
    assert parse_duration(speaker.command[flag + 1]) == 90


def test_the_kernel_ends_the_children_of_a_supervisor_that_is_killed(tmp_path: Path) -> None:
    argv = [sys.executable, "-c", SUPERVISOR, str(tmp_path), LIVE]
    supervisor = subprocess.Popen(argv)
    try:
        asyncio.run(noted(tmp_path, "one ready", "two ready"))
        pids = [int((tmp_path / f"{name}.pid").read_text()) for name in ("one", "two")]
    finally:
        supervisor.kill()
        supervisor.wait()
    asyncio.run(noted(tmp_path, "one stopped", "two stopped"))

    async def gone() -> None:
        while any(map(alive, pids)):  # noqa: ASYNC110 - a process that is not our child
            await asyncio.sleep(0.01)

    run(gone)
