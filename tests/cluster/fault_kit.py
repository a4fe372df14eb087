"""What tests of faults share: a plain client, a judge of the end, and one who watches all along."""

import http.client
import json
import os
import signal
import socket
import ssl
import sys
import threading
from collections import defaultdict
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from ipaddress import IPv6Address
from typing import Any, Final, Self

from clarion.lab.process import pause, run, wait_until
from clarion.testing.engine import Engine

from .controller_kit import SYSTEM

SERVICES: Final = "/api/v1/namespaces/default/services"
POOLS: Final = f"/apis/metallb.io/v1beta1/namespaces/{SYSTEM}/ipaddresspools"
ADDRESS_ASSIGNED: Final = "clarion.metallb.io/AddressAssigned"
AT_ONCE: Final = 4
RETRY_SECONDS: Final = 0.1
SETTLE_SECONDS: Final = 90.0
"""Within which the truth must stand; what is awaited, not measured."""

Object = dict[str, Any]


class Api:
    """Plain requests as the administrator, with the standard library only.

    Args:
        engine: Whose API server; it may be away for a while: then a request is tried again.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._context: ssl.SSLContext = engine.ssl_context()

    def open(self, seconds: float = 30.0) -> http.client.HTTPSConnection:
        """A connection."""
        return http.client.HTTPSConnection(
            "127.0.0.1", self._engine.port, timeout=seconds, context=self._context
        )

    def ask(self, verb: str, path: str, body: object = None, *, also: tuple[int, ...] = ()) -> Any:
        """One request, until the server answers it with success or a status of `also`.

        Raises:
            AssertionError: it is refused, or not answered for so long that no test awaits it.
        """
        kind = "application/merge-patch+json" if verb == "PATCH" else "application/json"
        text = None if body is None else json.dumps(body)
        for _ in range(int(SETTLE_SECONDS / RETRY_SECONDS)):
            connection = self.open()
            try:
                connection.request(verb, path, text, {"Content-Type": kind})
                answer = connection.getresponse()
                data = json.loads(answer.read())
            except (OSError, http.client.HTTPException, ValueError):  # cut off, or not JSON
                data = None
            finally:
                connection.close()
            if data is not None and (answer.status < 300 or answer.status in also):
                return data
            refused = data is not None and 400 <= answer.status < 500 and answer.status != 429
            assert not refused, f"{verb} {path}: {data}"
            pause(RETRY_SECONDS)
        raise AssertionError(f"{verb} {path}: no answer")

    def create(self, path: str, *objects: Object) -> None:
        """Create objects of one kind, some at a time; one that is there by now was made by us."""
        with ThreadPoolExecutor(AT_ONCE) as workers:
            list(workers.map(lambda item: self.ask("POST", path, item, also=(409,)), objects))

    def delete(self, path: str, names: Iterable[str]) -> None:
        """Delete objects, some at a time; one that is gone by now was deleted by us."""
        with ThreadPoolExecutor(AT_ONCE) as workers:
            where = [f"{path}/{name}" for name in names]
            list(workers.map(lambda one: self.ask("DELETE", one, also=(404,)), where))

    def items(self, path: str) -> dict[str, Object]:
        """The objects of one kind, by name."""
        return {item["metadata"]["name"]: item for item in self.ask("GET", path)["items"]}

    def services(self) -> dict[str, Object]:
        """Those of type LoadBalancer, by name."""
        found = self.items(SERVICES)
        return {n: item for n, item in found.items() if item["spec"]["type"] == "LoadBalancer"}

    def having(self) -> int:
        """How many services have an address."""
        return sum(bool(addresses_of(item)) for item in self.services().values())


def emptied(engine: Engine) -> Engine:
    """A control plane as it is shared by the tests of a module: it runs, and holds nothing."""
    engine.heal()  # a test that failed may have left it without its API server
    api = Api(engine)
    for path in (SERVICES, POOLS):
        api.delete(path, [name for name in api.items(path) if name != "kubernetes"])
    return engine


def addresses_of(item: Object) -> list[str]:
    """The addresses in the status of a service."""
    return [entry["ip"] for entry in item["status"]["loadBalancer"].get("ingress", [])]


def service(name: str, **annotations: str) -> Object:
    """One that wants one IPv6 address; annotations with `metallb.io/` before their names."""
    notes = {f"metallb.io/{key}": value for key, value in annotations.items()}
    spec = {
        "type": "LoadBalancer",
        "allocateLoadBalancerNodePorts": False,
        "ipFamilies": ["IPv6"],
        "ports": [{"port": 80}],
    }
    meta = {"name": name, "namespace": "default", "annotations": notes}
    return {"apiVersion": "v1", "kind": "Service", "metadata": meta, "spec": spec}


FIRST: Final = IPv6Address("2001:db8:5::1")


def pool(size: int, **annotations: str) -> Object:
    """The pool named `pool`, of so many addresses from FIRST on."""
    return {
        "apiVersion": "metallb.io/v1beta1",
        "kind": "IPAddressPool",
        "metadata": {"name": "pool", "namespace": SYSTEM, "annotations": annotations},
        "spec": {"addresses": [f"{FIRST}-{FIRST + size - 1}"]},
    }


# --- the judges ---------------------------------------------------------------------------------


def untruths(api: Api, size: int) -> list[str]:
    """What is not as it must be once all is done, with `pool(size)`; one line for each thing.

    Each service has one address of the pool, nobody has another's, and as many wait as there are
    too many; marks, conditions and the pool's status say just this.
    """
    services, wrong = api.services(), []
    holders: dict[str, list[str]] = defaultdict(list)
    for name, item in services.items():
        found = addresses_of(item)
        for address in found:
            holders[address].append(name)
            if not FIRST <= IPv6Address(address) < FIRST + size:
                wrong.append(f"service {name}: {address} is not of the pool")
        wrong += [f"service {name}: {why}" for why in _misjudged(item, found)]
    wrong += [f"{address}: given to {', '.join(n)}" for address, n in holders.items() if len(n) > 1]
    waiting = sum(not addresses_of(item) for item in services.values())
    surplus = max(0, len(services) - size)
    if waiting != surplus:
        wrong.append(f"{waiting} services without an address; there are {surplus} too many")
    status = api.items(POOLS)["pool"].get("status")
    truth = {
        "assignedIPv4": 0,
        "assignedIPv6": len(holders),
        "availableIPv4": 0,
        "availableIPv6": size - len(holders),
    }
    if status != truth:
        wrong.append(f"the pool says {status}; true is {truth}")
    return wrong


def _misjudged(item: Object, found: list[str]) -> Iterator[str]:
    """What a service says of itself beside its addresses."""
    mark = item["metadata"].get("annotations", {}).get("metallb.io/ip-allocated-from-pool")
    conditions = {one["type"]: one for one in item["status"].get("conditions", ())}
    told = conditions.get(ADDRESS_ASSIGNED, {})
    if len(found) > 1:
        yield f"has {', '.join(found)}"
    if mark != ("pool" if found else None):
        yield f"has {found or 'nothing'}, and its mark is {mark}"
    if told.get("status") != str(bool(found)) or not all(one in told["message"] for one in found):
        yield f"has {found or 'nothing'}, and its condition is {told}"


def settle(engine: Engine, size: int) -> dict[str, str]:
    """Wait for the truth, and for `clarion plan` to want nothing else; the address of each."""
    api = Api(engine)

    def told() -> str:
        return "\n".join(untruths(api, size))

    wait_until(lambda: not told(), SETTLE_SECONDS, "everything is true", interval=0.3, seen=told)
    argv = [sys.executable, "-m", "clarion.cli.main", "plan", "-o", "json"]
    plan = json.loads(run(argv, env={"KUBECONFIG": str(engine.kubeconfig)}, timeout=60).stdout)
    wanted = {
        name.removeprefix("default/"): entry["addresses"]
        for name, entry in plan["services"].items()
    }
    found = {name: addresses_of(item) for name, item in api.services().items()}
    differ = {n: (wanted.get(n), found[n]) for n in found if wanted.get(n) != found[n]}
    assert not differ, f"service: (planned, written): {differ}"
    return {name: addresses[0] for name, addresses in found.items() if addresses}


class Witness:
    """Follows the services from the start, change by change in the order in which they happened.

    Attributes:
        wrong: Where an address was with two services at the same moment, or a service lost the one
            that it had.
        given: How many times an address was given.
    """

    def __init__(self, api: Api) -> None:
        self.wrong: list[str] = []
        self.given = 0
        self._held: dict[str, list[str]] = {}
        self._connection = api.open(seconds=SETTLE_SECONDS)
        self._since = api.ask("GET", SERVICES)["metadata"]["resourceVersion"]
        self._ending = False
        self._thread = threading.Thread(target=self._follow, name="witness")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._ending = True
        if self._connection.sock is not None:
            self._connection.sock.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._connection.close()

    def await_given(self, more: int) -> None:
        """Wait until so many more addresses have been given."""
        until = self.given + more
        wait_until(lambda: self.given >= until, SETTLE_SECONDS, f"{more} given", interval=0.005)

    def _follow(self) -> None:
        path = f"{SERVICES}?watch=1&resourceVersion={self._since}"
        try:
            self._connection.request("GET", path)
            for line in self._connection.getresponse():
                event = json.loads(line)
                self._see(event["type"], event["object"])
        except (OSError, http.client.HTTPException, ValueError) as error:
            if not self._ending:
                self.wrong.append(f"the watch broke: {error!r}")
        else:
            if not self._ending:
                self.wrong.append("the watch has ended")

    def _see(self, kind: str, item: Object) -> None:
        name = item["metadata"]["name"]
        before = self._held.pop(name, [])
        now = [] if kind == "DELETED" else addresses_of(item)
        if kind != "DELETED":
            self._held[name] = now
        if before == now:
            return
        self.given += bool(now)
        if before and kind != "DELETED":
            self.wrong.append(f"{name} had {before}, and then {now}")
        for address in now:
            others = [n for n, held in self._held.items() if address in held and n != name]
            if others:
                self.wrong.append(f"{address} was given to {name} while {others} had it")


@contextmanager
def slow_etcd(engine: Engine, stopped: float, running: float) -> Iterator[None]:
    """Let etcd stand still and run by turns, for so many seconds each."""
    etcd, _ = engine.pids[:2]
    ended = threading.Event()

    def pulse() -> None:
        while not ended.is_set():
            os.kill(etcd, signal.SIGSTOP)
            ended.wait(stopped)
            os.kill(etcd, signal.SIGCONT)
            ended.wait(running)

    thread = threading.Thread(target=pulse, name="slow etcd")
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
