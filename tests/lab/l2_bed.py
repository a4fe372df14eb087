"""The program under test of layer 2, and the hosts around it."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from clarion.lab.netns import Lab, Namespace, Switch
from clarion.lab.process import wait_until

from .l2_speaker_main import State
from .told import Told

MAIN = Path(__file__).with_name("l2_speaker_main.py")
OLD, OLD6 = "203.0.113.50", "2001:db8::50"


class Speaker(Told[State]):
    """The program under test."""

    def __init__(self, host: Namespace, name: str) -> None:
        super().__init__(host, MAIN, State, name)

    def tell(self, **fields: object) -> State:
        """Give a `Command` with these fields."""
        return self.ask(fields)

    def table(self, table: Mapping[str, Sequence[str] | None]) -> State:
        return self.tell(table=table)

    @property
    def pulse(self) -> int:
        pid = wait_until(lambda: self.tell().pulse, 10, "a pulse process")
        assert pid is not None
        return pid


class Bed:
    """A node with two segments, a client on both, and another owner on the first."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.node, self.client, self.old = (
            lab.namespace(name) for name in ("l2node", "l2client", "l2old")
        )
        self.first: Switch = lab.switch("l2sw0")
        self.second: Switch = lab.switch("l2sw1")
        for number, switch in enumerate((self.first, self.second)):
            switch.attach(self.node, f"eth{number}")
            # The VIPs are in the subnet of the first segment alone.
            subnets = (
                ["203.0.113.254/24", "2001:db8::fe/64"]
                if number == 0
                else ["192.0.2.254/24", "2001:db8:1::fe/64"]
            )
            switch.attach(self.client, f"eth{number}", subnets)
        self.first.attach(self.old, "eth0", [f"{OLD}/24", f"{OLD6}/64"])
        self.speaker = Speaker(self.node, "l2")
        self.speakers = 1

    def restart(self) -> None:
        """A new program in place of one that a test ended."""
        self.speakers += 1
        self.speaker = Speaker(self.node, f"l2-{self.speakers}")

    def arping(self, address: str, interface: str = "eth0", *extra: str) -> set[str]:
        """MACs that answer for an address on the client's segment."""
        limits = ["-c", "1", "-W", "0.3"]
        words = ["arping", "-r", *limits, "-i", interface, *extra, address]
        return set(self.client.run(words, check=False).stdout.split())

    def ndisc(self, address: str, interface: str = "eth0", wait_ms: int = 300) -> set[str]:
        """MACs that answer to a multicast solicitation for an address."""
        words = ["ndisc6", "-q", "-m", "-r", "1", "-w", str(wait_ms), address, interface]
        return set(self.client.run(words, check=False).stdout.lower().split())

    def ask(self, address: str, interface: str = "eth0") -> set[str]:
        return (self.ndisc if ":" in address else self.arping)(address, interface)

    def answers(self, address: str, mac: str, interface: str = "eth0") -> None:
        """Wait until exactly this station answers."""
        wait_until(
            lambda: self.ask(address, interface) == {mac}, 10, f"{address} at {mac} on {interface}"
        )

    def silent(self, address: str, interface: str = "eth0") -> None:
        """Wait until nobody answers."""
        wait_until(
            lambda: not self.ask(address, interface), 10, f"nobody has {address} on {interface}"
        )

    def neighbour(self, address: str) -> tuple[str, str]:
        """What the client's kernel holds: MAC and state."""
        for entry in self.client.ip_json("neigh", "show", address, "dev", "eth0"):
            return entry.get("lladdr", ""), entry["state"][0]
        return "", ""

    def groups(self, interface: str) -> set[str]:
        text = self.node.run(["ip", "-6", "maddr", "show", "dev", interface]).stdout
        return set(re.findall(r"inet6 (\S+)", text))
