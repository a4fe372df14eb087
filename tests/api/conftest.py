"""One embedded API for all tests of this folder, and the judges: kubectl and plain HTTP."""

import os
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest

from clarion.testing.apiprocess import ApiProcess, Kubectl


@pytest.fixture(scope="session")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiProcess]:
    with ApiProcess(tmp_path_factory.mktemp("api"), "--bookmarks", "200ms") as server:
        yield server


@pytest.fixture(scope="session")
def kubectl(api: ApiProcess, tmp_path_factory: pytest.TempPathFactory) -> Kubectl:
    judge = Kubectl(api.kubeconfig, tmp_path_factory.mktemp("home"))
    why = "kubectl is not installed" if not judge.installed() else judge.too_old()
    if why and os.environ.get("CI"):
        pytest.fail(f"{why}, and CI must not skip its judge")
    if why:
        pytest.skip(why)
    return judge


_numbers = count(1)


@pytest.fixture
def namespace(kubectl: Kubectl) -> str:
    """A namespace of the test's own; it is left behind for the end of the server."""
    name = f"test-{next(_numbers)}"
    kubectl("create", "namespace", name)
    return name


@pytest.fixture
def manifests(tmp_path: Path) -> Path:
    return tmp_path
