"""Who holds which cluster address and node port, derived from the stored services alone.

Nothing of this is written down beside the services: after a restart the index is read from them,
and a deleted service frees what it held in the same write.
"""

from collections.abc import Iterator

import msgspec

from clarion.apiserver.status import Json
from clarion.apiserver.store import Change, ChangeType, Entry, Key
from clarion.base.addr import Address, Prefix, parse_address, parse_prefix
from clarion.base.errors import InvalidInputError
from clarion.base.ports import Entropy

NODE_PORT_FIRST = 30000
NODE_PORT_LAST = 32767


class _Port(msgspec.Struct, frozen=True, rename="camel"):
    node_port: int = 0


class _Spec(msgspec.Struct, frozen=True, rename="camel"):
    cluster_ips: list[str] = msgspec.field(default_factory=list, name="clusterIPs")
    ports: list[_Port] = []
    health_check_node_port: int = 0


class _Service(msgspec.Struct, frozen=True):
    spec: _Spec = _Spec()


_decoder = msgspec.json.Decoder(_Service)


class ExhaustedError(Exception):
    """Every address or port of the range is in use."""


class ServiceNetwork(msgspec.Struct, frozen=True):
    """The ranges for cluster addresses, in order of preference: one per family."""

    prefixes: tuple[Prefix, ...]

    @classmethod
    def parse(cls, text: str) -> "ServiceNetwork":
        """Read `10.96.0.0/16,fd00:10:96::/112`.

        Raises:
            InvalidInputError: not one or two ranges of different families.
        """
        prefixes = tuple(parse_prefix(part.strip()) for part in text.split(","))
        if len(prefixes) > 2 or len({prefix.version for prefix in prefixes}) != len(prefixes):
            raise InvalidInputError(
                f"{text!r} must be one range, or one IPv4 and one IPv6 range, separated by a comma"
            )
        return cls(prefixes)

    @property
    def families(self) -> list[str]:
        """`IPv4` and `IPv6` as configured."""
        return [f"IPv{prefix.version}" for prefix in self.prefixes]

    def prefix(self, family: str) -> Prefix | None:
        """The range of a family."""
        for prefix in self.prefixes:
            if family == f"IPv{prefix.version}":
                return prefix
        return None


class Allocations:
    """The index, staged writes included."""

    def __init__(self, network: ServiceNetwork, entropy: Entropy) -> None:
        self.network = network
        self._entropy = entropy
        self._addresses: dict[str, Key] = {}
        self._ports: dict[int, Key] = {}

    # Following the store.

    def staged(self, change: Change) -> None:
        """A write got its revision: what it held before is free, what it holds now is taken."""
        if change.entry.key.resource != "services":
            return
        if change.previous is not None:
            self._release(change.previous)
        if change.type is not ChangeType.DELETED:
            self._take(change.entry)

    def rolled_back(self, entries: Iterator[Entry]) -> None:
        """Read everything anew."""
        self._addresses.clear()
        self._ports.clear()
        for entry in entries:
            if entry.key.resource == "services":
                self._take(entry)

    def _take(self, entry: Entry) -> None:
        addresses, ports = _held(entry)
        self._addresses.update(dict.fromkeys(addresses, entry.key))
        self._ports.update(dict.fromkeys(ports, entry.key))

    def _release(self, entry: Entry) -> None:
        addresses, ports = _held(entry)
        for address in addresses:
            self._addresses.pop(address, None)
        for port in ports:
            self._ports.pop(port, None)

    # Asking.

    def address_holder(self, address: str) -> Key | None:
        """The service that holds a cluster address."""
        return self._addresses.get(address)

    def port_holder(self, port: int) -> Key | None:
        """The service that holds a node port."""
        return self._ports.get(port)

    def free_address(self, prefix: Prefix) -> str:
        """A cluster address that nobody holds, from a random place on.

        Raises:
            ExhaustedError: there is none.
        """
        # Kubernetes gives neither the network address nor the last one of an IPv4 range.
        usable = prefix.size - 2 if prefix.version == 4 else min(prefix.size - 1, 1 << 32)
        start = int(self._entropy.random() * usable)
        for step in range(min(usable, len(self._addresses) + 1)):
            value = prefix.value + 1 + (start + step) % usable
            text = str(Address(prefix.version, value))
            if text not in self._addresses:
                return text
        raise ExhaustedError(f"range {prefix} is full")

    def free_port(self, taken: set[int]) -> int:
        """A node port that nobody holds and that is not in `taken`.

        Raises:
            ExhaustedError: there is none.
        """
        size = NODE_PORT_LAST - NODE_PORT_FIRST + 1
        start = int(self._entropy.random() * size)
        for step in range(size):
            port = NODE_PORT_FIRST + (start + step) % size
            if port not in self._ports and port not in taken:
                return port
        raise ExhaustedError("range is full")


def _held(entry: Entry) -> tuple[list[str], list[int]]:
    spec = _decoder.decode(entry.body).spec
    ports = [port.node_port for port in spec.ports if port.node_port]
    if spec.health_check_node_port:
        ports.append(spec.health_check_node_port)
    return [address for address in spec.cluster_ips if address != "None"], ports


def canonical(text: str) -> str | None:
    """An address as it is stored; None if it is not one."""
    try:
        return str(parse_address(text))
    except InvalidInputError:
        return None


def family_of(text: str) -> str:
    """`IPv4` or `IPv6`, for a valid address."""
    return f"IPv{parse_address(text).version}"


def spec_of(service: Json) -> Json:
    """The spec of a service, made if it is missing."""
    spec = service.setdefault("spec", {})
    assert isinstance(spec, dict), "the schema has been checked"
    return spec
