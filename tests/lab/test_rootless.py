"""The whole demonstration as an ordinary user, inside a user namespace of its own."""

import os
import subprocess
from pathlib import Path

import pytest

from clarion.lab.nodes import clarion

pytestmark = pytest.mark.lab


def test_the_demonstration_needs_no_root(tmp_path: Path) -> None:
    # An ordinary user to the program and the kernel's checks, who still may read this checkout.
    as_user = ["unshare", "--user", "--map-user=1000", "--map-group=1000"]
    done = subprocess.run(
        [*as_user, *clarion("lab", "--name", f"u{os.getpid()}", "demo")],
        env={**os.environ, "HOME": str(tmp_path), "XDG_RUNTIME_DIR": str(tmp_path)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Everything is verified" in done.stdout
