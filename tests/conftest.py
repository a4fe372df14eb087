"""The real Kubernetes API server, one for the whole run, met by `tests/api` and `tests/cluster`."""

import os
from collections.abc import Iterator

import pytest

from clarion.testing.engine import Engine, find_programs


@pytest.fixture(scope="session")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """etcd, kube-apiserver and kube-controller-manager on loopback, with our kinds installed."""
    _, why = find_programs()
    if why and os.environ.get("CI"):
        pytest.fail(f"{why}; CI must not skip the real API server")
    if why:
        pytest.skip(why)
    with Engine(tmp_path_factory.mktemp("engine")) as made:
        made.install()
        yield made
