"""On the real API server, each test in a namespace of its own. `engine`: tests/conftest.py."""

from itertools import count

import pytest

from clarion.testing.apiprocess import Kubectl
from clarion.testing.engine import Engine

_numbers = count(1)


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
