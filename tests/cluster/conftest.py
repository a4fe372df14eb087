"""On the real API server, each test in a namespace of its own. `engine`: tests/conftest.py."""

from collections.abc import Iterator
from itertools import count

import pytest

from clarion.testing.apiprocess import Kubectl
from clarion.testing.engine import Engine

from .controller_kit import SYSTEM, need_engine
from .fault_kit import emptied

_numbers = count(1)


@pytest.fixture(autouse=True)
def _healed(request: pytest.FixtureRequest) -> Iterator[None]:
    """A test that fails while the API server is away must not take the others with it."""
    yield
    if "engine" in request.fixturenames:
        request.getfixturevalue("engine").heal()


@pytest.fixture
def kubectl(engine: Engine) -> Kubectl:
    """The judge, as the administrator."""
    return engine.kubectl


@pytest.fixture
def namespace(kubectl: Kubectl) -> str:
    """A namespace of the test's own; it is left behind for the end of the engine."""
    name = f"cluster-{next(_numbers)}"
    kubectl("create", "namespace", name)
    return name


@pytest.fixture(scope="module")
def control_plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """A control plane for one module alone: it is killed, or what was written to it is counted."""
    need_engine()
    with Engine(tmp_path_factory.mktemp("plane"), controllers=()) as made:
        made.install()
        made.kubectl("create", "namespace", SYSTEM)
        yield made


@pytest.fixture
def plane(control_plane: Engine) -> Engine:
    """It, without anything that another test left."""
    return emptied(control_plane)
