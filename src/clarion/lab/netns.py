"""Network namespaces, cables and switches, removed at the end even after a crash.

A `Lab` writes down every namespace, process and folder that it makes (`journal.jsonl` in its run
folder), so whoever comes later under the same name can remove exactly that and nothing else.
"""

import fcntl
import json
import os
import re
import shutil
import signal
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from subprocess import CompletedProcess
from types import TracebackType
from typing import Any, Self

from clarion.lab.process import LabError, Process, end_pid, run, start_ticks, wait_until

NETNS_DIR = Path("/run/netns")
PREFIX = "clarion"
NAME = re.compile(r"[a-z][a-z0-9-]{0,30}")
IFNAME_MAX = 15

# Quiet, predictable hosts: no duplicate address detection, no addresses made of what a router
# advertises, no redirects, no reverse-path refusals.
HOST_SYSCTLS = (
    "net.ipv6.conf.all.disable_ipv6=0",
    "net.ipv6.conf.default.disable_ipv6=0",
    "net.ipv6.conf.all.accept_dad=0",
    "net.ipv6.conf.default.accept_dad=0",
    "net.ipv6.conf.all.autoconf=0",
    "net.ipv6.conf.default.autoconf=0",
    "net.ipv6.conf.all.router_solicitations=0",
    "net.ipv6.conf.default.router_solicitations=0",
    "net.ipv4.conf.all.rp_filter=0",
    "net.ipv4.conf.default.rp_filter=0",
    "net.ipv4.conf.all.send_redirects=0",
    "net.ipv4.conf.default.send_redirects=0",
    "net.ipv4.conf.all.accept_redirects=0",
    "net.ipv4.conf.default.accept_redirects=0",
    "net.ipv6.conf.all.accept_redirects=0",
    "net.ipv6.conf.default.accept_redirects=0",
)
FORWARDING_SYSCTLS = (
    "net.ipv4.ip_forward=1",
    "net.ipv6.conf.all.forwarding=1",
    "net.ipv4.fib_multipath_hash_policy=1",
    "net.ipv6.fib_multipath_hash_policy=1",
)


def default_base() -> Path:
    """Folder that holds the run folders of this user's labs."""
    if os.geteuid() == 0 and os.access("/run", os.W_OK):
        return Path("/run/clarion-lab")
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    parent = Path(runtime) if runtime else Path(tempfile.gettempdir())
    return parent / f"clarion-lab-{os.getuid()}"


