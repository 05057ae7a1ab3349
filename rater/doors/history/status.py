"""Where a history stands: its feeds, the place to read next of each partition, how much it holds, what was set aside."""

from typing import Any

from rater.core.instants import instant_text
from rater.doors.history.show import show, table
from rater.doors.history.store import Store


def status(store: Store) -> dict[str, Any]:
    """`rater history status --json`"""
    with store.reading() as read:
        positions = read(
            "select f.kind, f.name, p.topic, p.part, p.place from positions p join feeds f on f.feed = p.feed order by 1, 2, 3, 4",
            (),
        )
        calls, first_ms, last_ms = read("select count(*), min(start_ms), max(start_ms) from calls", ())[0]
        events = read("select count(*) from events", ())[0][0]
        tenants = read("select count(distinct tenant) from tenants", ())[0][0]
        aside = read("select topic, part, place, reason from aside order by feed, topic, part, place limit 100", ())
        set_aside = read("select count(*) from aside", ())[0][0]
    return {
        "history": store.name,
        "calls": calls,
        "events": events,
        "tenants": tenants,
        "first_start": None if first_ms is None else instant_text(first_ms),
        "last_start": None if last_ms is None else instant_text(last_ms),
        "positions": [
            {"feed": f"{kind}:{name}", "topic": topic, "partition": part, "offset": place}
            for kind, name, topic, part, place in positions
        ],
        "set_aside": set_aside,
        "aside": [
            {"topic": topic, "partition": part, "offset": place, "reason": reason}
            for topic, part, place, reason in aside
        ],
    }


def show_status(told: dict[str, Any]) -> None:
    places = table("Read up to", "feed", "topic", "partition", "next", numbers="partition,next")
    for one in told["positions"]:
        places.add_row(one["feed"], one["topic"], str(one["partition"]), f"{one['offset']:,}")
    between = f", started {told['first_start']} to {told['last_start']}" if told["calls"] else ""
    show(
        f"{told['history']}: {told['calls']:,} calls{between}; {told['events']:,} events; {told['tenants']:,} tenants.",
        places,
    )
    if told["set_aside"]:
        rows = table(
            f"Set aside: {told['set_aside']:,} lines that are no rows", "topic", "partition", "place", "reason"
        )
        for one in told["aside"]:
            rows.add_row(one["topic"], str(one["partition"]), f"{one['offset']:,}", one["reason"])
        show(rows)
