"""Fixtures of the lab tests: real namespaces, real routers. Root is needed."""

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from clarion.lab.netns import Lab, Namespace, Switch, sweep
from clarion.lab.routers import ROUTERS, Neighbor, Router, RouterConfig

from .bgp_bed import (
    KINDS,
    NUMBERS,
    THEIR_ASN,
    US,
    Configured,
    Routers,
    Speaker,
    router_config,
)

TEST_PREFIX = "pytest-"
WITHOUT_ROOT = "needs root: network namespaces, raw sockets and FRR's own user"


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Without root a lab test is skipped with a reason; under CI that is a failure."""
    if item.get_closest_marker("lab") is None or os.geteuid() == 0:
        return
    if os.environ.get("CI"):
        pytest.fail(WITHOUT_ROOT)
    pytest.skip(WITHOUT_ROOT)


@pytest.fixture(scope="session")
def lab() -> Iterator[Lab]:
    """An empty lab for the session; hosts are added by those who need them."""
    sweep(prefix=TEST_PREFIX)
    with Lab(f"{TEST_PREFIX}{os.getpid()}") as made:
        yield made


class Segment:
    """A switch with routers that a whole session shares, at 192.0.2.N and 2001:db8:1::N.

    `router("frr", 1)` starts FRR at 192.0.2.1 once and gives the same one afterwards; tests set its
    neighbours with `configure`. `host("peer", 9)` makes a plain host for the side under test.
    """

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.switch: Switch = lab.switch("sw")
        self._routers: dict[tuple[str, int], Router] = {}
        self._hosts: dict[str, Namespace] = {}

    def addresses(self, number: int) -> list[str]:
        return [f"192.0.2.{number}/24", f"2001:db8:1::{number:x}/64"]

    def host(self, name: str, number: int, *, forwarding: bool = False) -> Namespace:
        if name not in self._hosts:
            namespace = self.lab.namespace(name, forwarding=forwarding)
            self.switch.attach(namespace, addresses=self.addresses(number))
            self._hosts[name] = namespace
        return self._hosts[name]

    def router(self, kind: str, number: int, *, asn: int = 64512) -> Router:
        if (kind, number) not in self._routers:
            namespace = self.host(f"{kind}{number}", number, forwarding=True)
            config = RouterConfig(asn=asn, router_id=f"192.0.2.{number}")
            router = ROUTERS[kind](namespace, config)
            router.start()
            self._routers[kind, number] = router
        return self._routers[kind, number]


@pytest.fixture(scope="session")
def segment(lab: Lab) -> Segment:
    return Segment(lab)


@pytest.fixture
def configured(segment: Segment) -> Iterator[Configured]:
    """A shared router of a kind, configured for this test and emptied afterwards."""
    used: dict[str, Router] = {}

    def configure(kind: str, config: RouterConfig) -> Router:
        router = segment.router(kind, NUMBERS[kind])
        router.configure(config)
        used[kind] = router
        return router

    yield configure
    with ThreadPoolExecutor(len(NUMBERS)) as pool:
        list(pool.map(_empty, used.values()))


def _empty(router: Router) -> None:
    router.configure(RouterConfig(asn=router.config.asn, router_id=router.config.router_id))


@pytest.fixture
def routers(segment: Segment, configured: Configured) -> Routers:
    """Makes routers of all four kinds, or of those named, have the same neighbours."""

    def configure(
        *neighbors: Neighbor, asn: int = THEIR_ASN, kinds: tuple[str, ...] = KINDS
    ) -> dict[str, Router]:
        for kind in kinds:
            segment.router(kind, NUMBERS[kind])

        def one(kind: str) -> Router:
            return configured(kind, router_config(kind, *neighbors, asn=asn))

        with ThreadPoolExecutor(len(kinds)) as pool:
            return dict(zip(kinds, pool.map(one, kinds), strict=True))

    return configure


@pytest.fixture
def speaker(segment: Segment) -> Iterator[Speaker]:
    """The speaker under test, without peers."""
    running = Speaker(segment.host("speaker", US))
    yield running
    running.stop()
