"""Addresses to listen on: who holds one, and what a user is told. The kernel is the judge."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from clarion.base.errors import ClarionError
from clarion.edge.listen import check_free, holders_of


@pytest.fixture(params=["127.0.0.1", "::1"])
def held(request: pytest.FixtureRequest) -> Iterator[tuple[str, int]]:
    family = socket.AF_INET6 if ":" in request.param else socket.AF_INET
    with socket.create_server((request.param, 0), family=family) as server:
        port = server.getsockname()[1]
        yield (
            f"[{request.param}]:{port}" if ":" in request.param else f"{request.param}:{port}",
            port,
        )


def test_a_taken_address_names_its_holder_and_the_flag(held: tuple[str, int]) -> None:
    listen, port = held
    me = f"{Path('/proc/self/comm').read_text().strip()} (pid {os.getpid()})"
    assert holders_of(port) == [me]
    with pytest.raises(ClarionError) as told:
        check_free(listen, "--speaker-http")
    assert str(told.value) == (
        f"cannot listen on {listen}: Address already in use, held by {me} "
        "(stop the program that holds it, or give another --speaker-http)"
    )


@pytest.mark.parametrize("listen", ["127.0.0.1:0", "[::1]:0", ":0", "localhost:0"])
def test_a_free_address_stays_free(listen: str) -> None:
    check_free(listen, "--listen")


def test_a_port_without_a_listener_has_no_holder() -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        assert holders_of(bound.getsockname()[1]) == []


@pytest.mark.parametrize(
    ("listen", "why"),
    [("192.0.2.1:7472", "Cannot assign requested address"), ("no.invalid:7472", "")],
)
def test_an_address_of_nobody(listen: str, why: str) -> None:
    with pytest.raises(ClarionError, match=f"cannot listen on {listen}: {why}.*--listen-http"):
        check_free(listen, "--listen-http")


# --- the programs -----------------------------------------------------------------------------


def clarion(*words: str) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-m", "clarion.cli.main", *words]
    return subprocess.run(argv, capture_output=True, text=True, check=False, timeout=60)


def free() -> str:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return f"127.0.0.1:{server.getsockname()[1]}"


@pytest.mark.parametrize("flag", ["--listen", "--speaker-http", "--controller-http"])
def test_run_ends_at_once_when_an_address_is_taken(flag: str, tmp_path: Path) -> None:
    """Nothing is started, and one line says what to do."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        taken = f"127.0.0.1:{server.getsockname()[1]}"
        words = {name: free() for name in ("--listen", "--speaker-http", "--controller-http")}
        words[flag] = taken
        flags = [word for pair in words.items() for word in pair]
        done = clarion("run", "--data-dir", str(tmp_path), *flags)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"clarion: cannot listen on {taken}: Address already in use, held by ")
    assert f"(pid {os.getpid()})" in line
    assert line.endswith(f"or give another {flag})")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["lock"]


def test_the_embedded_api_says_the_same(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        taken = f"127.0.0.1:{server.getsockname()[1]}"
        done = clarion("apiserver", "--data-dir", str(tmp_path), "--listen", taken)
    assert done.returncode == 1
    assert f"(pid {os.getpid()})" in done.stderr
    assert done.stderr.rstrip().endswith("or give another --listen)")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("speaker", "--listen-http", "nonsense"), "'nonsense' is not HOST:PORT"),
        (("apiserver", "--data-dir", "d", "--listen", "x"), "'x' is not HOST:PORT"),
        (("run", "--data-dir", "d", "--speaker-http", "x:y"), "'x:y' is not HOST:PORT"),
        (
            ("run", "--data-dir", "d", "--speaker-flag", "--listen-http=:1"),
            "give --speaker-http instead",
        ),
        (
            ("speaker", "--l2-exclude-interface", "^lo$", "--l2-exclude-interface", "^eth[0"),
            "'^eth[0' is no regular expression: unterminated character set at position 4",
        ),
        (("speaker", "--l2-exclude-interface", "*"), "nothing to repeat at position 0"),
    ],
)
def test_flags_that_cannot_be_meant_are_wrong_usage(words: tuple[str, ...], said: str) -> None:
    done = clarion(*words)
    assert done.returncode == 64
    assert said in " ".join(done.stderr.split())
