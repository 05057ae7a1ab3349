"""What the system's scheduler allows this process."""

import resource
from pathlib import Path

CAP_SYS_NICE = 23  # the bit in a process's capabilities
NICE_0 = 20  # the resource limit with which a thread may come back to nice 0


def may_come_back() -> bool:
    """Whether a thread that is SCHED_IDLE may be SCHED_OTHER again (sched(7), getrlimit(2))."""
    status = Path("/proc/self/status").read_text()
    held = next(line.split()[1] for line in status.splitlines() if line.startswith("CapEff:"))
    soft, _ = resource.getrlimit(resource.RLIMIT_NICE)
    return bool(int(held, 16) >> CAP_SYS_NICE & 1) or soft == resource.RLIM_INFINITY or soft >= NICE_0
