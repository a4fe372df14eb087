"""A controller that starts anew: who has an address keeps it, before anybody else is given one."""

from collections import Counter
from pathlib import Path

from clarion.lab.process import wait_until
from clarion.testing.engine import Engine

from .controller_kit import ALONE, ControllerProcess
from .fault_kit import (
    POOLS,
    SERVICES,
    SETTLE_SECONDS,
    Api,
    Witness,
    addresses_of,
    pool,
    service,
    settle,
)


def written(plane: Engine) -> Counter[str]:
    """How often the status of each service was written."""
    return Counter(
        request.name
        for request in plane.requests()
        if (request.resource, request.subresource, request.verb) == ("services", "status", "patch")
        and request.code == 200
    )


def test_holders_come_before_those_who_wait(plane: Engine, tmp_path: Path) -> None:
    """Names that sort first, a request for what another holds, and one address that became free."""
    api, holders = Api(plane), [f"holder-{number:03}" for number in range(128)]
    api.create(POOLS, pool(len(holders)))
    api.create(SERVICES, *map(service, holders))
    with ControllerProcess(plane, tmp_path, "controller", ALONE) as controller:
        before = settle(plane, len(holders))
        assert sorted(before) == holders
        controller.process.kill()
        api.delete(SERVICES, ["holder-064"])
        api.create(
            SERVICES,
            service("a-thief", loadBalancerIPs=before["holder-100"]),
            service("a-first"),
            service("a-second"),
        )
        api.ask("PATCH", f"{SERVICES}/holder-001", {"metadata": {"labels": {"new": "label"}}})
        so_far = written(plane)
        controller.start()
        after = settle(plane, len(holders))
        # Again, and with nothing to do: not one write.
        at_rest = written(plane)
        controller.process.kill()
        controller.start()
        settle(plane, len(holders))
        assert written(plane) == at_rest
    given = {name: address for name, address in after.items() if name not in before}
    kept = {name: address for name, address in after.items() if name in before}
    assert kept == {name: before[name] for name in holders if name != "holder-064"}
    assert list(given.values()) == [before["holder-064"]], given
    assert "a-thief" not in given, "it wants an address that another holds"
    assert set(at_rest - so_far) == {"a-thief", "a-first", "a-second"}, "holders were not written"


def test_a_start_in_the_middle_of_giving_goes_on_where_it_was(
    plane: Engine, tmp_path: Path
) -> None:
    """Each service is written once, however often the controller is killed on the way."""
    api, names = Api(plane), [f"web-{number:03}" for number in range(240)]
    api.create(POOLS, pool(len(names)))
    api.create(SERVICES, *map(service, names))
    controller = ControllerProcess(plane, tmp_path, "controller", ALONE)
    with Witness(api) as witness, controller:
        seen = []
        for _ in range(4):
            witness.await_given(20)
            controller.process.kill()
            seen.append({n: addresses_of(item) for n, item in api.services().items()})
            controller.start(ready=False)
        last = settle(plane, len(names))
    assert any(0 < sum(map(bool, held.values())) < len(names) for held in seen), "in the middle"
    for held in seen:
        moved = {n: (was, last[n]) for n, was in held.items() if was and was != [last[n]]}
        assert not moved, f"service: (before, after): {moved}"
    assert not witness.wrong, "\n".join(witness.wrong)
    again = {name: times for name, times in written(plane).items() if times > 1}
    assert not again, f"written more than once: {again}"


def test_a_full_pool_and_a_start_while_the_api_server_is_away(
    plane: Engine, tmp_path: Path
) -> None:
    """What cannot be read yet is not taken for free."""
    api, holders = Api(plane), [f"holder-{number:02}" for number in range(32)]
    api.create(POOLS, pool(len(holders)))
    api.create(SERVICES, *map(service, holders))
    with ControllerProcess(plane, tmp_path, "controller", ALONE) as controller:
        before = settle(plane, len(holders))
        controller.process.kill()
        api.create(SERVICES, service("a-first"))
        plane.stop_api()
        controller.start(ready=False)
        wait_until(
            lambda: (
                "does not answer" in controller.log.read_text()
                or "unreachable" in controller.log.read_text()
            ),
            SETTLE_SECONDS,
            "the controller finds no API server",
            seen=controller.log.read_text,
        )
        plane.start_api()
        wait_until(controller.ready, SETTLE_SECONDS, "it is ready")
        assert settle(plane, len(holders)) == before
