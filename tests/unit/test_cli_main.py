"""The command table: what it lists, what it imports, and the exit codes it promises."""

import importlib
import subprocess
import sys

import click
import pytest

from clarion.base.errors import EXIT_FAILED, EXIT_USAGE
from clarion.cli.main import COMMANDS

HEAVY = ("aiohttp", "pyroute2", "rich", "cryptography", "prometheus_client", "jsonschema_rs")
GOOD_POOL = """
apiVersion: metallb.io/v1beta1
kind: IPAddressPool
metadata: {name: p, namespace: metallb-system}
spec: {addresses: [192.0.2.0/30]}
"""


def clarion(*words: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-m", "clarion.cli.main", *words]
    return subprocess.run(argv, input=stdin, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_command_of_the_table_is_there(name: str) -> None:
    command = importlib.import_module(f"clarion.cli.{name}").command
    assert isinstance(command, click.Command)
    assert command.help, "a command says what it does"


@pytest.mark.parametrize(
    "words", [("--help",), ("validate", "-f", "-"), ("plan", "-f", "-"), ("crds",)]
)
def test_quick_commands_import_nothing_heavy(words: tuple[str, ...]) -> None:
    script = (
        "import sys; from clarion.cli.main import cli\n"
        f"try: cli.main({list(words)!r}, standalone_mode=False)\n"
        "except SystemExit: pass\n"
        f"loaded = [name for name in {HEAVY!r} if name in sys.modules]\n"
        "sys.exit(f'imported: {loaded}' if loaded else 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], input=GOOD_POOL, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("--version",), 0, ""),
        (("no-such-command",), EXIT_USAGE, "No such command"),
        (("plan", "--nonsense"), EXIT_USAGE, "No such option"),
        (("validate", "-f", "/nonexistent"), EXIT_FAILED, "/nonexistent"),
        (("status", "--kubeconfig", "/nonexistent"), EXIT_FAILED, "/nonexistent"),
        (("explain", "service", "a/b", "-f", "-"), EXIT_FAILED, ""),
        (("explain", "address", "192.0.9", "-f", "-"), EXIT_FAILED, ""),
        (("plan", "--node", "n9", "-f", "-"), EXIT_FAILED, "no node is named n9"),
    ],
)
def test_exit_codes(words: tuple[str, ...], code: int, said: str) -> None:
    done = clarion(*words, stdin=GOOD_POOL)
    assert done.returncode == code, done.stdout + done.stderr
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_help_names_every_command_and_the_exit_codes() -> None:
    text = clarion("--help").stdout
    for name in COMMANDS:
        assert f"\n  {name} " in text
    assert "64 wrong usage" in " ".join(text.split())


def test_an_object_with_one_fault_is_judged_whole() -> None:
    ad = GOOD_POOL.replace("IPAddressPool", "BGPAdvertisement").replace(
        "addresses: [192.0.2.0/30]",
        "aggregationLengthV6: 129, communities: [nope], ipAddressPools: [nopool]",
    )
    told = clarion("validate", "-f", "-", stdin=ad).stdout
    for code in ("OutOfRange", "alias-unknown", "pool-unknown"):
        assert told.count(f"[{code}]") == 1


def test_configuration_that_the_programs_would_not_read_is_refused() -> None:
    elsewhere = GOOD_POOL.replace("metallb-system", "default").replace("name: p", "name: q")
    done = clarion("validate", "-f", "-", stdin=f"{GOOD_POOL}---\n{elsewhere}")
    assert done.returncode == EXIT_FAILED
    assert "[wrong-namespace]" in done.stdout


def test_a_full_disk_is_said_in_a_sentence() -> None:
    argv = [sys.executable, "-m", "clarion.cli.main", "plan", "-f", "-"]
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            argv, input=GOOD_POOL, stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert done.returncode == EXIT_FAILED
    assert done.stderr == "clarion: No space left on device\n"


@pytest.mark.parametrize(
    ("name", "variable", "flag"),
    [
        ("speaker", "CLARION_SPEAKER_BGP_GRACEFUL_SHUTDOWN", "--bgp-graceful-shutdown"),
        ("speaker", "CLARION_SPEAKER_BGP", "--bgp"),
        ("run", "CLARION_RUN_BGP_GRACEFUL_SHUTDOWN", "--bgp-graceful-shutdown"),
    ],
)
def test_the_variable_of_a_flag_has_the_flags_name(
    monkeypatch: pytest.MonkeyPatch, name: str, variable: str, flag: str
) -> None:
    monkeypatch.setenv(variable, "nonsense")
    done = clarion(name, *(("--data-dir", "/nonexistent") if name == "run" else ()))
    assert done.returncode == EXIT_USAGE
    assert f"'{flag}'" in done.stderr
