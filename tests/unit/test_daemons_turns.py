"""Telling of thousands of services takes turns, and each is told as it is decided at its turn."""

from clarion.base import limits
from clarion.model.core import Service
from clarion.model.meta import ObjectKey
from clarion.testing import builders as b

from .daemons_kit import World, run

TURN = limits.SERVICES_TOLD_IN_ONE_TURN
SERVICES = 2 * TURN + 10


def filled() -> World:
    world = World()
    world.client.put(b.pool("pool", "2001:db8::/112"))
    for number in range(SERVICES):
        world.client.put(b.service(f"web-{number:04}", families=(6,)))
    world.client.deliver(world.see)
    return world


def waiting(world: World) -> set[ObjectKey]:
    """The services whose status will be written."""
    writer, services = world.controller._writer, world.controller._services
    return {key for key in services if writer.busy_with(key)}


def test_a_tick_tells_of_some_and_says_that_there_are_more() -> None:
    async def play() -> None:
        world = filled()
        assert [world.controller.tick() for _ in range(3)] == [True, True, False]
        assert len(waiting(world)) == SERVICES

    run(play)


def test_what_changes_before_its_turn_is_told_as_it_is_then() -> None:
    async def play() -> None:
        world = filled()
        assert world.controller.tick()
        first = waiting(world)
        assert len(first) == TURN
        gone, other = sorted(world.controller._services.keys() - first)[:2]
        world.client.drop(Service, gone)
        world.client.put(b.service(f"default/{other.name}", families=(6,), ips="2001:db8::ffff"))
        await world.settle()
        while world.controller.tick():
            pass
        await world.settle()
        found = world.client.read(Service, other).status.load_balancer.ingress
        assert [item.ip for item in found] == ["2001:db8::ffff"]
        assert not world.controller._writer.busy_with(gone)

    run(play)
