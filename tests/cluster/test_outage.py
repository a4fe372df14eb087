"""The real API server goes away, forgets, and loses what others stand on: nothing is withdrawn."""

import asyncio
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from clarion.edge.kubeclient import KubeClient, Selection
from clarion.model.core import Namespace, Service
from clarion.model.metallb import IPAddressPool
from clarion.proto.kube.backoff import BackoffPolicy
from clarion.proto.kube.guard import GuardPolicy
from clarion.proto.kube.reflector import Policy
from clarion.testing.apiprocess import Kubectl
from clarion.testing.engine import CRDS, Engine

from .kit import Following, Relay, connected, until

DEFINITION = "crd/ipaddresspools.metallb.io"
# No hold: what tells a lost definition from a deletion is the question, not the wait before it.
PROMPT = GuardPolicy(hold=0.0, settle=1.0, retry=0.05)
IMPATIENT = Policy(watch_idle_seconds=2.0, backoff=BackoffPolicy(base=0.05, cap=0.5))


@pytest.fixture
def apart(tmp_path: Path, engine: Engine) -> Iterator[Engine]:
    """A control plane for one test alone, with a namespace `net`."""
    with Engine(tmp_path) as made:
        made.install()
        made.kubectl("create", "namespace", "net")
        yield made


def pool(name: str, namespace: str, **metadata: object) -> str:
    return json.dumps(
        {
            "apiVersion": "metallb.io/v1beta1",
            "kind": "IPAddressPool",
            "metadata": {"name": name, "namespace": namespace, **metadata},
            "spec": {"addresses": ["192.0.2.0/24"]},
        }
    )


def service(name: str, namespace: str) -> str:
    return json.dumps(
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": name, "namespace": namespace},
            "spec": {"ports": [{"port": 80}]},
        }
    )


def apply(kubectl: Kubectl, *objects: str) -> None:
    kubectl("apply", "--server-side", "-f", "-", stdin="\n---\n".join(objects))


def follow(client: KubeClient, namespace: str) -> Following:
    following = Following(client)
    for of in (IPAddressPool, Service):
        following.informers.add(of, selection=Selection(namespace), guard=PROMPT, policy=IMPATIENT)
    return following


async def aside(work: Callable[[], object]) -> None:
    """Do what blocks beside the loop that follows."""
    await asyncio.get_running_loop().run_in_executor(None, work)


async def lost(following: Following) -> None:
    """Until the server is out of reach for every kind."""
    await until(
        lambda: all(health.trouble == "unreachable" for health in following.informers.health)
    )


async def followed(following: Following) -> None:
    """Until every kind is followed again."""
    await until(lambda: not any(health.trouble for health in following.informers.health))


def lists(following: Following) -> list[int]:
    return [health.lists for health in following.informers.health]


def test_an_api_server_that_was_away_is_followed_on(
    engine: Engine, kubectl: Kubectl, namespace: str
) -> None:
    apply(kubectl, pool("gold", namespace), service("web", namespace), service("old", namespace))

    async def main() -> None:
        async with connected(engine.kubeconfig) as client:
            following = follow(client, namespace)
            async with following.running():
                seen = len(following.changes)
                await aside(engine.stop_api)
                await lost(following)
                error = following.informers.health[0].error
                assert f"127.0.0.1:{engine.port}: " in error
                assert "ssl" not in error, "refused or reset, as it comes: in our words"
                assert len(following.changes) == seen, "nothing is withdrawn"
                await aside(engine.start_api)
                await aside(lambda: apply(kubectl, service("new", namespace)))
                await aside(lambda: kubectl("delete", "service", "old", "-n", namespace))
                await followed(following)
                await until(lambda: following.names(Service) == {"web", "new"})
                assert following.names(IPAddressPool) == {"gold"}
                assert sorted(following.changes[seen:]) == ["+Service new", "-Service old"]

    asyncio.run(main())


def test_after_a_long_outage_everything_is_read_once_and_no_change_is_missed(
    engine: Engine, kubectl: Kubectl, namespace: str, tmp_path: Path
) -> None:
    apply(kubectl, pool("gold", namespace), pool("old", namespace))
    apply(kubectl, service("web", namespace), service("again", namespace))

    def meanwhile() -> None:
        apply(kubectl, pool("new", namespace))
        kubectl("delete", "ipaddresspool/old", "service/again", "-n", namespace)
        apply(kubectl, service("again", namespace))
        engine.forget_history()

    async def main() -> None:
        async with Relay(engine, tmp_path) as relay, connected(relay.kubeconfig) as client:
            following = follow(client, namespace)
            async with following.running():
                before, seen = lists(following), len(following.changes)
                await relay.cut()
                await lost(following)
                await aside(meanwhile)
                assert len(following.changes) == seen
                await relay.restore()
                await until(lambda: len(following.changes) == seen + 4)
                await followed(following)
                assert sorted(following.changes[seen:]) == [
                    "+IPAddressPool new",
                    "+Service again",
                    "-IPAddressPool old",
                    "-Service again",
                ], "another object of the same name is a deletion and a new object"
                more = [now - then for now, then in zip(lists(following), before, strict=True)]
                assert more == [1, 1]

    asyncio.run(main())


