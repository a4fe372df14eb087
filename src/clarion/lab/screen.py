"""What the lab puts on the screen: every figure is read from a router, the client or the API."""

from collections.abc import Iterable

from rich import box
from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table

from clarion.lab import views
from clarion.lab.process import LabError
from clarion.lab.routers import Router
from clarion.lab.topology import StandardLab


class Row:
    """One verified statement: what was planned, what was seen, and whether they agree."""

    def __init__(self, case: str, viewer: str, planned: str, seen: str, verified: bool) -> None:
        self.case = case
        self.viewer = viewer
        self.planned = planned
        self.seen = seen
        self.verified = verified

    def text(self) -> str:
        """One line for a pipe."""
        mark = "ok  " if self.verified else "FAIL"
        if self.verified and self.seen == self.planned:
            return f"{mark} {self.case:<29} {self.viewer:<24} {self.seen}"
        return f"{mark} {self.case:<29} {self.viewer:<24} {self.seen}  (planned: {self.planned})"


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, box=box.SIMPLE_HEAD, title_justify="left", pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def results(rows: Iterable[Row]) -> Table:
    """The table of the use cases."""
    columns = ("use case", "seen by", "Clarion plans", "seen", "")
    table = _table(
        "What Clarion plans, beside what the routers and the client really see", *columns
    )
    last = ""
    for row in rows:
        mark = "[green]✓[/]" if row.verified else "[bold red]✗[/]"
        seen = f"[{'green' if row.verified else 'red'}]{escape(row.seen)}[/]"
        case = row.case if row.case != last else ""
        table.add_row(case, row.viewer, escape(row.planned), seen, mark)
        last = row.case
    return table


def routes(lab: StandardLab, router: Router, title: str) -> Table:
    """A router's own BGP table."""
    table = _table(title, "prefix", "next hops", "local pref", "communities")
    view = views.observed_routes(lab, router)
    for prefix, route in view.items():
        local_pref = "" if route.local_pref is None else str(route.local_pref)
        table.add_row(prefix, " ".join(route.via), local_pref, " ".join(route.communities))
    if not view:
        table.add_row("(none)", "", "", "")
    return table


def services(lab: StandardLab) -> list[tuple[str, list[str]]]:
    """Services of type LoadBalancer and their addresses."""
    found = []
    for item in lab.api.items("services", "--all-namespaces"):
        if item["spec"].get("type") == "LoadBalancer":
            balancer = item.get("status", {}).get("loadBalancer", {})
            name = f"{item['metadata']['namespace']}/{item['metadata']['name']}"
            found.append((name, [each["ip"] for each in balancer.get("ingress", [])]))
    return found


def owners(lab: StandardLab) -> Table:
    """Who answers ARP and NDP at the client for each service address."""
    table = _table("Who answers at the client", "service", "address", "answered by")
    for name, addresses in services(lab):
        view = views.observed_owners(lab, addresses)
        for address in addresses:
            table.add_row(name if address == addresses[0] else "", address, view[address])
        if not addresses:
            table.add_row(name, "(pending)", "")
    return table


def sessions(lab: StandardLab) -> Table:
    """BGP sessions as the routers see them."""
    table = _table("BGP sessions at the routers", "router", "neighbour", "state", "prefixes")
    for router in (lab.frr, lab.bird, lab.upstream):
        for address, state in router.neighbors().items():
            mark = "green" if state.established else "dim"
            shown = f"[{mark}]{state.state}[/]"
            who = f"{lab.node_of_next_hop(address)} ({address})"
            table.add_row(router.name, who, shown, str(state.received))
    return table


def status(lab: StandardLab) -> RenderableType:
    """Everything at once, for `clarion lab status` and the live screen."""
    try:
        return Group(
            owners(lab),
            routes(lab, lab.frr, "FRR (192.0.2.1, AS 64512, eBGP)"),
            routes(lab, lab.bird, "BIRD (192.0.2.2, AS 64500, iBGP)"),
            routes(lab, lab.upstream, "FRR behind the first one (AS 64520)"),
            sessions(lab),
        )
    except LabError as error:
        return f"[red]{error}[/]"
