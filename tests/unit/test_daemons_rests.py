"""Addresses at rest survive their controller: written to the pool, read by whoever comes next."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from clarion.base import limits
from clarion.base.addr import parse_address
from clarion.daemons.rests import resting_text, rests_of
from clarion.decide.resting import Rest
from clarion.model.annotations import HOLD_DOWN, RESTING
from clarion.model.core import Service
from clarion.model.meta import ObjectKey
from clarion.model.metallb import IPAddressPool
from clarion.testing import builders as b

from .daemons_kit import SYSTEM, World, run

POOL = ObjectKey(SYSTEM, "pool")
WEB, API = ObjectKey("default", "web"), ObjectKey("default", "api")
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def resting(world: World) -> str | None:
    return world.client.read(IPAddressPool, POOL).metadata.annotations.get(RESTING)


def addresses(world: World, key: ObjectKey) -> list[str | None]:
    ingress = world.client.read(Service, key).status.load_balancer.ingress
    return [item.ip for item in ingress]


async def released(**pool: Any) -> World:
    """A world in which `web` was deleted at 00:16:40."""
    world = World()
    world.client.put(b.pool("pool", "192.0.2.0/32", **{"hold_down": "10m", **pool}))
    world.client.put(b.service("web"))
    await world.settle()
    world.client.drop(Service, WEB)
    await world.settle()
    return world


async def restarted(world: World, seconds: float) -> World:
    """Another controller on what the first one wrote, so much later; its clock began elsewhere."""
    later = World(world.client)
    for kind, key in [*world.client.objects]:
        later.see(kind, key, world.client.read(kind, key))
    later.clock.at = world.clock.at + seconds
    later.controller.tick()
    await later.settle()
    return later


def test_what_rests_is_written_and_taken_away_when_it_ends() -> None:
    async def play() -> None:
        world = await released()
        assert resting(world) == "2026-01-01T00:16:40Z 192.0.2.0 default/web"
        world.client.calls.clear()
        await world.due(600.0)
        await world.settle()
        assert resting(world) is None
        patches = [call for call in world.client.calls if "metadata" in (call.body or {})]
        assert len(patches) == 1

    run(play)


def test_without_hold_down_nothing_is_written() -> None:
    async def play() -> None:
        world = await released(hold_down="")
        assert resting(world) is None
        assert not any(
            "metadata" in (call.body or {})
            for call in world.client.calls
            if call.kind == "IPAddressPool"
        )

    run(play)


def test_a_restarted_controller_keeps_the_rest() -> None:
    async def play() -> None:
        world = await restarted(await released(), 30.0)
        world.client.put(b.service("api"))
        await world.settle()
        assert addresses(world, API) == []
        await world.due(569.0)
        await world.settle()
        assert addresses(world, API) == []
        await world.due(1.0)
        await world.settle()
        assert addresses(world, API) == ["192.0.2.0"]
        assert resting(world) is None

    run(play)


def test_the_service_that_had_it_gets_it_back_from_another_controller() -> None:
    async def play() -> None:
        world = await restarted(await released(), 30.0)
        world.client.put(b.service("web"))
        await world.settle()
        assert addresses(world, WEB) == ["192.0.2.0"]
        assert resting(world) is None

    run(play)


def test_what_is_over_does_not_rest() -> None:
    async def play() -> None:
        world = await restarted(await released(), 600.0)
        world.client.put(b.service("api"))
        await world.settle()
        assert addresses(world, API) == ["192.0.2.0"]

    run(play)


def test_an_address_in_use_is_not_taken_because_an_old_note_says_that_it_rests() -> None:
    async def play() -> None:
        world = World()
        note = resting_text([Rest(parse_address("192.0.2.0"), WEB, 0.0)], world.clock.now(), 5.0)
        pool = b.pool("pool", "192.0.2.0/32", hold_down="10m")
        pool.metadata.annotations[RESTING] = note
        world.client.put(pool)
        world.client.put(b.service("api", ingress=("192.0.2.0",)))
        await world.settle()
        assert addresses(world, API) == ["192.0.2.0"]
        assert resting(world) is None

    run(play)


def test_taking_the_hold_down_away_frees_and_tidies() -> None:
    async def play() -> None:
        world = await released()
        world.client.change(IPAddressPool, POOL, {"metadata": {"annotations": {HOLD_DOWN: None}}})
        world.client.put(b.service("api"))
        await world.settle()
        assert addresses(world, API) == ["192.0.2.0"]
        assert resting(world) is None

    run(play)


def test_the_note_reads_back_and_is_bounded() -> None:
    rests = [
        Rest(
            parse_address(f"2001:db8:0:{n:x}:ffff:ffff:ffff:ffff"),
            ObjectKey("n" * 63, "s" * 63),
            float(n),
        )
        for n in range(limits.POOL_RESTS_WRITTEN)
    ]
    text = resting_text(rests, NOON, 1000.0)
    assert len(text) <= limits.POOL_RESTS_WRITTEN * limits.POOL_REST_BYTES
    pool = b.pool("pool")
    pool.metadata.annotations[RESTING] = text
    assert rests_of(pool, NOON, 1000.0) == rests
    assert rests_of(pool, NOON + timedelta(seconds=7), 7.0)[0].released == -1000.0


@pytest.mark.parametrize(
    "text",
    [
        "",
        ",",
        "nonsense",
        "2026-01-01T00:00:00Z 192.0.2.0",
        "soon 192.0.2.0 default/web",
        "2026-01-01T00:00:00Z 192.0.2.300 default/web",
    ],
)
def test_what_cannot_be_read_is_left_out(text: str) -> None:
    pool = b.pool("pool")
    pool.metadata.annotations[RESTING] = f"{text},2026-01-01T11:59:00Z 192.0.2.7 default/web"
    assert rests_of(pool, NOON, 100.0) == [Rest(parse_address("192.0.2.7"), WEB, 40.0)]


def test_a_clock_that_was_ahead_prolongs_nothing() -> None:
    pool = b.pool("pool")
    pool.metadata.annotations[RESTING] = "2026-01-01T13:00:00Z 192.0.2.7 default/web"
    assert rests_of(pool, NOON, 100.0)[0].released == 100.0
