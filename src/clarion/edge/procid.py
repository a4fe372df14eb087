"""Names of processes that are unique among all that ever ran, and tell of one that it has ended.

The kernel's name of its present run is one part of them.
"""

import os
import socket
from pathlib import Path


def own_identity() -> str:
    """The name of this process: host, boot and process namespace, process id and start time."""
    pid = os.getpid()
    return f"{socket.gethostname()}_{_world()}_{pid}_{_start_ticks(pid)}"


def has_ended(identity: str) -> bool:
    """Whether a process is known to have ended: it ran in this very world, and is not there.

    Of a process elsewhere (another machine, boot or container) nothing is known. One that is
    stopped has not ended.
    """
    parts = identity.rsplit("_", 3)
    if (
        len(parts) != 4
        or parts[1] != _world()
        or not (parts[2].isdecimal() and parts[3].isdecimal())
    ):
        return False
    pid, ticks = int(parts[2]), int(parts[3])
    try:
        os.kill(pid, 0)  # asks only: no signal is sent
    except ProcessLookupError:
        return True
    except OSError:  # another user's, of which nothing more may be seen
        return False
    return _start_ticks(pid) not in (0, ticks)


def boot_id() -> str:
    """The name of this run of the kernel; after a reboot it is another one."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def _world() -> str:
    """Where process ids mean the same: this boot of the kernel, and this process namespace."""
    return f"{boot_id()}-{Path('/proc/self/ns/pid').stat().st_ino}"


def _start_ticks(pid: int) -> int:
    """Start of a process in clock ticks since boot (proc_pid_stat(5)); 0 if it cannot be told."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except OSError:
        return 0
    return int(stat.rpartition(")")[2].split()[19])
