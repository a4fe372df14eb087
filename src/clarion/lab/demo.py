"""`clarion lab demo`: the use cases of `examples/`, one after the other, with real routers.

Nothing on the screen is only planned: a row is verified when the router's own table (or the answer
that arping, ndisc6 and curl got) equals the plan, and the run fails unless every row is.
"""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import FrameType

import msgspec
from rich.console import Console
from rich.live import Live

import clarion
from clarion.lab import observe, screen, views
from clarion.lab.netns import Lab
from clarion.lab.process import CLOCK, LabError, wait_until
from clarion.lab.screen import Row
from clarion.lab.topology import StandardLab

REFRESH_SECONDS = 2.0
AGREE_SECONDS = 25.0
TAKEOVER_SECONDS = 60.0


class UseCase(msgspec.Struct, frozen=True, kw_only=True):
    """One folder of examples, and who looks at what it does."""

    folder: str
    services: tuple[str, ...]
    routers: tuple[str, ...] = ()
    interfaces: tuple[str, ...] = ()


WEB = tuple(f"web-{number}" for number in range(1, 5))
BGP = ("frr", "bird", "upstream")
CASES = (
    UseCase(folder="01-basic-bgp", services=WEB[:2], routers=BGP),
    UseCase(folder="02-advanced-bgp", services=WEB, routers=BGP),
    UseCase(folder="03-nodes-subset", services=WEB[:1], routers=("frr", "bird")),
    UseCase(folder="04-specific-peers", services=WEB[:1], routers=("frr", "bird")),
    UseCase(folder="05-l2", services=WEB[:2], interfaces=("eth0",)),
    UseCase(folder="06-l2-by-labels", services=("web-east", "web-west"), interfaces=("eth0",)),
    UseCase(
        folder="07-l2-interfaces",
        services=("web-second", "web-nowhere"),
        interfaces=("eth0", "eth1"),
    ),
    UseCase(folder="09-community-alias", services=WEB[:1], routers=BGP),
    UseCase(
        folder="08-l2-and-bgp",
        services=WEB[:2],
        routers=("frr", "bird"),
        interfaces=("eth0",),
    ),
)
LAST = CASES[-1].folder


