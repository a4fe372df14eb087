"""Addresses that rest after their release, one line per case; and time that passes."""

from typing import Any

import msgspec
import pytest

from clarion.base.addr import parse_address
from clarion.decide.allocate import converge
from clarion.decide.planner import Planner, plan
from clarion.model.core import Service
from clarion.model.meta import ObjectKey
from clarion.testing import builders as b

from .test_decide_allocate import ONE, REQUIRE, addresses, ledger_of, s, text_of

WEB, API = ObjectKey("default", "web"), ObjectKey("default", "api")
HELD = b.pool("p", "192.0.2.0/32", hold_down="10m")


def resting_planner(pool: Any = HELD, **wish: Any) -> Planner:
    """A planner in which `web` gave its address back at second 1000."""
    planner = Planner()
    for obj in (pool, b.service("web", **wish)):
        planner.put(obj)
    planner.refresh(900.0)
    planner.remove(Service, WEB)
    planner.refresh(1000.0)
    return planner


def asked(planner: Planner, now: float, name: str = "api", **wish: Any) -> str:
    planner.put(b.service(name, **wish))
    planner.refresh(now)
    outcome = planner.outcome(ObjectKey("default", name))
    assert outcome
    return text_of(outcome)


# Service and second of its demand -> what it gets, while 192.0.2.0 rests from 1000 to 1600.
HOLD_DOWN: list[tuple[str, str, float, dict[str, Any], str]] = [
    ("another service waits", "api", 1001, s(), "-pool-resting"),
    ("another service waits to the end", "api", 1599.9, s(), "-pool-resting"),
    ("and gets it then", "api", 1600, s(), "192.0.2.0"),
    ("asking for it does not help", "api", 1001, s(ips="192.0.2.0"), "-address-resting"),
    ("asking for the pool does not help", "api", 1001, s(pool="p"), "-pool-resting"),
    ("sharing does not help", "api", 1001, s(share="k"), "-pool-resting"),
    ("the service that had it gets it at once", "web", 1001, s(), "192.0.2.0"),
    ("on request too", "web", 1001, s(ips="192.0.2.0"), "192.0.2.0"),
    ("with another key too", "web", 1001, s(share="k"), "192.0.2.0"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("label", "name", "now", "wish", "expected"), HOLD_DOWN, ids=[row[0] for row in HOLD_DOWN]
)
def test_hold_down(label: str, name: str, now: float, wish: dict[str, Any], expected: str) -> None:
    planner = resting_planner()
    assert planner.next_deadline() == 1600.0
    assert planner.ledger.usage("p").resting == {4: 1, 6: 0}
    assert asked(planner, now, name, **wish) == expected
    if expected == "192.0.2.0":
        assert planner.next_deadline() is None
        assert planner.ledger.usage("p").resting == {4: 0, 6: 0}


def test_who_waits_gets_what_has_rested_enough() -> None:
    planner = resting_planner()
    assert asked(planner, 1001.0) == "-pool-resting"
    changes = planner.refresh(1600.0)
    assert [str(item.service) for item in changes.outcomes] == ["default/api"]
    assert addresses(planner, "api") == ["192.0.2.0"]


def test_who_waits_is_told_when_the_rest_ends_in_another_way() -> None:
    planner = resting_planner()
    assert asked(planner, 1001.0) == "-pool-resting"
    planner.put(b.service("web"))
    planner.refresh(1002.0)
    assert addresses(planner, "web") == ["192.0.2.0"]
    outcome = planner.outcome(API)
    assert outcome
    assert outcome.reasons[0].code == "pool-exhausted"


def test_who_asks_for_an_address_is_told_that_its_rest_ended_in_use() -> None:
    planner = resting_planner(b.pool("p", "192.0.2.0/30", hold_down="10m"))
    assert asked(planner, 1001.0, ips="192.0.2.0") == "-address-resting"
    planner.put(b.service("web"))
    planner.refresh(1002.0)
    outcome = planner.outcome(API)
    assert outcome
    assert outcome.reasons[-1].code == "address-held"


def test_a_reserved_address_that_comes_back_is_reserved_still() -> None:
    pool = b.pool("p", "192.0.2.0/31", reserved="192.0.2.0")
    assert asked(resting_planner(pool, ips="192.0.2.0"), 1001.0) == "192.0.2.1"


def test_an_address_that_is_replaced_rests() -> None:
    ledger = ledger_of(b.pool("p", "192.0.2.0/31", hold_down="10m"))
    held = converge(ledger, b.service("web")).addresses
    holding = ledger.holding(WEB)
    assert holding
    other = parse_address("192.0.2.1")
    ledger.hold(WEB, msgspec.structs.replace(holding, addresses=(other,)))
    assert [rest.address for rest in ledger.resting()] == list(held)


def test_without_hold_down_an_address_is_free_at_once() -> None:
    planner = resting_planner(ONE)
    assert planner.next_deadline() is None
    assert asked(planner, 1001.0) == "192.0.2.0"


def test_other_addresses_are_given_while_one_rests() -> None:
    planner = resting_planner(b.pool("p", "192.0.2.0/31", hold_down="10m"))
    assert asked(planner, 1001.0) == "192.0.2.1"


def test_an_address_that_others_still_share_does_not_rest() -> None:
    planner = Planner()
    for obj in (HELD, b.service("web", share="k"), b.service("api", share="k", ports=[81])):
        planner.put(obj)
    planner.refresh(900.0)
    planner.remove(Service, WEB)
    planner.refresh(1000.0)
    assert planner.next_deadline() is None
    assert asked(planner, 1001.0, "more", share="k") == "192.0.2.0"


def test_a_hold_down_that_is_taken_away_ends_at_once() -> None:
    planner = resting_planner()
    assert asked(planner, 1001.0) == "-pool-resting"
    planner.put(ONE)
    planner.refresh(1002.0)
    assert addresses(planner, "api") == ["192.0.2.0"]


def test_a_hold_down_that_is_shortened_counts_from_the_release() -> None:
    planner = resting_planner()
    planner.put(b.pool("p", "192.0.2.0/32", hold_down="2m"))
    planner.refresh(1010.0)
    assert planner.next_deadline() == 1120.0


def test_an_address_rests_on_when_its_pool_changes() -> None:
    planner = resting_planner()
    planner.put(b.pool("p", "192.0.2.0/31", hold_down="10m"))
    planner.refresh(1010.0)
    assert planner.next_deadline() == 1600.0
    assert asked(planner, 1011.0) == "192.0.2.1"
    planner.put(b.pool("p", "192.0.2.1/32", hold_down="10m"))
    planner.refresh(1012.0)
    assert planner.next_deadline() is None


def test_what_a_pool_takes_from_a_service_rests_too() -> None:
    planner = Planner()
    dual = b.pool("p", "192.0.2.0/31", "2001:db8::/127", hold_down="10m")
    for obj in (dual, b.service("web", **REQUIRE)):
        planner.put(obj)
    planner.refresh(900.0)
    planner.put(b.pool("p", "192.0.2.0/31", "2001:db8::1/128", hold_down="10m"))
    planner.put(b.service("api", created=0))
    planner.refresh(1000.0)
    # It gets the address back that the pool still has, and nobody else does.
    assert addresses(planner, "web") == ["192.0.2.0", "2001:db8::1"]
    assert addresses(planner, "api") == ["192.0.2.1"]


def test_a_reserved_address_rests_for_those_who_ask() -> None:
    pool = b.pool("p", "192.0.2.0/31", reserved="192.0.2.0", hold_down="10m")
    planner = resting_planner(pool, ips="192.0.2.0")
    assert planner.ledger.usage("p").resting == {4: 0, 6: 0}
    assert asked(planner, 1001.0, ips="192.0.2.0") == "-address-resting"
    assert asked(planner, 1002.0, "web") == "192.0.2.1"
    assert asked(planner, 1600.0, ips="192.0.2.0") == "192.0.2.0"


def test_rest_is_part_of_a_snapshot() -> None:
    planner = resting_planner()
    asked(planner, 1001.0)
    again = plan(planner.snapshot())
    assert again.services == planner.plan().services
    assert again.pools == planner.plan().pools


def test_addresses_at_rest_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("clarion.decide.resting.POOL_RESTING_ADDRESSES", 2)
    planner = Planner()
    planner.put(b.pool("p", "192.0.2.0/30", hold_down="10m"))
    for name in "abc":
        planner.put(b.service(name, created=ord(name)))
    planner.refresh(900.0)
    for second, name in enumerate("abc"):
        planner.remove(Service, ObjectKey("default", name))
        planner.refresh(1000.0 + second)
    assert [str(rest.address) for rest in planner.ledger.resting()] == ["192.0.2.1", "192.0.2.2"]
    assert asked(planner, 1003.0) == "192.0.2.0"
