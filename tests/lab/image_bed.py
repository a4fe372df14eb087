"""Builds the Dockerfile without a container engine, and runs programs out of what it made.

Each stage is an overlay on this machine's root file system, so every RUN line is run as it stands,
with the paths that it names. What is not judged is the base image itself: Debian's Python stands in
for it.
"""

import json
import os
import re
import shlex
import shutil
from collections.abc import Iterator, Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import Final

import msgspec

from clarion.lab.process import run

ROOT: Final = Path(__file__).resolve().parents[2]
BASE: Final = "python:3.11-slim"
BASE_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
BUILD_SECONDS: Final = 300.0

# Runs a program in a root ($1) with what a container has: read-only if $2 is "ro", /tmp writable.
CONTAINER = """
set -eu
root=$1 mode=$2
shift 2
mount --make-rprivate /
mount --bind "$root" "$root"
[ "$mode" = rw ] || mount -o remount,bind,ro "$root"
mount -t proc proc "$root/proc"
mount --rbind /dev "$root/dev"
mount --bind /etc/resolv.conf "$root/etc/resolv.conf"
mount -t tmpfs tmpfs "$root/tmp"
exec chroot "$root" "$@"
"""


class Instruction(msgspec.Struct, frozen=True):
    """One instruction of a Dockerfile."""

    word: str
    rest: str


def instructions(text: str) -> Iterator[Instruction]:
    """The instructions of a Dockerfile; comments are left out, continued lines are joined."""
    lines = (line for line in text.splitlines() if not line.startswith("#"))
    for line in re.sub(r"\\\n\s*", " ", "\n".join(lines)).splitlines():
        if line.strip():
            word, _, rest = line.partition(" ")
            yield Instruction(word, rest.strip())


def context() -> list[str]:
    """The files that a build is given: those that .dockerignore does not exclude."""
    rules = [
        line
        for line in (ROOT / ".dockerignore").read_text().splitlines()
        if line and not line.startswith("#")
    ]

    def excluded(path: str) -> bool:
        parts = path.split("/")
        prefixes = ["/".join(parts[: end + 1]) for end in range(len(parts))]
        answer = False
        for rule in rules:
            pattern = rule.removeprefix("!").removeprefix("**/")
            names = parts if "**/" in rule else prefixes
            if any(
                fnmatch(name, pattern) and name.count("/") == pattern.count("/") for name in names
            ):
                answer = not rule.startswith("!")
        return answer

    listed = run(["git", "ls-files", "-co", "-z"], cwd=ROOT).stdout.split("\0")
    return sorted(name for name in listed if name and not excluded(name))


class Stage:
    """One stage: an overlay on this machine's root, and the settings that it was given."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "root"
        self.upper = folder / "upper"
        self.directory = "/"
        self.user = "0:0"
        self.entrypoint: list[str] = []
        self.environment = {"PATH": BASE_PATH, "HOME": "/tmp"}
        for path in (self.root, self.upper, folder / "work"):
            path.mkdir(parents=True)
        layers = f"lowerdir=/,upperdir={self.upper},workdir={folder / 'work'}"
        run(["mount", "-t", "overlay", "overlay", "-o", layers, str(self.root)])

    def path(self, name: str) -> Path:
        """Where a path of the stage is on this machine."""
        return self.root / Path(self.directory, name).relative_to("/")

    def command(self, *argv: str, mode: str = "ro", through: Sequence[str] = ()) -> list[str]:
        """The command line that runs a program inside; `through` starts it inside."""
        settings = [f"{name}={value}" for name, value in self.environment.items()]
        inside = [*through, "env", "-C", self.directory, *settings, *argv]
        shell = ["unshare", "--mount", "sh", "-c", CONTAINER, "container"]
        return [*shell, str(self.root), mode, *inside]

    def close(self) -> None:
        """Take the overlay away."""
        run(["umount", "--lazy", str(self.root)])


class Image:
    """The image that the Dockerfile describes, built in a folder."""

    def __init__(self, folder: Path) -> None:
        run(["mount", "-t", "tmpfs", "tmpfs", str(folder)])  # overlays cannot stand on overlays
        self._folder = folder
        self._stages: dict[str, Stage] = {}
        self.final: Stage

    def build(self) -> None:
        """Do what the Dockerfile says."""
        for step in instructions((ROOT / "Dockerfile").read_text()):
            if step.word == "FROM":
                base, _, name = step.rest.partition(" AS ")
                assert base == BASE, base
                self.final = Stage(self._folder / (name or "final"))
                self._stages[name or "final"] = self.final
            else:
                self._do(self.final, step)

    def _do(self, stage: Stage, step: Instruction) -> None:
        match step.word:
            case "ENV":
                for pair in shlex.split(step.rest):
                    name, _, value = pair.partition("=")
                    stage.environment[name] = value.replace("$PATH", stage.environment["PATH"])
            case "WORKDIR":
                stage.directory = step.rest
                stage.path(".").mkdir(parents=True, exist_ok=True)
            case "COPY":
                self._copy(stage, step.rest.split())
            case "RUN":
                argv = stage.command("sh", "-c", step.rest, mode="rw")
                run(argv, timeout=BUILD_SECONDS)
            case "USER":
                stage.user = step.rest
            case "ENTRYPOINT":
                stage.entrypoint = json.loads(step.rest)
            case "CMD":
                json.loads(step.rest)
            case _:
                raise AssertionError(f"the builder does not know {step}")

    def _copy(self, stage: Stage, words: list[str]) -> None:
        if words[0].startswith("--from="):
            source = self._stages[words[0].removeprefix("--from=")]
            shutil.copytree(source.path(words[1]), stage.path(words[2]), symlinks=True)
            return
        *names, target = words
        files = context()
        for name in names:
            taken = [file for file in files if file == name or file.startswith(f"{name}/")]
            assert taken, f"the context has no {name}"
            for file in taken:
                within = Path(file) if target == "./" else target / Path(file).relative_to(name)
                place = stage.path(str(within))
                place.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(ROOT / file, place)

    def close(self) -> None:
        """Remove what was built."""
        for stage in self._stages.values():
            stage.close()
        run(["umount", "--lazy", str(self._folder)])


def as_kubernetes_does(capabilities: Sequence[str]) -> list[str]:
    """User 0 with these capabilities alone and no way to gain others."""
    words = ["--reuid=0", "--regid=0", "--clear-groups", "--inh-caps=-all", "--no-new-privs"]
    return ["setpriv", *words, _bounding(capabilities)]


def as_systemd_does(capabilities: Sequence[str]) -> list[str]:
    """An ordinary user that is handed these capabilities."""
    handed = ",".join(f"+{name}" for name in capabilities) or "-all"
    words = ["--reuid=65534", "--regid=65534", "--clear-groups", "--no-new-privs"]
    words += [f"--inh-caps={handed}", f"--ambient-caps={handed}"]
    return ["setpriv", *words, _bounding(capabilities)]


def _bounding(capabilities: Sequence[str]) -> str:
    return "--bounding-set=" + ",".join(["-all", *(f"+{name}" for name in capabilities)])


def host_can_build() -> bool:
    """Whether this machine can stand in for the base image."""
    python = "/usr/bin/python3"
    checks = "import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))"
    return os.access(python, os.X_OK) and not run([python, "-c", checks], check=False).returncode
