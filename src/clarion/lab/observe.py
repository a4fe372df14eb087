"""What a client on the wire sees: who answers ARP and NDP, what HTTP gives, how a takeover went.

The judges are arping, ndisc6 and curl inside the client's namespace, never our own decoder.
"""

import re
import subprocess
import threading
from collections.abc import Callable
from itertools import pairwise
from typing import NamedTuple

from clarion.lab.netns import Namespace
from clarion.lab.process import CLOCK, LabError

LISTEN_SECONDS = 0.3
PROBE_SECONDS = 0.02
ARP_LINE = re.compile(r"bytes from ([0-9a-f:]{17}) ")


def _ask(client: Namespace, argv: list[str]) -> list[str]:
    done = client.run(argv, check=False, timeout=10)
    if done.returncode not in (0, 1, 2) or "usage" in done.stderr.lower():
        raise LabError(f"{client.name}: {' '.join(argv)}: {done.stderr.strip()}")
    return [line.strip().lower() for line in done.stdout.splitlines() if line.strip()]


def answering(client: Namespace, address: str, interface: str = "eth0") -> list[str]:
    """Hardware addresses that answer for an address; listens on for a second one."""
    if ":" in address:
        wait_ms = str(int(LISTEN_SECONDS * 1000))
        argv = ["ndisc6", "-q", "-m", "-r", "1", "-w", wait_ms, address, interface]
    else:
        argv = ["arping", "-r", "-c", "1", "-w", str(LISTEN_SECONDS), "-I", interface, address]
    return sorted(set(_ask(client, argv)))


class Answer(NamedTuple):
    """One ARP answer as arping printed it, with the time at which it did."""

    at: float
    mac: str


class Prober:
    """Asks for an IPv4 address every 20 ms with arping and keeps the answers with their times."""

    def __init__(self, client: Namespace, address: str, interface: str = "eth0") -> None:
        argv = ["arping", "-W", str(PROBE_SECONDS), "-I", interface, address]
        self.answers: list[Answer] = []
        self._arping = subprocess.Popen(
            client.enter(argv), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._arping.stdout is not None
        for line in self._arping.stdout:
            if match := ARP_LINE.search(line):
                self.answers.append(Answer(CLOCK.monotonic(), match[1]))

    def stop(self) -> None:
        """End arping."""
        self._arping.terminate()
        self._arping.wait(5)
        self._reader.join(5)
        if self._arping.stdout is not None:
            self._arping.stdout.close()

    def longest_silence(self, since: float) -> float:
        """The longest time between two answers, from the last one before `since` on."""
        before = [answer.at for answer in self.answers if answer.at < since]
        times = [*before[-1:], *(answer.at for answer in self.answers if answer.at >= since)]
        gaps = [later - earlier for earlier, later in pairwise(times)]
        return max(gaps, default=0.0)


class Takeover(NamedTuple):
    """A change of owner as the client saw it; `seconds`: from the event to the first new answer."""

    seconds: float
    silence: float
    old_mac: str
    new_mac: str


def measure_takeover(
    client: Namespace, address: str, event: Callable[[], object], *, timeout: float = 30.0
) -> Takeover:
    """Probe an address, cause the event, and time the first answer by somebody else."""
    prober = Prober(client, address)
    try:
        old = _first(prober, lambda _: True, 5.0)
        started = CLOCK.monotonic()
        event()
        new = _first(prober, lambda answer: answer.mac != old.mac, timeout)
        # A few more answers, so that a flap back to the old owner would be seen as one.
        _first(prober, lambda answer: answer.at > new.at + 5 * PROBE_SECONDS, 5.0)
    finally:
        prober.stop()
    return Takeover(new.at - started, prober.longest_silence(started), old.mac, new.mac)


def _first(prober: Prober, wanted: Callable[[Answer], bool], timeout: float) -> Answer:
    """The first answer that is wanted, waited for."""
    deadline, looked = CLOCK.monotonic() + timeout, 0
    pulse = threading.Event()
    while CLOCK.monotonic() < deadline:
        while looked < len(prober.answers):
            if wanted(prober.answers[looked]):
                return prober.answers[looked]
            looked += 1
        pulse.wait(PROBE_SECONDS / 4)
    raise LabError(f"no such ARP answer within {timeout:g} s ({looked} others)")


def http_get(client: Namespace, address: str, port: int = 80, *, timeout: float = 2.0) -> str:
    """What curl gets from an address, one line; empty when nothing answers."""
    host = f"[{address}]" if ":" in address else address
    argv = ["curl", "-sg", "--max-time", str(timeout), f"http://{host}:{port}/"]
    return client.run(argv, check=False, timeout=timeout + 10).stdout.strip()
