"""`make hunt`: coverage-guided fuzzing of one target, or of all in turn, with atheris.

What breaks a target is kept in the target's folder of `corpus`, where the gate replays it from then
on. `python -m tests.fuzz.hunt replay TARGET FILE` runs one input without atheris.
"""

import os
import subprocess
import sys
from pathlib import Path

CORPUS = Path(__file__).with_name("corpus")
SCRATCH = Path(".cache", "hunt")
INPUT_SECONDS_MAX = 5
MEMORY_MIB_MAX = 1024


def attack(name: str, seconds: int) -> None:
    """Hunt in this process, which ends at the first input that breaks the target."""
    import atheris

    with atheris.instrument_imports(include=["clarion"]):
        from tests.fuzz.targets import TARGETS
    grown = SCRATCH / name
    grown.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(TARGETS[name].seeds):
        (grown / f"seed-{number}").write_bytes(seed)
    kept = CORPUS / name
    options = [
        f"-max_total_time={seconds}",
        f"-timeout={INPUT_SECONDS_MAX}",
        f"-rss_limit_mb={MEMORY_MIB_MAX}",
        f"-artifact_prefix={SCRATCH / name}-",
        "-max_len=4096",
        "-verbosity=0",
        "-print_final_stats=1",
    ]
    folders = [str(grown), *([str(kept)] if kept.exists() else [])]
    atheris.Setup([sys.argv[0], *options, *folders], TARGETS[name].run)
    atheris.Fuzz()


def hunt(names: list[str], minutes: float) -> int:
    """Hunt with a process per target, so that one that breaks does not end the others."""
    broken = 0
    for name in names:
        print(f"== {name}: {minutes:g} min", flush=True)
        argv = [sys.executable, "-m", "tests.fuzz.hunt", "attack", name, str(int(minutes * 60))]
        done = subprocess.run(argv, check=False)
        for found in sorted(SCRATCH.glob(f"{name}-*")):
            if found.is_file():
                broken += 1
                _keep(name, found)
        if done.returncode and not broken:
            return done.returncode
    return 1 if broken else 0


def _keep(name: str, found: Path) -> None:
    folder = CORPUS / name
    folder.mkdir(parents=True, exist_ok=True)
    kept = folder / found.name.removeprefix(f"{name}-")
    os.replace(found, kept)
    data = kept.read_bytes()
    print(f"{name} breaks on {len(data)} octets: {data[:200].hex()}")
    print(f"  replay: PYTHONPATH=src .venv/bin/python -m tests.fuzz.hunt replay {name} {kept}")


def main(words: list[str]) -> int:
    """`hunt MINUTES [TARGET]`, `attack TARGET SECONDS` or `replay TARGET FILE`."""
    if words[0] == "attack":
        attack(words[1], int(words[2]))
        return 0
    from tests.fuzz.targets import TARGETS

    if words[0] == "replay":
        TARGETS[words[1]].run(Path(words[2]).read_bytes())
        return 0
    names = words[2:] or sorted(TARGETS)
    unknown = set(names) - set(TARGETS)
    if unknown:
        print(f"no target {', '.join(unknown)}; there are {', '.join(sorted(TARGETS))}")
        return 64
    return hunt(names, float(words[1]))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
