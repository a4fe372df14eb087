"""The lab without root: inside a user namespace of its own, where this user is root.

Works where unprivileged user namespaces are allowed. The run folder and FRR's folders are covered
by empty file systems that only the lab sees, and FRR runs without a change of user.
"""

import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from clarion.lab.frr import ETC, ROOTLESS, RUN
from clarion.lab.netns import NETNS_DIR
from clarion.lab.process import LabError, run


def require_root(verb: str) -> None:
    """Raise unless we are root: a lab that outlives the command needs the machine's own names."""
    if os.geteuid() != 0:
        raise LabError(
            f"clarion lab {verb} needs root",
            remedy="use sudo, or `clarion lab demo`, which also runs without root",
        )


def ensure(verb: str) -> None:
    """Go on as root; otherwise start this command again as root of a new user namespace."""
    if os.geteuid() == 0:
        return
    if shutil.which("unshare") is None:
        raise LabError(f"clarion lab {verb} needs root, or unshare (package util-linux)")
    probe = run(["unshare", "-Urnm", "true"], check=False)
    if probe.returncode != 0:
        raise LabError(
            f"clarion lab {verb} needs root here: no user namespace ({probe.stderr.strip()})",
            remedy="use sudo, or allow unprivileged user namespaces",
        )
    print("not root: the lab runs in a user namespace of its own", file=sys.stderr)
    inside = [sys.executable, "-m", "clarion.lab.rootless", *sys.argv[1:]]
    argv, environment = ["unshare", "-Urnm", "--", *inside], {**os.environ, ROOTLESS: "1"}
    os.execvpe("unshare", argv, environment)  # noqa: S606 - a list, no shell


def prepare() -> None:
    """Cover the folders that belong to the real root, inside the new mount namespace."""
    for folder in (Path("/run"), ETC, Path("/var/tmp")):  # noqa: S108 - FRR writes crash logs there
        if folder.is_dir():
            run(["mount", "-t", "tmpfs", "lab", str(folder)])
    for folder in (NETNS_DIR, RUN):
        folder.mkdir(parents=True)
    run(["ip", "link", "set", "lo", "up"])


def main(arguments: Sequence[str]) -> None:
    """Prepare, then run `clarion` with the same arguments."""
    prepare()
    argv = [sys.executable, "-m", "clarion.cli.main", *arguments]
    os.execv(sys.executable, argv)  # noqa: S606 - a list, no shell


if __name__ == "__main__":
    main(sys.argv[1:])
