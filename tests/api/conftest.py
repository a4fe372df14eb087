"""One contract, two servers: each test meets the embedded API and a real kube-apiserver.

The judges are kubectl and plain HTTP. A test that only one of the two can pass says so with
`@pytest.mark.only(SIDE, REASON)`; docs/embedded-api.md has the differences that users see.
"""

import json
import os
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest

from clarion.testing.apiprocess import ApiProcess, Kubectl
from clarion.testing.engine import Engine

from .sides import NAMES, SYSTEM, Embedded, Real, Side


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Give tests that use an API server both, or the only one that they name."""
    marker = metafunc.definition.get_closest_marker("only")
    sides = (marker.args[0],) if marker else NAMES
    for fixture in {"api", "quick_api"} & set(metafunc.fixturenames):
        metafunc.parametrize(fixture, sides, indirect=True, scope="session")


@pytest.fixture(scope="session")
def judged(tmp_path_factory: pytest.TempPathFactory) -> None:
    """There is a kubectl that can judge."""
    judge = Kubectl(Path(os.devnull), tmp_path_factory.mktemp("nobody"))
    why = "kubectl is not installed" if not judge.installed() else judge.too_old()
    if why and os.environ.get("CI"):
        pytest.fail(f"{why}, and CI must not skip its judge")
    if why:
        pytest.skip(why)


@pytest.fixture(scope="session")
def embedded(judged: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Side]:
    yield from _embedded(tmp_path_factory, "--bookmarks", "200ms")


@pytest.fixture(scope="session")
def forgetful(judged: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Side]:
    """An embedded API that forgets its history after a second, so that a test can wait for it."""
    yield from _embedded(tmp_path_factory, "--bookmarks", "200ms", "--compact", "1s")


def _embedded(factory: pytest.TempPathFactory, *flags: str) -> Iterator[Side]:
    with ApiProcess(factory.mktemp("api"), *flags) as server:
        yield Embedded(server, factory.mktemp("home"))


@pytest.fixture(scope="session")
def real(judged: None, engine: Engine) -> Side:
    manifest = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": SYSTEM}}
    engine.kubectl("apply", "-f", "-", stdin=json.dumps(manifest))
    return Real(engine)


@pytest.fixture(scope="session")
def api(request: pytest.FixtureRequest) -> Side:
    """Each of the two servers in turn."""
    return _side(request, "embedded")


@pytest.fixture(scope="session")
def quick_api(request: pytest.FixtureRequest) -> Side:
    """The same, but the embedded one forgets quickly."""
    return _side(request, "forgetful")


def _side(request: pytest.FixtureRequest, embedded: str) -> Side:
    found: Side = request.getfixturevalue(embedded if request.param == "embedded" else "real")
    return found


@pytest.fixture(scope="session")
def kubectl(api: Side) -> Kubectl:
    return api.kubectl


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