class Namespace:
    """One host of the lab: a network namespace with loopback up."""

    def __init__(self, lab: "Lab", name: str) -> None:
        self.lab = lab
        self.name = name
        self.full_name = lab.full_name(name)
        self.processes: list[Process] = []

    def create(self, *, forwarding: bool = False) -> None:
        """Make the namespace, with the settings of a quiet host (or of one that forwards)."""
        run(["ip", "netns", "add", self.full_name])
        self.ip("link", "set", "lo", "up")
        self.sysctl(*HOST_SYSCTLS, *(FORWARDING_SYSCTLS if forwarding else ()))

    def enter(self, argv: Sequence[str]) -> list[str]:
        """The command line that runs `argv` inside this namespace."""
        return ["ip", "netns", "exec", self.full_name, *argv]

    def run(
        self,
        argv: Sequence[str],
        *,
        check: bool = True,
        timeout: float = 30.0,
        stdin: str | None = None,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
    ) -> CompletedProcess[str]:
        """Run a program inside to its end."""
        return run(self.enter(argv), check=check, timeout=timeout, stdin=stdin, env=env, cwd=cwd)

    def json(self, argv: Sequence[str], *, timeout: float = 30.0) -> Any:
        """Run a program inside and decode the JSON that it prints; nothing printed is None."""
        text = self.run(argv, timeout=timeout).stdout
        if not text.strip():
            return None
        try:
            return json.loads(text)
        except ValueError as error:
            raise LabError(f"{' '.join(argv)}: not JSON: {text[:200]!r}") from error

    def popen(
        self,
        argv: Sequence[str],
        *,
        log: Path | str | None = None,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
    ) -> Process:
        """Start a program inside; a relative `log` is put into the lab's log folder."""
        path = None if log is None else self.lab.logs / log
        process = Process(self.enter(argv), log=path, env=env, cwd=cwd)
        self.lab.record("process", pid=process.pid, ticks=process.ticks, argv0=str(argv[0]))
        self.processes.append(process)
        return process

    def ip(self, *words: str) -> CompletedProcess[str]:
        """`ip -n NAMESPACE ...`."""
        return run(["ip", "-n", self.full_name, *words])

    def ip_json(self, *words: str) -> list[dict[str, Any]]:
        """`ip -j -n NAMESPACE ...`, decoded."""
        text = run(["ip", "-j", "-n", self.full_name, *words]).stdout
        decoded: list[dict[str, Any]] = json.loads(text or "[]")
        return decoded

    def sysctl(self, *settings: str) -> None:
        """Set kernel parameters (`name=value`) of this namespace."""
        self.run(["sysctl", "-q", "-w", *settings])

    def add_address(self, interface: str, address: str) -> None:
        """Add `address/length`; IPv6 without duplicate address detection, so usable at once."""
        nodad = ["nodad"] if ":" in address else []
        self.ip("address", "add", address, "dev", interface, *nodad)

    def remove_address(self, interface: str, address: str) -> None:
        """Remove `address/length`."""
        self.ip("address", "del", address, "dev", interface)

    def add_route(self, prefix: str, *, via: str | None = None, dev: str | None = None) -> None:
        """Add or replace a route; the family follows from the text."""
        where = [*(("via", via) if via else ()), *(("dev", dev) if dev else ())]
        family = "-6" if ":" in prefix + (via or "") else "-4"
        run(["ip", family, "-n", self.full_name, "route", "replace", prefix, *where])

    def mac(self, interface: str) -> str:
        """Hardware address of an interface."""
        return str(self.ip_json("link", "show", "dev", interface)[0]["address"])

    def addresses(self, interface: str | None = None) -> list[str]:
        """Addresses (`a/len`) except link-local ones and loopback's."""
        words = ["address", "show", *(["dev", interface] if interface else [])]
        return [
            f"{entry['local']}/{entry['prefixlen']}"
            for link in self.ip_json(*words)
            for entry in link.get("addr_info", [])
            if entry["scope"] == "global"
        ]

    def link_local(self, interface: str) -> str:
        """The IPv6 link-local address of an interface."""
        for link in self.ip_json("-6", "address", "show", "dev", interface, "scope", "link"):
            for entry in link.get("addr_info", []):
                return str(entry["local"])
        raise LabError(f"{self.name}: {interface} has no link-local address")

    def pids(self) -> list[int]:
        """Processes inside: what the lab started, and their children."""
        done = run(["ip", "netns", "pids", self.full_name], check=False)
        return [int(word) for word in done.stdout.split()]

    def kill_all(self) -> None:
        """SIGKILL everything that runs inside: the host loses its power."""
        for pid in self.pids():
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        for process in self.processes:
            process.wait()
        self.processes.clear()
        wait_until(lambda: not self.pids(), 5, f"{self.name}: all processes gone", interval=0.01)

    def stop_all(self, grace: float = 3.0) -> None:
        """End what was started here, last first, then whatever children are left."""
        for process in reversed(self.processes):
            process.signal(signal.SIGTERM)
        for process in reversed(self.processes):
            process.stop(grace)
        self.processes.clear()
        for pid in self.pids():
            ticks = start_ticks(pid)
            if ticks is not None:
                end_pid(pid, ticks, grace=1.0)

    def delete(self) -> None:
        """End everything inside and remove the namespace."""
        self.stop_all()
        run(["ip", "netns", "del", self.full_name], check=False)


