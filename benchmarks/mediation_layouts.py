"""Which sources are measured: how a file of each is written and by which profile it is read."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from benchmarks.mediation_calls import Call
from benchmarks.mediation_csv import (
    acme_start,
    acme_stop,
    asterisk,
    cucm,
    cucm_head,
    delimited,
    freeswitch_csv,
    sonus,
    sonus_start,
)
from benchmarks.mediation_json import freeswitch_event, freeswitch_json, graph_pstn, kamailio, opensips

EXAMPLES = Path(__file__).resolve().parents[1] / "docs" / "sources"
ASTERISK = """
source = "asterisk-csv"
switch = "pbx1"
zone = "Europe/London"
[tenants]
same = true
[users]
column = "channel-peer"
[numbers]
country_code = "44"
national = "0"
international = ["00"]
access = ["9"]
emergency = ["999"]
[call_types]
by = "dcontext"
[call_types.map]
from-internal = "user_out"
from-trunk = "user_in"
[asterisk]
layout = "newcolumns-21"
"""
GRAPH = 'source = "graph-pstn"\ntenant = "contoso"\n'


@dataclass(frozen=True, slots=True)
class Layout:
    """How one source's file is written, and by which profile it is read: an example of the documentation, or a text."""

    source: str
    write: Callable[[Call], bytes]
    profile: str = ""
    head: Callable[[], bytes] | None = None
    start: Callable[[Call], bytes] | None = None
    delimiter: str = ""  # "" for JSON
    goal_per_s: int = 0


CSV_GOAL = 30_000
JSON_GOAL = 10_000
LAYOUTS_MEASURED: Mapping[str, Layout] = MappingProxyType(
    {
        "asterisk-csv": Layout("asterisk-csv", asterisk, ASTERISK, delimiter=",", goal_per_s=CSV_GOAL),
        "freeswitch-csv": Layout("freeswitch-csv", freeswitch_csv, delimiter=",", goal_per_s=CSV_GOAL),
        "cucm": Layout("cucm", cucm, head=cucm_head, delimiter=",", goal_per_s=CSV_GOAL),
        "acme": Layout("acme", acme_stop, delimiter=",", goal_per_s=CSV_GOAL),
        "acme, start and stop": Layout("acme", acme_stop, start=acme_start, delimiter=",", goal_per_s=CSV_GOAL),
        "sonus": Layout("sonus", sonus, delimiter=",", goal_per_s=CSV_GOAL),
        "sonus, start and stop": Layout("sonus", sonus, start=sonus_start, delimiter=",", goal_per_s=CSV_GOAL),
        "delimited": Layout("delimited", delimited, delimiter=";", goal_per_s=CSV_GOAL),
        "freeswitch-json": Layout("freeswitch-json", freeswitch_json, goal_per_s=JSON_GOAL),
        "freeswitch-event": Layout("freeswitch-event", freeswitch_event),
        "kamailio": Layout("kamailio", kamailio),
        "opensips": Layout("opensips", opensips),
        "graph-pstn": Layout("graph-pstn", graph_pstn, GRAPH),
    }
)


def written(layout: Layout, calls: list[Call]) -> bytes:
    """The file of these calls. Starts stand among the stops where the call began, as a switch writes them."""
    lines = [] if layout.head is None else [layout.head().removesuffix(b"\n")]
    if layout.start is None:
        lines += [layout.write(call) for call in calls]
    else:
        timed = [(call.end_ms, call.place, layout.write(call)) for call in calls]
        timed += [(call.start_ms, call.place, layout.start(call)) for call in calls if call.answer_ms is not None]
        lines += [line for _, _, line in sorted(timed)]
    return b"\n".join(lines) + b"\n"
