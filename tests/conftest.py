"""What all tests share: how a run is split in two, and the real Kubernetes API server."""

import os
from collections.abc import Iterator

import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

from clarion.testing.engine import Engine, find_programs

TOGETHER = {"lab": "lab", "api": "engine", "cluster": "engine"}
"""Folder of tests -> what they share. One worker has it; all other tests go to who has time."""


class ByWhatTheyShare(LoadScopeScheduling):
    """Keeps the tests that share routers, or an API server, with one worker."""

    def _split_scope(self, nodeid: str) -> str:
        return TOGETHER.get(nodeid.split("/")[1], nodeid)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> LoadScopeScheduling:
    """How a run with several workers is split."""
    return ByWhatTheyShare(config, log)


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