class Port:
    """A cable between a host's interface and a port of a switch."""

    def __init__(self, switch: "Switch", host: Namespace, interface: str, port: str) -> None:
        self.switch = switch
        self.host = host
        self.interface = interface
        self.name = port

    def unplug(self) -> None:
        """Cut silently: the host keeps its carrier, nothing passes."""
        self.switch.namespace.ip("link", "set", self.name, "nomaster")

    def plug(self) -> None:
        """Undo `unplug`."""
        self.switch.namespace.ip("link", "set", self.name, "master", self.switch.bridge)

    def carrier(self, up: bool) -> None:
        """Take the far end down or up, so that the host sees its carrier go or come."""
        self.switch.namespace.ip("link", "set", self.name, "up" if up else "down")


class Switch:
    """An Ethernet switch: a bridge alone in its namespace, no STP, no multicast snooping."""

    bridge = "br0"

    def __init__(self, namespace: Namespace) -> None:
        self.namespace = namespace
        self.ports: dict[tuple[str, str], Port] = {}

    def create(self) -> None:
        """Make the bridge."""
        namespace = self.namespace
        options = ["stp_state", "0", "forward_delay", "0", "mcast_snooping", "0"]
        namespace.ip("link", "add", self.bridge, "type", "bridge", *options)
        namespace.ip("link", "set", self.bridge, "up")

    def attach(
        self, host: Namespace, interface: str = "eth0", addresses: Sequence[str] = ()
    ) -> Port:
        """Plug a new interface of `host` into a new port, up and with these addresses."""
        port = self.known(host, interface)
        cable(host, interface, self.namespace, port.name)
        port.plug()
        for address in addresses:
            host.add_address(interface, address)
        return port

    def known(self, host: Namespace, interface: str = "eth0") -> Port:
        """Take note of the port of a host's interface; its name follows from the host's."""
        name = f"p-{host.name}" if interface == "eth0" else f"p-{host.name}-{interface}"
        if len(name) > IFNAME_MAX:
            name = f"p{len(self.ports)}-{host.name}"[:IFNAME_MAX]
        port = Port(self, host, interface, name)
        self.ports[host.name, interface] = port
        return port

    def port(self, host: str, interface: str = "eth0") -> Port:
        """The port that a host's interface is plugged into."""
        return self.ports[host, interface]


def cable(host_a: Namespace, interface_a: str, host_b: Namespace, interface_b: str) -> None:
    """A veth pair between two namespaces, both ends up."""
    ends = ["name", interface_a, "netns", host_a.full_name, "type", "veth"]
    peer = ["peer", "name", interface_b, "netns", host_b.full_name]
    run(["ip", "link", "add", *ends, *peer])
    host_b.ip("link", "set", interface_b, "up")
    host_a.ip("link", "set", interface_a, "up")


