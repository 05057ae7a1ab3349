"""`rater balance`: wallet, lots, pools, licences, recharge and recent events of one tenant, read from a state file."""

from pathlib import Path
from typing import Any

import orjson

from rater.core.plans import parse_plans
from rater.doors.accounts import account_object, account_row
from rater.doors.files.outputs import EVENTS
from rater.doors.files.store import Store

EVENTS_SHOWN = 10
EVENT_BYTES_READ = 4 << 20


class UnknownTenant(Exception):
    """The state holds no such tenant."""


def recent_events(store: Store, tenant: str) -> list[dict[str, Any]]:
    """The tenant's last events, newest first, from the end of the committed event files."""
    needle = orjson.dumps(tenant)
    found: list[dict[str, Any]] = []
    for out, folder in sorted(store.out_paths().items(), reverse=True):
        length = store.lengths(out).get(EVENTS, 0)
        path = folder / EVENTS
        if not length or not path.exists():
            continue
        with path.open("rb") as stream:
            start = max(0, length - EVENT_BYTES_READ)
            stream.seek(start)
            lines = stream.read(length - start).split(b"\n")
        for line in reversed(lines[1:] if start else lines):
            if needle in line:
                event = orjson.loads(line)
                if event["subject"] == tenant:
                    found.append({"time": event["time"], "type": event["type"], "data": event["data"]})
            if len(found) == EVENTS_SHOWN:
                return found
    return found


def balance(path: Path, tenant: str) -> dict[str, Any]:
    """`rater balance --json`"""
    store = Store(path, read_only=True)
    try:
        state = store.load_state()
        row = account_row(state, tenant)
        if row < 0:
            raise UnknownTenant(f"{path}: no tenant '{tenant}'; it begins with a command tenant.opened")
        plans = parse_plans(store.text("plans", store.meta("plans")).decode(), "plans")
        return account_object(state, row, plans) | {"recent_events": recent_events(store, tenant)}
    finally:
        store.close()