class Demo:
    """The run: a lab, the rows so far, and where they go."""

    def __init__(self, lab: StandardLab, examples: Path, report: Callable[[Row], None]) -> None:
        self.lab = lab
        self.examples = examples
        self.rows: list[Row] = []
        self._report = report

    def add(self, case: str, viewer: str, planned: str, seen: str, verified: bool) -> None:
        """Put a row on the screen."""
        row = Row(case, viewer, planned, seen, verified)
        self.rows.append(row)
        self._report(row)

    @property
    def verified(self) -> bool:
        """Whether there are rows and every one of them is true."""
        return bool(self.rows) and all(row.verified for row in self.rows)

    def run(self) -> None:
        """All use cases; the last one stays applied for the takeover."""
        for case in CASES:
            try:
                self._apply(case)
                self._compare(case)
                if case.folder == "02-advanced-bgp":
                    self._shrink(case)
                if case.folder == LAST:
                    self._use_services(case)
                    self._take_over(case)
                    return
            except LabError as error:
                self.add(case.folder, "", "", str(error), verified=False)
            self._delete(case)

    def _apply(self, case: UseCase) -> None:
        self.lab.api.kubectl("apply", "-f", str(self.examples / case.folder))
        wait_until(
            lambda: set(case.services) <= {n for n, a in self._addresses().items() if len(a) == 2},
            AGREE_SECONDS,
            f"{case.folder}: every service has two addresses",
            seen=self._addresses,
        )
        self._await_endpoints(case)

    def _addresses(self) -> dict[str, list[str]]:
        return {name.partition("/")[2]: ips for name, ips in screen.services(self.lab)}

    def _await_endpoints(self, case: UseCase) -> None:
        def ready() -> bool:
            slices = self.lab.api.items("endpointslices", "-n", "default")
            full = [
                each["metadata"]["labels"]["kubernetes.io/service-name"]
                for each in slices
                if all(e["conditions"].get("ready") for e in each.get("endpoints", []))
            ]
            return all(full.count(name) == 2 for name in case.services)

        wait_until(ready, AGREE_SECONDS, f"{case.folder}: endpoints are ready")

    def _compare(self, case: UseCase, note: str = "") -> None:
        """A row per viewer: the plan, and what becomes true there."""
        plan = views.live_plan(self.lab)
        for name in case.routers:
            planned = views.planned_routes(plan, "frr" if name == "upstream" else name)
            if name == "upstream":
                planned = views.passed_on(planned)
            self._compare_routes(case, name, planned, note)
        for interface in case.interfaces:
            owners = views.planned_owners(plan, interface)
            self._compare_owners(case, interface, owners)

    def _compare_routes(
        self, case: UseCase, name: str, planned: views.RouterView, note: str = ""
    ) -> None:
        router = self.lab.routers()[name]
        found: views.RouterView = {}

        def equal() -> bool:
            nonlocal found
            found = views.observed_routes(self.lab, router)
            return found == planned

        agreed = _comes_true(equal)
        plan, seen = (views.summarize_routes(view) or "no route" for view in (planned, found))
        viewer = {"frr": "FRR", "bird": "BIRD (iBGP)", "upstream": "FRR behind FRR"}[name]
        self.add(f"{case.folder}{note}", viewer, plan, seen, agreed)

    def _compare_owners(self, case: UseCase, interface: str, planned: views.SegmentView) -> None:
        found: views.SegmentView = {}

        def equal() -> bool:
            nonlocal found
            found = views.observed_owners(self.lab, planned, interface)
            return found == planned

        agreed = _comes_true(equal)
        plan, seen = (views.summarize_owners(view) for view in (planned, found))
        self.add(case.folder, f"ARP, NDP on {interface}", plan, seen, agreed)

    def _shrink(self, case: UseCase) -> None:
        """Fewer services: the aggregate stays until the last one goes."""
        kubectl = self.lab.api.kubectl
        for names, note in ((WEB[:3], " 3 deleted"), (WEB[3:], " all deleted")):
            kubectl("delete", "service", "-n", "default", *names)
            self._await_endpoints(
                msgspec.structs.replace(case, services=WEB[3:] if names == WEB[:3] else ())
            )
            self._compare(msgspec.structs.replace(case, routers=("frr", "upstream")), note)

    def _use_services(self, case: UseCase) -> None:
        """HTTP through every service address, from the segment and from behind the router."""
        lab = self.lab
        ways = [(lab.client, "by its owner")]
        if lab.frr.kernel_protocol:  # without root FRR has no routes in the kernel
            ways.append((lab.upstream_host, "by the routers"))
        for host, way in ways:
            addresses = [ip for name in case.services for ip in self._addresses()[name]]
            answers = {
                address: _eventually(partial(observe.http_get, host, address))
                for address in addresses
            }
            good = sum(answer.startswith("served by") for answer in answers.values())
            seen = f"{good} of {len(addresses)}: {answers[addresses[0]] or 'no answer'}"
            planned = f"{len(addresses)} addresses {way}"
            verified = good == len(addresses)
            self.add(case.folder, f"HTTP at {host.name}", planned, seen, verified)

    def _take_over(self, case: UseCase) -> None:
        """Kill an owner, and time at the client how long nobody answers."""
        address = next(ip for ip in self._addresses()[case.services[0]] if ":" not in ip)
        (owner,) = self.lab.owners(address)
        takeover = observe.measure_takeover(
            self.lab.client,
            address,
            lambda: self.lab.power_off(owner),
            timeout=TAKEOVER_SECONDS,
        )
        heirs = self.lab.owners(address)
        answered = _eventually(partial(observe.http_get, self.lab.client, address))
        seen = (
            f"{' and '.join(heirs)} answers after {takeover.seconds:.2f} s, HTTP "
            f"{'too' if answered else 'does not'}"
        )
        verified = len(heirs) == 1 and heirs[0] != owner and bool(answered)
        self.add(case.folder, "owner killed", f"{owner} dies, another answers", seen, verified)
        self.lab.power_on(owner)

    def _delete(self, case: UseCase) -> None:
        """Delete the example, and see at the routers that everything is withdrawn."""
        folder = str(self.examples / case.folder)
        self.lab.api.kubectl("delete", "--ignore-not-found", "-f", folder)
        for router in self.lab.routers().values():
            for version in (4, 6):
                try:
                    router.wait_routes(version, set())
                except LabError as error:
                    self.add(case.folder, router.name, "withdrawn", str(error), verified=False)