class Lab:
    """Namespaces, processes and folders under one name; a context manager that removes them.

    With `attach` nothing is made or removed: it is a way to look at a lab that runs already.
    """

    def __init__(self, name: str, base: Path | None = None, *, attach: bool = False) -> None:
        if not NAME.fullmatch(name):
            raise LabError(
                f"lab name {name!r}: lower-case letters, digits and hyphens, up to 31 characters"
            )
        self.name = name
        self.base = base if base is not None else default_base()
        self.run_dir = self.base / name
        self.logs = self.run_dir / "logs"
        self.namespaces: dict[str, Namespace] = {}
        self._lock: int | None = None
        if attach:
            for entry in journal_entries(self.run_dir):
                if entry["kind"] == "namespace":
                    host = entry["name"].removeprefix(self.full_name(""))
                    self.namespaces[host] = Namespace(self, host)
        else:
            self._open_run_dir()

    def _open_run_dir(self) -> None:
        """Take the run folder; what a dead lab of the same name left is removed first."""
        self.run_dir.mkdir(parents=True, exist_ok=True, mode=0o755)
        lock = os.open(self.run_dir / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(lock)
            raise LabError(
                f"a lab named {self.name!r} is in use by another process",
                remedy="end that one, or give this one another name",
            ) from error
        remove_stale(self.run_dir)
        self._lock = lock
        self.logs.mkdir()
        self.record("owner", pid=os.getpid(), ticks=start_ticks(os.getpid()) or 0)

    def full_name(self, host: str) -> str:
        """System-wide name of a host's namespace."""
        return f"{PREFIX}-{self.name}-{host}"

    def record(self, kind: str, **facts: str | int) -> None:
        """Write down something that must be removed later."""
        line = json.dumps({"kind": kind, **facts})
        with (self.run_dir / "journal.jsonl").open("a", encoding="utf-8") as journal:
            journal.write(line + "\n")

    def namespace(self, name: str, *, forwarding: bool = False) -> Namespace:
        """Make a host."""
        if name in self.namespaces:
            raise LabError(f"lab {self.name}: there is a host {name!r} already")
        self.record("namespace", name=self.full_name(name))
        namespace = Namespace(self, name)
        namespace.create(forwarding=forwarding)
        self.namespaces[name] = namespace
        return namespace

    def remove_namespace(self, name: str) -> None:
        """Remove a host before the lab ends."""
        self.namespaces.pop(name).delete()

    def switch(self, name: str = "sw") -> Switch:
        """Make a switch."""
        made = Switch(self.namespace(name))
        made.create()
        return made

    def folder(self, path: Path, *, mode: int = 0o755) -> Path:
        """Make a folder outside the run folder (daemons with fixed places); removed at the end."""
        self.record("folder", path=str(path))
        path.mkdir(parents=True, mode=mode)
        return path

    def close(self) -> None:
        """Remove everything; the run folder too."""
        for namespace in reversed(self.namespaces.values()):
            namespace.stop_all()
        self.namespaces.clear()
        remove_stale(self.run_dir)
        shutil.rmtree(self.run_dir, ignore_errors=True)
        self._release()

    def leave(self) -> None:
        """Let go of the run folder without removing anything (`lab up` ends, the lab stays)."""
        self.record("kept")
        self._release()

    def _release(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def journal_entries(run_dir: Path) -> Iterator[dict[str, Any]]:
    """What a lab wrote down; a last line cut by a crash is passed over."""
    try:
        text = (run_dir / "journal.jsonl").read_text(encoding="utf-8")
    except OSError:
        return
    for line in text.splitlines():
        try:
            yield json.loads(line)
        except ValueError:
            continue


def remove_stale(run_dir: Path) -> None:
    """Remove what the journal of a run folder names, and the folder's contents except its lock."""
    entries = list(journal_entries(run_dir))
    for entry in reversed(entries):
        if entry["kind"] == "process":
            end_pid(entry["pid"], entry["ticks"], grace=2.0)
    for entry in reversed(entries):
        if entry["kind"] == "namespace" and (NETNS_DIR / entry["name"]).exists():
            _end_inside(entry["name"])
            run(["ip", "netns", "del", entry["name"]], check=False)
        elif entry["kind"] == "folder":
            shutil.rmtree(entry["path"], ignore_errors=True)
    for child in run_dir.iterdir():
        if child.name == "lock":
            continue
        if child.is_dir() and not child.is_symlink():
            shutil.rmtree(child, ignore_errors=True)
        else:
            child.unlink(missing_ok=True)


def _end_inside(full_name: str) -> None:
    """End what still runs in a namespace that a journal names as ours."""
    for word in run(["ip", "netns", "pids", full_name], check=False).stdout.split():
        ticks = start_ticks(int(word))
        if ticks is not None:
            end_pid(int(word), ticks, grace=1.0)


def sweep(base: Path | None = None, *, prefix: str = "") -> list[str]:
    """Remove the labs named `prefix...` whose owner crashed; gives their names."""
    folder = base if base is not None else default_base()
    removed = []
    for run_dir in sorted(folder.glob(f"{prefix}*")) if folder.is_dir() else []:
        entries = {entry["kind"]: entry for entry in journal_entries(run_dir)}
        owner = entries.get("owner")
        if owner is None or "kept" in entries or start_ticks(owner["pid"]) == owner["ticks"]:
            continue
        try:
            lab = Lab(run_dir.name, base)
        except LabError:
            continue
        lab.close()
        removed.append(run_dir.name)
    return removed
