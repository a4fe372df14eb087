"""The controller against an API in memory: what it writes, and that it keeps it true."""

from typing import Any

import msgspec
import pytest

from clarion.base.addr import parse_address
from clarion.daemons.conditions import ADDRESS_ASSIGNED
from clarion.daemons.controller import status_patch
from clarion.decide.allocate import Outcome
from clarion.decide.reasons import reason
from clarion.edge.kubeclient import UnreachableError
from clarion.model.annotations import IP_ALLOCATED_FROM_POOL
from clarion.model.core import Service
from clarion.model.meta import ObjectKey
from clarion.model.metallb import ConfigurationState, IPAddressPool
from clarion.testing import builders
from clarion.testing.memoryapi import Call

from .daemons_kit import SYSTEM, World, run

WEB = ObjectKey("default", "web")
POOL = ObjectKey(SYSTEM, "pool")


def ingress(world: World, key: ObjectKey = WEB) -> list[str | None]:
    return [item.ip for item in world.client.read(Service, key).status.load_balancer.ingress]


def usage(world: World) -> tuple[int, int]:
    status = world.client.read(IPAddressPool, POOL).status
    assert status is not None
    return status.assigned_ipv4, status.available_ipv4


async def started(*services: str) -> World:
    world = World()
    world.client.put(builders.pool("pool", "192.0.2.0/30"))
    for name in services or ("web",):
        world.client.put(builders.service(name))
    await world.settle()
    return world


def test_a_service_gets_an_address_and_the_pool_counts_it() -> None:
    async def play() -> None:
        world = await started()
        assert ingress(world) == ["192.0.2.0"]
        stored = world.client.read(Service, WEB)
        assert stored.metadata.annotations[IP_ALLOCATED_FROM_POOL] == "pool"
        assert usage(world) == (1, 3)
        state = world.client.read(ConfigurationState, ObjectKey(SYSTEM, "controller"))
        assert state.status.result == "Valid"

    run(play)


def test_what_is_as_decided_is_not_written_again() -> None:
    async def play() -> None:
        world = await started()
        world.client.calls.clear()
        world.client.change(Service, WEB, {"metadata": {"labels": {"a": "b"}}})
        await world.settle()
        assert world.client.calls == []

    run(play)


@pytest.mark.parametrize(
    "damage",
    [
        {"status": {"loadBalancer": {"ingress": [{"ip": "203.0.113.9"}]}}},
        {"status": {"loadBalancer": {"ingress": None}}},
        {"metadata": {"annotations": {IP_ALLOCATED_FROM_POOL: "other"}}},
        {"metadata": {"annotations": {IP_ALLOCATED_FROM_POOL: None}}},
    ],
)
def test_somebody_elses_change_of_the_status_is_repaired(damage: dict[str, object]) -> None:
    async def play() -> None:
        world = await started()
        world.client.change(Service, WEB, damage)
        await world.settle()
        assert ingress(world) == ["192.0.2.0"]
        stored = world.client.read(Service, WEB)
        assert stored.metadata.annotations[IP_ALLOCATED_FROM_POOL] == "pool"
        assert usage(world) == (1, 3)

    run(play)


def test_somebody_elses_change_of_a_pools_status_is_repaired() -> None:
    async def play() -> None:
        world = await started()
        world.client.change(IPAddressPool, POOL, {"status": {"assignedIPv4": 9}})
        await world.settle()
        assert usage(world) == (1, 3)
        world.client.drop(Service, WEB)
        await world.settle()
        assert usage(world) == (0, 4), "a zero must be written too"

    run(play)


def test_a_conflict_leads_to_a_new_judgement_of_the_newer_object() -> None:
    async def play() -> None:
        world = World()
        world.client.put(builders.pool("pool", "192.0.2.0/30"))
        world.client.put(builders.service("web"))
        wanted = {"metadata": {"annotations": {"metallb.io/loadBalancerIPs": "192.0.2.3"}}}

        def meanwhile(call: Call) -> None:
            if call.kind == "Service":
                world.client.before_write = None
                world.client.change(Service, WEB, wanted)

        world.client.before_write = meanwhile
        await world.settle()
        assert ingress(world) == ["192.0.2.3"]
        assert usage(world) == (1, 3)

    run(play)


def test_a_write_that_failed_is_done_when_the_api_is_back() -> None:
    async def play() -> None:
        world = World()
        world.client.put(builders.pool("pool", "192.0.2.0/30"))
        world.client.put(builders.service("web"))
        world.client.refusals.extend([UnreachableError(0, "", "away")] * 5)
        await world.settle()
        assert ingress(world) == ["192.0.2.0"]
        assert usage(world) == (1, 3)

    run(play)


def test_a_service_of_another_class_is_left_alone() -> None:
    async def play() -> None:
        world = World()
        world.client.put(builders.pool("pool", "192.0.2.0/30"))
        foreign = builders.service(
            "web", ingress=["198.51.100.1"], load_balancer_class="somebody.example/else"
        )
        world.client.put(foreign)
        await world.settle()
        assert ingress(world) == ["198.51.100.1"]
        assert all(call.kind != "Service" for call in world.client.calls)

    run(play)


