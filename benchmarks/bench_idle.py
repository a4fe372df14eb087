"""What each program costs while nothing happens: processor time over 30 s, and memory.

`python benchmarks/bench_idle.py` as root. The standard lab runs with one of its examples, two
services announced by layer 2 and BGP; nobody writes or asks.
"""

import os

from clarion.lab.demo import find_examples
from clarion.lab.netns import Lab
from clarion.lab.process import CLOCK, pause, wait_until
from clarion.lab.topology import StandardLab
from clarion.testing.figures import child_of, cpu, memory

SECONDS = 30.0
PERCENT_MAX, MEGABYTES_MAX = 1.0, 80.0
COLUMNS = "{:<24} {:>9} {:>8} {:>8}   {}"


def programs(lab: StandardLab) -> dict[str, int]:
    """Process ids by program."""
    assert lab.api.api is not None
    assert lab.api.controller is not None
    found = {"apiserver": lab.api.api.pid, "controller": lab.api.controller.pid}
    for node in lab.nodes.values():
        assert node.speaker is not None
        found[f"{node.name} speaker"] = node.speaker.pid
        found[f"{node.name} pulse"] = child_of(node.speaker.pid)
    return found


def settled(lab: StandardLab) -> None:
    """Until the router has the routes and the first announcements were repeated."""
    wait_until(lambda: len(lab.frr.learned(4)) == 2, 30, "two routes at the router")
    pids = programs(lab)

    def resting() -> bool:
        before = {name: cpu(pid) for name, pid in pids.items()}
        pause(1.0)
        return all(cpu(pid) - before[name] < 0.02 for name, pid in pids.items())

    wait_until(resting, 60, "all programs rest")


def main() -> None:
    """Build, wait, measure, remove."""
    if os.geteuid() != 0:
        print("needs root: network namespaces and raw sockets")
        return
    with Lab("bench-idle") as made:
        lab = StandardLab(made)
        lab.up()
        lab.api.kubectl("apply", "-f", str(find_examples(None) / "08-l2-and-bgp"))
        settled(lab)
        pids = programs(lab)
        before = {name: cpu(pid) for name, pid in pids.items()}
        began = CLOCK.monotonic()
        pause(SECONDS)
        elapsed = CLOCK.monotonic() - began
        print(COLUMNS.format("program", "processor", "RSS", "PSS", ""))
        for name, pid in pids.items():
            percent = 100 * (cpu(pid) - before[name]) / elapsed
            rss, pss = memory(pid)
            good = percent < PERCENT_MAX and rss < MEGABYTES_MAX
            bound = f"bound {PERCENT_MAX:g} %, {MEGABYTES_MAX:g} MB: {'held' if good else 'BROKEN'}"
            bound = "" if name == "apiserver" else bound
            print(COLUMNS.format(name, f"{percent:.2f} %", f"{rss:.1f} MB", f"{pss:.1f} MB", bound))


if __name__ == "__main__":
    main()
