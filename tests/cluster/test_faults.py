"""The API server, etcd and the programs break in the middle of work: at the end all is true.

CLARION_FAULTS_SERVICES sets how many services the controller's loop of kills meets (default 180).
"""

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from clarion.base import limits
from clarion.lab.process import wait_until
from clarion.testing.engine import Engine

from .controller_kit import ALONE, ControllerProcess
from .fault_kit import (
    POOLS,
    SERVICES,
    SETTLE_SECONDS,
    Api,
    Witness,
    pool,
    service,
    settle,
    slow_etcd,
)

MANY = int(os.environ.get("CLARION_FAULTS_SERVICES", "180"))


def named(prefix: str, count: int) -> list[str]:
    return [f"{prefix}-{number:04}" for number in range(count)]


def reach(api: Api, count: int) -> None:
    wait_until(lambda: api.having() >= count, SETTLE_SECONDS, f"{count} have one", seen=api.having)


def test_an_api_server_killed_while_addresses_are_given(plane: Engine, tmp_path: Path) -> None:
    """The pool is just as large as needed: an address given twice or lost leaves one without."""
    api, names = Api(plane), named("web", 300)
    api.create(POOLS, pool(len(names)))
    controller = ControllerProcess(plane, tmp_path, "controller")
    with controller, ThreadPoolExecutor(1) as aside:
        making = aside.submit(api.create, SERVICES, *map(service, names))
        for reached in (60, 180):
            reach(api, reached)
            plane.stop_api()
            plane.start_api()
        making.result()
        first = settle(plane, len(names))
        # What is given back is given again: nothing leaked on the way.
        api.delete(SERVICES, names[::3])
        plane.stop_api()
        plane.start_api()
        api.create(SERVICES, *(service(f"again-{name}") for name in names[::3]))
        last = settle(plane, len(names))
        controller.process.require("the controller")
    kept = {name: address for name, address in first.items() if name not in names[::3]}
    assert {name: last[name] for name in kept} == kept


def test_an_etcd_that_stands_still_again_and_again(plane: Engine, tmp_path: Path) -> None:
    api, names = Api(plane), named("web", 120)
    api.create(POOLS, pool(100))
    with ControllerProcess(plane, tmp_path, "controller") as controller, Witness(api) as witness:
        with slow_etcd(plane, stopped=0.6, running=0.2):
            api.create(SERVICES, *map(service, names))
            reach(api, 50)
            api.delete(SERVICES, names[:40])
        settle(plane, 100)
        # Until the lease could not be renewed: nobody writes, and then the same one goes on.
        with slow_etcd(plane, stopped=2 * limits.LEADER_LEASE_SECONDS, running=0.2):
            wait_until(lambda: not controller.leads, SETTLE_SECONDS, "nobody leads")
        api.create(SERVICES, *map(service, named("more", 20)))
        settle(plane, 100)
        controller.process.require("the controller")
    assert not witness.wrong, "\n".join(witness.wrong)


def test_a_controller_killed_again_and_again(plane: Engine, tmp_path: Path) -> None:
    """Services come and go, more than there are addresses; each life of the controller is short."""
    api, names, size = Api(plane), named("web", MANY), MANY // 3
    api.create(POOLS, pool(size))
    controller = ControllerProcess(plane, tmp_path, "controller", ALONE)

    def change(start: int) -> None:
        """Twenty come; of the twenty before the last, ten go."""
        api.create(SERVICES, *map(service, names[start : start + 20]))
        before = max(0, start - 40)
        api.delete(SERVICES, names[before : before + 10])

    def all_is_given() -> bool:
        return api.having() >= min(size, len(api.services()))

    with Witness(api) as witness, controller, ThreadPoolExecutor(1) as aside:
        for life, start in enumerate(range(0, MANY, 20)):
            work = aside.submit(change, start)
            enough = witness.given + (1 if life % 2 else 12)
            wait_until(
                lambda work=work, enough=enough: (  # type: ignore[misc]
                    witness.given >= enough or (work.done() and all_is_given())
                ),
                SETTLE_SECONDS,
                f"{enough} addresses given in all",
                interval=0.01,
                seen=lambda: f"{witness.given} given\n{controller.process.tail()}",
            )
            controller.process.kill()
            controller.start(ready=False)
            work.result()
        # As many as there are addresses: had one leaked, one service would wait for ever. The next
        # round is of one life, which did not learn from the statuses what is free.
        for last in range(2):
            left = sorted(api.services())
            api.delete(SERVICES, left[: max(size // 2, len(left) - size)])
            free = size - len(api.services())
            api.create(SERVICES, *map(service, named(f"last-{last}", free)))
            assert len(settle(plane, size)) == size
    assert not witness.wrong, "\n".join(witness.wrong)
