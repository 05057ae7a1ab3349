"""Each planted bug with the fault that should bring it to light, and what caught it: the checker, or a worker's witnesses."""

import json
import re
import time
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from tests.kafka import chaos_faults as faults
from tests.kafka.chaos import Ground
from tests.kafka.chaos_faults import Fault
from tests.kafka.chaos_scene import Scene, scene
from tests.kafka.planted import PLANTED
from tests.kafka.proxy import Api

ATTEMPTS = 6
STOPPED = re.compile(r"partition \d+: stopped: (partition \d+: .*|.*: the watermark counts .*)")


def late_commit(found: Scene) -> list[faults.Injection]:
    return faults.on_the_way(found, Api.END_TXN, cut=True, late=True)


def stale_snapshot(found: Scene) -> list[faults.Injection]:
    return faults.snapshots_spoiled(found, "stale")


def zombie_between_offsets_and_commit(found: Scene) -> list[faults.Injection]:
    return faults.zombie_at(found, "after-offsets")


def nothing(_: Scene) -> list[faults.Injection]:
    """Load is enough."""
    time.sleep(4.0)
    return []


EXPOSED_BY: dict[str, Fault] = {
    "no_fencing": zombie_between_offsets_and_commit,
    "no_new_producer_after_a_silent_retry": late_commit,
    "stale_snapshot_trusted": stale_snapshot,
    "no_deduplication": nothing,
    "float_money": nothing,
    "alarm_on_level": nothing,
    "pools_written_once": nothing,
}
AT_REST = {"pools_written_once"}  # only the last reading compares what these spoil


OF_THE_OLDER_PROTOCOL = {"no_new_producer_after_a_silent_retry"}


def caught(found: Scene) -> list[str]:
    """The invariants that the checker found broken, and the sentence of the first partition that stopped."""
    told = sorted({violation.invariant for violation in found.watch.violations})
    logs = "".join(path.read_text("utf-8", "replace") for path in sorted(found.deployment.folder.glob("worker-*.log")))
    stopped = STOPPED.search(logs)
    return told + ([f"witness: {stopped[1]}"] if stopped else [])


def catch(on: Ground, bug: str, seed: int) -> dict[str, Any]:
    begun = time.monotonic()
    fault = EXPOSED_BY.get(bug, faults.random_kills)
    found_by: list[str] = []
    attempts = 0
    with scene(on.kafka, on.nursery, on.decks, on.folder / f"planted-{bug}", seed, name=f"{bug.replace('_', '-')}-{seed}",
               proxied=fault is late_commit, workers=2, planted=bug, version=1 if bug in OF_THE_OLDER_PROTOCOL else 2) as found:  # fmt: skip
        found.fleet.wait_running(found.partitions, 30.0)
        time.sleep(1.0)
        while not found_by and attempts < (1 if bug in AT_REST else ATTEMPTS):
            attempts += 1
            fault(found)
            deadline = time.monotonic() + (0.0 if bug in AT_REST else 8.0)
            while not (found_by := caught(found)) and time.monotonic() < deadline:
                time.sleep(0.3)
        if not found_by:
            found.load.end()
            found.watch.settle(20.0)
            found.watch.finish()
            found_by = caught(found)
    return {"bug": bug, "fault": fault.__name__, "attempts": attempts, "caught": bool(found_by), "by": found_by,
            "seconds": round(time.monotonic() - begun)}  # fmt: skip


def catch_all(on: Ground, bugs: Sequence[str], seed: int, console: Console, as_json: bool) -> int:
    table = Table("planted bug", "exposed by", "caught by", "s", title="Planted bugs")
    found = []
    for bug in bugs or PLANTED:
        found.append(told := catch(on, bug, seed))
        by = "; ".join(told["by"]) or "[red]nothing[/red]"
        table.add_row(bug, f"{told['fault']} x {told['attempts']}", by[:160], str(told["seconds"]))
        console.print(f"{bug}: {by}", highlight=False, soft_wrap=True)
    console.print(table)
    count = sum(told["caught"] for told in found)
    console.print(f"{count} of {len(found)} caught")
    if as_json:
        print(json.dumps(found, indent=1))
    return 0 if count == len(found) else 1