def test_an_event_about_one_service_writes_about_that_one_only() -> None:
    async def play() -> None:
        world = await started("web", "api", "db")
        world.client.calls.clear()
        world.client.change(Service, WEB, {"spec": {"type": "ClusterIP"}})
        await world.settle()
        assert {call.key for call in world.client.calls} == {WEB, POOL}
        assert ingress(world) == []
        assert usage(world) == (2, 2)

    run(play)


def condition(world: World, key: ObjectKey = WEB) -> tuple[str, str, str, str | None]:
    """Status, reason, message and time of our condition; empty if there is none."""
    for item in world.client.read(Service, key).status.conditions:
        if item.type == ADDRESS_ASSIGNED:
            return item.status, item.reason, item.message, item.last_transition_time
    return "", "", "", None


async def one_waits() -> World:
    world = World()
    world.client.put(builders.pool("pool", "192.0.2.0/32"))
    world.client.put(builders.service("old", created=1))
    world.client.put(builders.service("web", created=2))
    await world.settle()
    return world


def test_a_service_that_waits_says_why_in_a_condition_and_then_that_it_has_an_address() -> None:
    async def play() -> None:
        world = await one_waits()
        status, why, message, since = condition(world)
        assert (status, why) == ("False", "PoolExhausted")
        assert message.startswith("all 1 IPv4 addresses of pool pool are in use; ")
        assert since == "2026-01-01T00:16:40Z"
        world.clock.at += 60
        world.client.drop(Service, ObjectKey("default", "old"))
        await world.settle()
        assert condition(world) == (
            *("True", "AddressAssigned", "192.0.2.0 of pool pool"),
            "2026-01-01T00:17:40Z",
        )

    run(play)


def test_a_new_reason_alone_does_not_change_the_time_of_the_condition() -> None:
    async def play() -> None:
        world = await one_waits()
        world.clock.at += 60
        asks = {"metadata": {"annotations": {"metallb.io/address-pool": "nowhere"}}}
        world.client.change(Service, WEB, asks)
        await world.settle()
        status, why, _, since = condition(world)
        assert (status, why, since) == ("False", "PoolUnknown", "2026-01-01T00:16:40Z")

    run(play)


def test_conditions_of_others_stay() -> None:
    async def play() -> None:
        world = await one_waits()
        theirs = {"type": "example.com/Other", "status": "True", "reason": "Because"}
        stored = [msgspec.to_builtins(world.client.read(Service, WEB).status.conditions[0])]
        world.client.change(Service, WEB, {"status": {"conditions": [theirs, *stored]}})
        world.client.drop(Service, ObjectKey("default", "old"))
        await world.settle()
        found = world.client.read(Service, WEB).status.conditions
        assert [item.type for item in found] == ["example.com/Other", ADDRESS_ASSIGNED]
        world.client.change(Service, WEB, {"spec": {"type": "ClusterIP"}})
        await world.settle()
        found = world.client.read(Service, WEB).status.conditions
        assert [item.type for item in found] == ["example.com/Other"]

    run(play)


def test_a_service_that_has_its_address_already_is_not_written_for_the_condition() -> None:
    async def play() -> None:
        world = World()
        world.client.put(builders.pool("pool", "192.0.2.0/30"))
        has = builders.service(
            "web", ingress=["192.0.2.0"], annotations={IP_ALLOCATED_FROM_POOL: "pool"}
        )
        world.client.put(has)
        await world.settle()
        assert all(call.kind != "Service" for call in world.client.calls)

    run(play)


def test_an_address_that_rests_goes_to_who_waits_when_its_time_is_over() -> None:
    async def play() -> None:
        world = World()
        world.client.put(builders.pool("pool", "192.0.2.0/32", hold_down="10m"))
        world.client.put(builders.service("old"))
        await world.settle()
        world.client.drop(Service, ObjectKey("default", "old"))
        world.client.put(builders.service("web"))
        await world.settle()
        assert condition(world)[:2] == ("False", "PoolResting")
        # Nothing happens in the API: the wait ends with the clock alone.
        await world.due(600.0)
        await world.settle()
        assert ingress(world) == ["192.0.2.0"]

    run(play)


def test_a_status_patch_is_for_the_version_that_was_judged() -> None:
    key = WEB
    given = Outcome(
        service=key, action="assign", addresses=(parse_address("192.0.2.1"),), pool="pool"
    )
    given = msgspec.structs.replace(given, reasons=(reason("request-granted", addresses=""),))
    service = builders.service("web")
    patch: Any = status_patch(service, given, "now")
    assert patch is not None
    assert patch["status"]["loadBalancer"] == {"ingress": [{"ip": "192.0.2.1"}]}
    assert "resourceVersion" in str(patch["metadata"])
    marked = builders.service(
        "web", ingress=["192.0.2.1"], annotations={IP_ALLOCATED_FROM_POOL: "pool"}
    )
    kept = msgspec.structs.replace(given, action="keep")
    assert status_patch(marked, kept, "now") is None
    why = (reason("not-load-balancer", type="ClusterIP"),)
    cleared = status_patch(marked, Outcome(service=key, action="clear", reasons=why), "now")
    assert cleared is not None
    assert cleared["status"] == {"loadBalancer": {"ingress": None}}