def test_connections_that_fell_silent_are_left_for_new_ones(
    engine: Engine, kubectl: Kubectl, namespace: str, tmp_path: Path
) -> None:
    apply(kubectl, service("web", namespace))

    async def main() -> None:
        async with Relay(engine, tmp_path) as relay, connected(relay.kubeconfig, 2) as client:
            following = follow(client, namespace)
            async with following.running():
                seen, connections = lists(following), relay.connections
                relay.silence()
                await aside(lambda: apply(kubectl, service("new", namespace)))
                await until(lambda: relay.connections > connections)
                assert following.names(Service) == {"web"}
                await relay.cut()
                relay.speak()
                await relay.restore()
                await until(lambda: following.names(Service) == {"web", "new"})
                assert lists(following) == seen, "the watch went on where it was"

    asyncio.run(main())


def test_a_deleted_definition_takes_nothing_with_it(apart: Engine) -> None:
    kubectl = apart.kubectl
    names = [f"p{number}" for number in range(40)]
    apply(kubectl, *(pool(name, "net") for name in names))
    # Its finalizer keeps the definition from going for as long as the test wants.
    apply(kubectl, pool("last", "net", finalizers=["example.com/wait"]), service("web", "net"))
    everything = {*names, "last"}

    async def main() -> None:
        async with connected(apart.kubeconfig) as client:
            following = follow(client, "net")
            async with following.running():
                seen = len(following.changes)

                def orphans() -> int:
                    return following.informers.health[0].orphans

                def what_is_lost() -> tuple[str, ...]:
                    return following.informers.health[0].lost

                await aside(lambda: kubectl("delete", DEFINITION, "--wait=false"))
                await until(lambda: orphans() == len(names))
                assert what_is_lost() == ("CustomResourceDefinition ipaddresspools.metallb.io",)
                release = '{"metadata":{"finalizers":null}}'
                patch = ("patch", "ipaddresspool", "last", "-n", "net", "--type=merge", "-p")
                await aside(lambda: kubectl(*patch, release))
                await until(lambda: orphans() == len(everything))
                await until(lambda: following.informers.health[0].trouble == "kind-missing")
                assert what_is_lost() == ("CustomResourceDefinition ipaddresspools.metallb.io",)
                assert "-" not in "".join(sorted(following.changes[seen:]))
                assert following.names(IPAddressPool) == everything

                await aside(apart.install)
                await followed(following)
                assert following.names(IPAddressPool) == everything, "restored, but empty"
                await aside(lambda: apply(kubectl, *(pool(name, "net") for name in names)))
                await until(lambda: orphans() == 0)
                assert following.names(IPAddressPool) == set(names), "what is not back is gone"
                assert what_is_lost() == ()
                await aside(lambda: kubectl("delete", "ipaddresspool", "p0", "-n", "net"))
                await until(lambda: following.names(IPAddressPool) == set(names[1:]))

    asyncio.run(main())


def test_a_definition_deleted_and_made_anew_while_nobody_looked(
    apart: Engine, tmp_path: Path
) -> None:
    kubectl = apart.kubectl
    apply(kubectl, pool("gold", "net"), pool("gone", "net"))

    def meanwhile() -> None:
        kubectl("delete", DEFINITION)
        apart.install(CRDS)

    async def main() -> None:
        async with Relay(apart, tmp_path) as relay, connected(relay.kubeconfig) as client:
            following = follow(client, "net")
            async with following.running():
                await relay.cut()
                await lost(following)
                await aside(meanwhile)
                await relay.restore()
                await until(lambda: following.informers.health[0].orphans == 2)
                await aside(lambda: apply(kubectl, pool("gold", "net")))
                await until(lambda: following.names(IPAddressPool) == {"gold"})

    asyncio.run(main())


def test_a_deleted_namespace_takes_no_configuration_with_it_but_its_services(
    engine: Engine, kubectl: Kubectl, namespace: str
) -> None:
    apply(kubectl, pool("gold", namespace), service("web", namespace))

    async def main() -> None:
        async with connected(engine.kubeconfig) as client:
            following = follow(client, namespace)
            async with following.running():
                await aside(lambda: kubectl("delete", "namespace", namespace))
                await until(lambda: following.informers.health[0].orphans == 1)
                await until(lambda: following.names(Service) == set())
                assert following.names(IPAddressPool) == {"gold"}
                await aside(lambda: kubectl("create", "namespace", namespace))
                await aside(lambda: apply(kubectl, pool("silver", namespace)))
                await until(lambda: following.names(IPAddressPool) == {"silver"})

    asyncio.run(main())


def test_an_api_server_that_lost_its_memory_empties_nothing(apart: Engine) -> None:
    apply(apart.kubectl, pool("gold", "net"), service("web", "net"))

    def lose_all() -> None:
        apart.stop_controllers()
        apart.stop_api()
        apart.stop_etcd()
        shutil.rmtree(apart.directory / "etcd")
        apart.start_etcd()
        apart.start_api()
        apart.install(CRDS)

    async def main() -> None:
        async with connected(apart.kubeconfig) as client:
            following = follow(client, "net")
            following.informers.add(Namespace, guard=PROMPT, policy=IMPATIENT)
            async with following.running():
                await aside(lose_all)
                await until(lambda: all(h.orphans for h in following.informers.health))
                assert following.names(IPAddressPool) == {"gold"}
                assert following.names(Service) == {"web"}
                assert "net" in following.names(Namespace)

    asyncio.run(main())