def _comes_true(condition: Callable[[], bool]) -> bool:
    try:
        return wait_until(condition, AGREE_SECONDS, "agreement", interval=0.2)
    except LabError:
        return False


def _eventually(ask: Callable[[], str]) -> str:
    """The first answer that is not empty; empty when there is none in time."""
    try:
        return wait_until(ask, AGREE_SECONDS, "an answer", interval=0.2)
    except LabError:
        return ""


def find_examples(given: Path | None) -> Path:
    """The folder of the use cases: the one given, or that of the source tree or working folder."""
    package = Path(clarion.__file__).resolve()
    for folder in (given, package.parents[2] / "examples", Path.cwd() / "examples"):
        if folder is not None and (folder / LAST).is_dir():
            return folder.resolve()
    raise LabError("the examples are not here", remedy="give their folder with --examples")


def run_demo(name: str, examples: Path | None, *, stay: bool) -> bool:
    """Build, go through the use cases, show, and remove; whether everything was verified."""
    folder = find_examples(examples)
    console = Console(highlight=False, soft_wrap=False)
    started = CLOCK.monotonic()
    with _interruptible(), Lab(name) as lab:
        standard = StandardLab(lab)
        console.print("lab: 3 nodes, FRR, BIRD, an FRR behind the first, a client; one switch")
        standard.up()
        console.print(f"up after {CLOCK.monotonic() - started:.1f} s; the use cases:")
        demo = Demo(standard, folder, lambda row: console.print(row.text(), markup=False))
        demo.run()
        _show(console, demo, CLOCK.monotonic() - started)
        if stay and demo.verified:
            _stay(console, standard)
    return demo.verified


def _show(console: Console, demo: Demo, seconds: float) -> None:
    """The one screen: all rows, and what the first router and the client see at the end."""
    console.print()
    console.print(screen.results(demo.rows))
    console.print(screen.routes(demo.lab, demo.lab.frr, "FRR's table now"))
    console.print(screen.owners(demo.lab))
    good = sum(row.verified for row in demo.rows)
    verdict = "everything verified" if demo.verified else "NOT everything verified"
    console.print(f"{verdict}: {good} of {len(demo.rows)} rows, {seconds:.0f} s")


def _stay(console: Console, lab: StandardLab) -> None:
    """The live screen, until Ctrl-C."""
    hint = "clarion lab exec HOST COMMAND (in another terminal) · Ctrl-C ends and removes the lab"
    console.print(hint)
    pulse = threading.Event()
    try:
        with Live(console=console, screen=True, auto_refresh=False) as live:
            while True:
                live.update(screen.status(lab), refresh=True)
                pulse.wait(REFRESH_SECONDS)
    except KeyboardInterrupt:
        console.print("the lab is being removed")


@contextmanager
def _interruptible() -> Iterator[None]:
    """SIGTERM ends the run as Ctrl-C does, so that the lab is removed."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        del number, frame
        raise KeyboardInterrupt

    previous = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)
