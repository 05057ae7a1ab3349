"""Inputs to be interrupted: what a run is given, how often it commits, and everything a person sees of what came out."""

import gzip
import json
import shutil
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from rater.doors.files.balance import balance
from rater.doors.files.outbox import OUTBOX
from rater.doors.files.outputs import OUTPUTS
from rater.doors.files.store import Store
from tests.faults.processes import Ended
from tests.workbench import Rates, call_record

KEY = bytes(range(16)).hex()
TENANTS = ("contoso", "fabrikam", "adatum")


def rates() -> Rates:
    return Rates(
        outbound=[
            "1,United States,US,,0.0205,,,,,,",
            "44,United Kingdom,GB,,0.01,0.02,,30,6,,",
            "449,,GB,premium,1.5,,,,,,",
        ],
        inbound=["US,toll_free,*,0.022,", "US,toll_free,CA,0.033,0.01"],
        plans=["MCOPSTN1,US,5,0,", "MCOPSTN8,US,3,0,", "MCOPSTN2,GB,6,4,"],
    )


def commands() -> list[bytes]:
    """Three tenants; balances so low that lots empty, expire and are asked for, in the commands and in the calls."""
    lines: list[dict[str, Any]] = []

    def give(tenant: str, kind: str, at: str = "2026-11-01T00:00:00Z", **fields: Any) -> None:
        lines.append({"command_id": f"c{len(lines)}", "tenant": tenant, "type": kind, "at": at, "by": "ops", **fields})

    for tenant in TENANTS:
        mode = "post_usage" if tenant == "adatum" else "prepaid"
        give(tenant, "tenant.opened", country="US", currency="USD", billing_mode=mode, overage=tenant == "adatum")
        give(tenant, "recharge.configured", enabled=tenant != "adatum", trigger_micros=200_000, amount_micros=150_000)
        give(tenant, "licence.assigned", user="u", plan="MCOPSTN1", country="US")
        give(tenant, "licence.assigned", user="u", plan="MCOPSTN1", country="US")  # already_assigned
        give(tenant, "licence.assigned", user="v", plan="MCOPSTN8", country="US")
        give(tenant, "number.assigned", number="+18005550199", number_type="toll_free", country="US")
        for k in range(4):
            give(
                tenant,
                "funds.added",
                lot_id=f"lot-{k}",
                amount_micros=60_000 + k,
                expires_at=f"2026-11-{3 + k:02d}T12:00:00Z",
            )
        give(tenant, "funds.added", at="2026-11-01T00:00:01Z", lot_id="short", amount_micros=5_000_000,
             expires_at="2026-11-02T03:00:00Z")  # fmt: skip
        give(tenant, "account.adjusted", amount_micros=-30_000, reason="goodwill")
        for k in range(0, 44, 4):  # calls that come, that go on, and one whose hold expires
            give(tenant, "call.authorize", at="2026-11-01T00:00:02Z", call_id=f"c{k}", call_type="user_out", user="u",
                 callee="+12125550123", seconds=600, hold_seconds=60 if k == 8 else 172_800)  # fmt: skip
        give(tenant, "clock.ticked", at="2026-11-01T00:10:00Z")
    lines.append({"command_id": "x", "tenant": "nobody", "type": "clock.ticked", "at": "2026-11-01T00:00:00Z"})
    raws = [orjson.dumps(line) for line in lines]
    return [*raws[:7], raws[6], b"junk", *raws[7:]]


def contacts_commands() -> list[bytes]:
    """Who is told: two people here, one there, and a list that is changed."""
    lists = [
        ("contoso", [{"email": "ana@contoso.example"}, {"email": "benoit@contoso.example", "language": "fr"}]),
        ("fabrikam", [{"email": "old@fabrikam.example"}]),
        ("fabrikam", [{"email": "new@fabrikam.example"}, {"webhook": "https://fabrikam.example/hook"}]),
    ]
    return [
        orjson.dumps({"command_id": f"list-{k}", "tenant": tenant, "type": "contacts.set", "at": "2026-11-01T00:00:02Z",
                      "by": "ops", "contacts": contacts})
        for k, (tenant, contacts) in enumerate(lists)
    ]  # fmt: skip


