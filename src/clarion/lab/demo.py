"""`clarion lab demo`: the use cases of `examples/`, one after the other, with real routers.

Nothing on the screen is only planned: a row is verified when the router's own table (or the answer
that arping, ndisc6 and curl got) equals the plan, and the run fails unless every row is.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import msgspec

import clarion
from clarion.lab import observe, outages, views
from clarion.lab.netns import Namespace
from clarion.lab.process import EndedError, LabError, wait_until
from clarion.lab.screen import Row
from clarion.lab.topology import StandardLab

AGREE_SECONDS = 25.0
TAKEOVER_SECONDS = 60.0


class UseCase(msgspec.Struct, frozen=True, kw_only=True):
    """One folder of examples, and who looks at what it does."""

    folder: str
    services: tuple[str, ...]
    routers: tuple[str, ...] = ()
    interfaces: tuple[str, ...] = ()
    router_files: bool = False
    """Whether FRR and BIRD are told something besides, before the example is applied."""


WEB = tuple(f"web-{number}" for number in range(1, 5))
BGP = ("frr", "bird", "upstream")
ADVANCED, INTERFACES, BOTH = "02-advanced-bgp", "07-l2-interfaces", "08-l2-and-bgp"
PRODUCTION = "11-production-bgp"
LOST = "node-a"
VIEWERS = {"frr": "FRR", "bird": "BIRD (iBGP)", "upstream": "FRR behind FRR"}
CASES = (
    UseCase(folder="01-basic-bgp", services=WEB[:2], routers=BGP),
    UseCase(folder=ADVANCED, services=WEB, routers=BGP),
    UseCase(folder="03-nodes-subset", services=WEB[:1], routers=("frr", "bird")),
    UseCase(folder="04-specific-peers", services=WEB[:1], routers=("frr", "bird")),
    UseCase(folder="05-l2", services=WEB[:2], interfaces=("eth0",)),
    UseCase(folder="06-l2-by-labels", services=("web-east", "web-west"), interfaces=("eth0",)),
    UseCase(folder=INTERFACES, services=("web-second", "web-nowhere"), interfaces=("eth0", "eth1")),
    UseCase(folder=BOTH, services=WEB[:2], routers=("frr", "bird"), interfaces=("eth0",)),
    UseCase(folder="09-community-alias", services=WEB[:1], routers=BGP),
    UseCase(
        folder=PRODUCTION,
        services=WEB[:1],
        routers=("frr", "bird"),
        router_files=True,
    ),
)
FINALE = "in use"
MISTAKES = (
    ("pool-misspelt.yaml", "pool-unknown", False),
    ("pools-overlap.yaml", "pool-overlap", True),
    ("alias-unknown.yaml", "alias-unknown", False),
    ("prefix-too-long.yaml", "address-invalid", True),
)


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
        """All use cases; then the services of one are used, spoilt and taken over."""
        # Without root FRR has neither BFD nor routes in the kernel.
        for case in (
            each for each in CASES if self.lab.frr.kernel_protocol or not each.router_files
        ):
            with self._failures(case.folder):
                self._apply(case)
                self._compare(case)
                if case.folder == ADVANCED:
                    self._shrink(case)
                if case.folder == INTERFACES:
                    self._said_so()
                if case.folder == PRODUCTION:
                    self._lose_and_keep(case)
            with self._failures(case.folder):
                self._delete(case)
        case = next(case for case in CASES if case.folder == BOTH)
        with self._failures(FINALE):
            self._apply(case)
            self._use_services(case)
            self._mistakes(case)
            self._take_over(case)

    @contextmanager
    def _failures(self, case: str) -> Iterator[None]:
        """What does not happen in time is a row too; the next case goes on."""
        try:
            yield
        except (LabError, EndedError) as error:
            self.add(case, "", "", str(error), verified=False)

    def _apply(self, case: UseCase) -> None:
        if case.router_files:
            self.lab.frr.load(self.examples / case.folder / "frr.conf")
            self.lab.bird.load(self.examples / case.folder / "bird.conf")
        self.lab.api.kubectl("apply", "-f", str(self.examples / case.folder))
        wait_until(
            lambda: (
                set(case.services) <= {n for n, a in self.lab.addresses().items() if len(a) == 2}
            ),
            AGREE_SECONDS,
            f"{case.folder}: every service has two addresses",
            seen=self.lab.addresses,
        )
        self._await_endpoints(case)

    def _await_endpoints(self, case: UseCase) -> None:
        def ready() -> bool:
            slices = self.lab.api.items("endpointslices", "-n", "default")
            full = [
                each["metadata"]["labels"]["kubernetes.io/service-name"]
                for each in slices
                if all(e["conditions"].get("ready") for e in each.get("endpoints", []))
            ]
            return all(full.count(name) >= 2 for name in case.services)

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
        self, case: UseCase, name: str, planned: views.RouterView, note: str
    ) -> None:
        router = self.lab.routers()[name]
        found: views.RouterView = {}

        def equal() -> bool:
            nonlocal found
            found = views.observed_routes(self.lab, router)
            return found == planned

        agreed = _comes_true(equal)
        plan, seen = (views.summarize_routes(view) or "no route" for view in (planned, found))
        self.add(f"{case.folder}{note}", VIEWERS[name], plan, seen, agreed)

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
        for names, left, note in (
            (WEB[:3], WEB[3:], ", 3 deleted"),
            (WEB[3:], (), ", all deleted"),
        ):
            self.lab.api.kubectl("delete", "service", "-n", "default", *names)
            fewer = msgspec.structs.replace(case, services=left, routers=("frr", "upstream"))
            self._await_endpoints(fewer)
            self._compare(fewer, note)

    def _lose_and_keep(self, case: UseCase) -> None:
        """Weights; then a cable, a speaker and a node that are lost, with FRR as the judge."""
        lab, plan = self.lab, views.live_plan(self.lab)
        planned, found = views.planned_weights(plan, "frr"), views.WeightView()

        def equal() -> bool:
            nonlocal found
            found = views.observed_weights(lab, lab.frr)
            return found == planned

        agreed = _comes_true(equal)
        texts = [views.summarize_weights(view) for view in (planned, found)]
        self.add("weights", "FRR's kernel", texts[0], texts[1], agreed)
        outages.wait_bfd(lab, *lab.nodes)
        address = next(ip for ip in lab.addresses()[case.services[0]] if ":" not in ip)
        seen = outages.restart_speaker(lab, LOST, address)
        self.add("graceful restart", f"{LOST}: kill -9", "FRR keeps its routes", *seen)
        seen = outages.drain(lab, LOST, address)
        self.add("drain", f"{LOST}: cordoned", "FRR prefers the others", *seen)
        # Last: a node that was away is not ready for a moment, and flows are spread anew then.
        seen = outages.pull_cable(lab, LOST)
        self.add("BFD", f"{LOST}: cable pulled", "FRR drops its routes", *seen)

    def _said_so(self) -> None:
        """The chosen node lacks the interface: an event on the service says so."""

        def message() -> str:
            events = self.lab.api.items("events", "-n", "default")
            about = [e for e in events if e["involvedObject"]["name"] == "web-nowhere"]
            texts = [e["message"] for e in about if "node-c" in e["message"]]
            return next((text for text in texts if "eth1" in text), "")

        said = _eventually(message)
        planned = "says that node-c lacks eth1"
        self.add(INTERFACES, "kubectl get events", planned, said or "nothing", bool(said))

    def _delete(self, case: UseCase) -> None:
        """Delete the example, and see at the routers that everything is withdrawn."""
        folder = str(self.examples / case.folder)
        self.lab.api.kubectl("delete", "--ignore-not-found", "-f", folder)
        for router in self.lab.routers().values():
            for version in (4, 6):
                router.wait_routes(version, set())
        if case.router_files:
            for changed in (self.lab.frr, self.lab.bird):
                changed.configure(changed.config)

    def _use_services(self, case: UseCase) -> None:
        """HTTP through every service address, from the segment and from behind the router."""
        lab = self.lab
        ways = [(lab.client, "through the owner")]
        if lab.frr.kernel_protocol:  # without root FRR has no routes in the kernel
            ways.append((lab.upstream_host, "through two routers"))
        for host, way in ways:
            addresses = [ip for name in case.services for ip in self.lab.addresses()[name]]
            answers = {address: _served(host, address) for address in addresses}
            good = [text for text in answers.values() if text.startswith("served by")]
            seen = f"{len(good)} of {len(addresses)}: {good[0] if good else 'no answer'}"
            planned = f"{len(addresses)} addresses answer {way}"
            self.add(FINALE, f"HTTP at {host.name}", planned, seen, len(good) == len(addresses))

    def _mistakes(self, case: UseCase) -> None:
        """Bad manifests: named at their line, refused where it can be known, harmless."""
        before = views.planned_routes(views.live_plan(self.lab), "frr")
        if not _comes_true(lambda: views.observed_routes(self.lab, self.lab.frr) == before):
            raise LabError("FRR has not the routes that mistakes could hurt")
        for file, code, refused in MISTAKES:
            path = str(self.examples / "bad" / file)
            good = str(self.examples / case.folder)
            said = self.lab.api.clarion("validate", "-f", good, "-f", path, check=False)
            line = next((text for text in said.splitlines() if f"[{code}]" in text), "")
            answer = self.lab.api.kubectl("apply", "-f", path, check=False)
            was_refused = code in answer
            kept = views.observed_routes(self.lab, self.lab.frr) == before
            self.lab.api.kubectl("delete", "--ignore-not-found", "-f", path)
            verified = bool(line) and was_refused == refused and kept and bool(before)
            word = {True: "refused", False: "accepted, reported"}
            place = line.rpartition("/")[2].partition(": ")[0] or "not found"
            routes = f"{len(before)} routes stay" if kept else "ROUTES CHANGED"
            seen = f"{word[was_refused]}, {routes}; {place} {code}"
            planned = f"{word[refused]}, {len(before)} routes stay"
            self.add("mistakes", "kubectl, validate", planned, seen, verified)

    def _take_over(self, case: UseCase) -> None:
        """Stop the owner's speaker, then kill the next owner; timed by arping at the client."""
        address = next(ip for ip in self.lab.addresses()[case.services[0]] if ":" not in ip)
        first = _eventually(lambda: _single(self.lab, address))
        if not first:
            raise LabError(f"{address} has no single owner that could be lost")
        self._lose_owner(address, "speaker stopped", self.lab.nodes[first].stop_speaker)
        second = _single(self.lab, address)
        self._lose_owner(address, "node killed", lambda: self.lab.power_off(second))
        self.lab.power_on(second)
        self.lab.nodes[first].start_speaker(self.lab.api.kubeconfig)

    def _lose_owner(self, address: str, how: str, event: Callable[[], object]) -> None:
        client = self.lab.client
        before = _single(self.lab, address)
        takeover = observe.measure_takeover(client, address, event, timeout=TAKEOVER_SECONDS)
        heir = _single(self.lab, address)
        served = _served(client, address)
        seen = (
            f"{heir or 'nobody'} answers ARP for {address} after {takeover.seconds:.2f} s "
            f"(silence {takeover.silence:.2f} s), HTTP {'works' if served else 'does not work'}"
        )
        verified = bool(heir) and heir != before and bool(served)
        self.add("takeover", f"{before}: {how}", "another node answers", seen, verified)


def _single(lab: StandardLab, address: str) -> str:
    """The one node that answers; empty when none does, or several do."""
    found = lab.owners(address)
    return found[0] if len(found) == 1 else ""


def _served(host: Namespace, address: str) -> str:
    return _eventually(partial(observe.http_get, host, address))


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
        if folder is not None and (folder / BOTH).is_dir():
            return folder.resolve()
    raise LabError("the examples are not here", remedy="give their folder with --examples")
