"""From what FRR runs to what it should run, in the smallest steps that reset nothing needlessly."""

from collections.abc import Iterable, Iterator

import msgspec

from clarion.proto.frr.config import MULTIHOP_TTL, Tree, opens

OWNED = (
    "router bgp ",
    "route-map ",
    "ip prefix-list ",
    "ipv6 prefix-list ",
    "bfd",
    "bgp route-map delay-timer ",
)
"""How the lines begin that are Clarion's alone; every other line of FRR stays as it is."""

COMMUNITY_NAMES = {
    "graceful-shutdown": "65535:0",
    "accept-own": "65535:1",
    "route-filter-translated-v4": "65535:2",
    "route-filter-v4": "65535:3",
    "route-filter-translated-v6": "65535:4",
    "route-filter-v6": "65535:5",
    "llgr-stale": "65535:6",
    "no-llgr": "65535:7",
    "accept-own-nexthop": "65535:8",
    "blackhole": "65535:666",
    "no-export": "65535:65281",
    "no-advertise": "65535:65282",
    "local-AS": "65535:65283",
    "no-peer": "65535:65284",
    "internet": "0:0",
}
"""The words that FRR shows in the place of numbers."""


class Step(msgspec.Struct, frozen=True):
    """One line, and the lines that it stands inside; an empty line only enters the last of them."""

    path: tuple[str, ...]
    line: str

    def __repr__(self) -> str:
        """Leave passwords out, so that no message can hold one by accident."""
        return f"Step({' / '.join((*self.path, masked(self.line)))})"


def masked(line: str) -> str:
    """The line without its password."""
    head, word, _secret = line.partition(" password ")
    return f"{head}{word}***" if word else line


def parse(running: str) -> Tree:
    """Read what `show running-config` prints: what is owned, in the words of `config`."""
    root: Tree = {}
    open_: list[tuple[int, Tree]] = [(-1, root)]
    for raw in running.splitlines():
        line = raw.strip()
        if not line or line[0] in "!%" or line in ("exit", "end", "exit-address-family"):
            continue
        depth = len(raw) - len(raw.lstrip(" "))
        while open_[-1][0] >= depth:
            open_.pop()
        inside: Tree = {}
        open_[-1][1][_canonical(line)] = inside
        open_.append((depth, inside))
    return {line: inside for line, inside in root.items() if line.startswith(OWNED)}


def _canonical(line: str) -> str:
    words = line.split(" ")
    if words[1:2] == ["prefix-list"] and words[3:4] == ["seq"]:
        del words[3:5]  # without the number of an entry it is found by what it says
    elif words[:2] == ["set", "community"]:
        words = [COMMUNITY_NAMES.get(word, word) for word in words]
    elif words[-1] == "ebgp-multihop":
        words.append(str(MULTIHOP_TTL))  # FRR 10 leaves the number out, 8 does not
    return " ".join(words)


def steps(old: Tree, new: Tree) -> list[Step]:
    """The way from `old` to `new`.

    A route-map is there before it is used and goes after, so that a prefix never leaves without its
    attributes. Lists of prefixes, as a predecessor may have left them, go last.
    """
    lists = ("ip prefix-list ", "ipv6 prefix-list ")
    gone = [line for line in old if line not in new]
    come = [line for line in new if not opens(line) and line not in old]
    routers = [line for line in gone if line.startswith("router bgp ")]
    maps = [line for line in gone if line.startswith("route-map ")]
    made = [Step((), line) for line in come]
    made += [Step((), f"no {line}") for line in routers]
    made += _blocks(old, new, "route-map ")
    made += _blocks(old, new, "router bgp ")
    made += [Step((), f"no {line}") for line in maps]
    made += [Step((), f"no {line}") for line in gone if line.startswith(lists)]
    made += _blocks(old, new, "bfd")
    return made


def _blocks(old: Tree, new: Tree, head: str) -> Iterator[Step]:
    for line, inside in new.items():
        if line.startswith(head) and opens(line):
            if not inside and line not in old:
                yield Step((line,), "")
            yield from _inside((line,), old.get(line, {}), inside)


def _inside(path: tuple[str, ...], old: Tree, new: Tree) -> Iterator[Step]:
    """The steps within one block."""
    if path[0].startswith("router bgp "):
        old, removed = _without_lost(old, new)
        yield from (Step(path, line) for line in removed)
    replaced = {_key(line) for line in new}
    for line in old:
        if line.startswith("address-family ") or (line in new and opens(line)):
            continue
        if _key(line) not in replaced:
            yield Step(path, undone(line))
    for line in new:
        if not opens(line) and line not in old:
            yield Step(path, line)
    blocks = {line: None for line in (*old, *new) if opens(line)}
    for line in blocks:
        if line in new or line.startswith("address-family "):
            before, after = old.get(line, {}), new.get(line, {})
            if line not in old and not after:
                yield Step((*path, line), "")
            yield from _inside((*path, line), before, after)


def _without_lost(old: Tree, new: Tree) -> tuple[Tree, list[str]]:
    """What is left of a router without the neighbours that end or must begin anew."""
    lost = {
        target: head
        for target, head in _heads(old).items()
        if _heads(new).get(target) != head or _restarting(old, target) != _restarting(new, target)
    }
    if not lost:
        return old, []

    def kept(tree: Tree) -> Tree:
        return {
            line: kept(inside)
            for line, inside in tree.items()
            if not line.startswith("neighbor ") or line.split(" ")[1] not in lost
        }

    return kept(old), [f"no neighbor {target}" for target in lost]


def _heads(tree: Tree) -> dict[str, str]:
    """Target -> the line that makes it a neighbour."""
    return {line.split(" ")[1]: line for line in tree if _defines(line.split(" "))}


def _defines(words: list[str]) -> bool:
    return words[0] == "neighbor" and words[2] in ("remote-as", "interface")


def _restarting(tree: Tree, target: str) -> bool:
    # FRR offers the capability to a session that begins, and asks for a reset otherwise.
    return f"neighbor {target} graceful-restart" in tree


def undone(line: str) -> str:
    """What takes a line back."""
    return line.removeprefix("no ") if line.startswith("no ") else f"no {line}"


def _key(line: str) -> tuple[str, ...]:
    """Lines with one key replace one another."""
    words = tuple(line.split(" "))
    match words:
        case ("neighbor", _, "timers" | "bfd" as what, "connect" | "profile" as part, *_):
            return (*words[:2], what, part)
        case ("set", "extcommunity", *_):
            return words[:3]
        case ("neighbor", _, "route-map", _, way):
            return (*words[:3], way)
        case ("neighbor", *_):
            return words[:3]
        case ("bgp", "router-id", *_) | ("set", *_):
            return words[:2]
        case ("match", *_):
            return words[:-1]
        case ("network", *_):
            return words[:2]
        case ("profile", *_) | ("address-family", *_):
            return words
    return words[:-1] if words[-1].isdigit() else words


def about(step: Step, names: Iterable[str]) -> str:
    """Which of these names of neighbours a step is about; empty if none.

    Args:
        step: Any step.
        names: Targets, with VRF where there is one, as `config.identity` makes them.
    """
    vrf = next((line.partition(" vrf ")[2] for line in step.path if " vrf " in line), "")
    words = " ".join((*step.path, step.line)).split(" ")
    for name in sorted(names, key=len, reverse=True):
        target = name.removesuffix(f"-{vrf}") if vrf else name
        inside = step.path[:1] and step.path[0].startswith("router bgp ")
        if any(word.startswith(f"{name}-") for word in words) or (inside and target in words):
            return name
    return ""