def calls(count: int = 110, first: int = 0) -> list[bytes]:
    raws = []
    for k in range(first, first + count):
        tenant = TENANTS[k % 7 % 3]
        callee = ("+12125550123", "+442079460018", "+449012345678", "+88351234", "+14165550123")[k % 5]
        start = f"2026-11-{1 + k // 16:02d}T{k % 16:02d}:30:00Z"
        fields: dict[str, Any] = {"tenant": tenant, "user": "uvw"[k % 3], "start": start}
        if k % 23 == 8:
            fields["start"] = f"2026-10-31T{k % 16:02d}:30:00Z"  # of the month before
        if k % 4 == 0:
            fields["call_id"] = f"c{k}"
        if k % 11 == 3:
            fields |= {"call_type": "ucap_in", "callee": "+18005550199"}
        raws.append(orjson.dumps(call_record(f"r{k}", **({"callee": callee} | fields), ms=1000 + 37_777 * (k % 9))))
        if k % 9 == 4:
            raws.append(raws[len(raws) // 2])  # delivered again
        if k % 13 == 5:
            raws.append(orjson.dumps(orjson.loads(raws[-1]) | {"switch": "other"}))  # conflict
        if k % 17 == 6:
            raws.append((b"\x00junk", b"{}", b'{"a":1,"a":2}', raws[-1].replace(tenant.encode(), b"nobody"))[k % 4])
    return raws


@dataclass
class Scenario:
    """One way of calling `rater rate`, and what it is called with."""

    folder: Path
    batch: int = 7
    options: list[str] = field(default_factory=list)
    calls: list[str] = field(default_factory=list)
    stdin: bytes = b""

    def args(self, out: Path) -> list[str]:
        return [
            "rate", *self.calls, "--rates", str(self.folder / "deck"), "--commands", str(self.folder / "commands.jsonl"),
            "--out", str(out), "--state", str(out / "state.db"), "--json", *self.options,
        ]  # fmt: skip

    def run(self, runner: Callable[..., Ended], out: Path, **how: Any) -> Ended:
        return runner(self.args(out), batch=self.batch, stdin=self.stdin, **how)


def write_lines(path: Path, lines: list[bytes], end: bytes = b"\n", last: bytes = b"\n") -> str:
    path.write_bytes(end.join(lines) + last)
    return str(path)


def scenario(name: str, folder: Path) -> Scenario:
    folder.mkdir(parents=True)
    rates().write(folder)
    write_lines(folder / "commands.jsonl", commands())
    made = Scenario(folder)
    lines = calls()
    if name in ("approve", "decline"):
        made.options = ["--recharge", name]
    if name == "mails":
        made.options = ["--recharge", "decline"]
        write_lines(folder / "commands.jsonl", commands() + contacts_commands())
    if name == "several-files":
        middle = write_lines(folder / "b.jsonl", [*lines[40:60], b"", b"  ", *lines[60:70]], b"\r\n", b"")
        zipped = folder / "c.jsonl.gz"
        zipped.write_bytes(gzip.compress(b"\n".join(lines[70:]), mtime=0))
        empty = write_lines(folder / "empty.jsonl", [], last=b"")
        made.calls = [write_lines(folder / "a.jsonl", lines[:40], last=b""), empty, middle, str(zipped)]
    elif name == "stdin":
        made.calls, made.stdin = ["-"], b"\n".join(lines)
    elif name == "gz":
        zipped = folder / "calls.jsonl.gz"
        zipped.write_bytes(gzip.compress(b"\n".join(lines) + b"\n", mtime=0))
        made.calls = [str(zipped)]
    elif name == "source":
        made.calls = [write_lines(folder / "Master.csv", asterisk_rows())]
        (folder / "pbx.toml").write_text(ASTERISK)
        made.options = ["--source", "asterisk-csv", "--profile", str(folder / "pbx.toml")]
    else:
        made.calls = [write_lines(folder / "calls.jsonl", lines)]
    return made


SCENARIOS = ("plain", "approve", "decline", "several-files", "stdin", "gz", "source", "mails")

ASTERISK = """
source = "asterisk-csv"
switch = "pbx1"
zone = "UTC"
tenant = "contoso"
[users]
column = "channel-peer"
[numbers]
bare = "e164"
[call_types]
by = "dcontext"
[call_types.map]
from-internal = "user_out"
from-trunk = "user_in"
[asterisk]
layout = "master-18"
"""


def asterisk_rows() -> list[bytes]:
    from rater.sources.asterisk_layouts import LAYOUTS
    from tests.sources.support import row

    rows = []
    for k in range(60):
        changed = {"uniqueid": f"{1768483800 + k}.{k}", "dst": "12125550123" if k % 4 else "447700900123"}
        if k % 10 == 9:
            changed["start"] = "not a time"
        rows.append(row(LAYOUTS["master-18"], **changed).rstrip(b"\n"))
        if k % 12 == 5:
            rows.append(rows[k // 2])
    return rows


# ---------------------------------------------------------------------------------------------- what came of it


def new_state(out: Path, template: Path) -> None:
    """An out folder with an empty state whose key is fixed, so that two runs can be compared to the byte."""
    out.mkdir(parents=True)
    if not template.exists():
        Store(template).close()
        db = sqlite3.connect(template)
        db.execute("update meta set value = ? where name = 'key'", (json.dumps(KEY),))
        db.commit()
        db.close()
    shutil.copy(template, out / "state.db")


def seen(out: Path) -> dict[str, Any]:
    """Everything a person can see of a finished run: each output, each tenant's balance, every row and id of the books."""
    found: dict[str, Any] = {name: (out / name).read_bytes() for name in OUTPUTS}
    store = Store(out / "state.db", read_only=True)
    try:
        state = store.load_state()
        found |= {f"rows of {name}": state.rows(name).tobytes() for name in state.shelves}
        found["ids"] = store.seen_ids().tobytes()
        found["unfinished"] = store.unfinished()
        found["contacts"] = store.contacts()
        opened = [bytes(row.name[: row.name_length]).decode() for row in state.rows("accounts")]
    finally:
        store.close()
    for tenant in opened:
        found[f"balance of {tenant}"] = balance(out / "state.db", tenant)
    mails = (file for file in (out / OUTBOX).rglob("*") if file.is_file())
    return found | {f"{OUTBOX}/{file.relative_to(out / OUTBOX)}": file.read_bytes() for file in mails}


def differences(found: dict[str, Any], expected: dict[str, Any]) -> list[str]:
    return [name for name in sorted(found.keys() | expected.keys()) if found.get(name) != expected.get(name)]
