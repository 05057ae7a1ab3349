"""The rows that the state of a partition must hold, kept beside the slow twin, record by record.

The twin says what a record does; here that becomes numbered rows: rows are added in the order of need, a lot or a hold that
ends leaves its row to the next one; lots, holds and months not told yet are chains of row numbers; the month of an account's
last call is counted in its own row. The last watermark names the key of the hashes, so the bytes are made at the end.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, field

from tests.kafka.checker_layout import HOLD, NUMBER, TENANT, USER, Fields, name_hash, number_hash, row_bytes
from tests.kafka.checker_model import Row, country_number
from tests.twin import instant_ms, month_of, pool_country

NEVER_MS = 1 << 62
NOBODY = -1
PLANS = (
    "MCOPSTN1", "MCOPSTN2", "MCOPSTN5", "MCOPSTN6", "MCOPSTN8", "MCOPSTN9", "PAYG", "MCOPSTNC", "MCOMEETADD", "MCOMEETACPEA",
    "MCOMEETADD_DIALOUT_US",
)  # fmt: skip
SCOPES = ("domestic", "international", "zone-a")
NUMBER_TYPES = ("user", "service", "toll_free")
TOTALS = {"calls": "calls", "connected": "connected_calls", "charge_micros": "charge_micros", "invoice_micros": "invoice_micros",
          "pool_minutes": "pool_minutes", "credit_minutes": "credit_minutes", "late": "late_calls"}  # fmt: skip
DAY_ONE_MS = instant_ms("0001-01-01T00:00:00Z")
TWO_DAYS_MS = 2 * 86_400_000
Allotment = Callable[[str, int], int]


def json_text(value: str) -> str:
    """As a text stands between its quotes."""
    return json.dumps(value, ensure_ascii=False)[1:-1]


def month_number(text: str) -> int:
    year, month = text.split("-")
    return int(year) * 12 + int(month) - 1


@dataclass
class Held:
    """What one account has beside the twin's: its row, and the rows it owns."""

    row: int
    lots: list[int] = field(default_factory=list)  # rows, in the order they are drawn
    holds: list[int] = field(default_factory=list)  # rows, the youngest first
    months: dict[str, int] = field(default_factory=dict)  # those put away
    put_away: dict[str, Row] = field(default_factory=dict)  # what the twin had counted of a month by then
    pools: dict[str, int] = field(default_factory=dict)
    next_expiry_ms: int = NEVER_MS
    next_hold_ms: int = NEVER_MS
    last_seen_ms: int = -NEVER_MS
    closed_before: int = 0
    last_month: str | None = None


class UsedAgain(list[Fields]):
    """Rows by number; those given back are taken again, the last one first."""

    def __init__(self) -> None:
        super().__init__()
        self._free: list[int] = []

    @property
    def first_free(self) -> int:
        return self._free[-1] if self._free else -1

    def take(self, fields: Fields) -> int:
        if not self._free:
            self.append(fields)
            return len(self) - 1
        row = self._free.pop()
        self[row] = fields
        return row

    def give(self, row: int) -> None:
        self[row] |= {"account": NOBODY, "next": self.first_free}
        self._free.append(row)


class Rows:
    """Of one partition. Rows are fields by name, without the hashes."""

    def __init__(self) -> None:
        self.lots, self.holds = UsedAgain(), UsedAgain()
        self.users: dict[tuple[int, str], Fields] = {}
        self.fleets: dict[tuple[int, str, str], Fields] = {}
        self.pools: list[Fields] = []
        self.numbers: dict[tuple[int, str], Fields] = {}
        self.totals: list[Fields] = []
        self.accounts: dict[str, tuple[Held, Row]] = {}

    # ---- record by record

    def applied(self, account: Row, command: Row, allotment: Allotment) -> None:
        """A command was applied; `account` is the twin's, after it. `allotment`: minutes a licence gives a pool at an instant."""
        at, tenant, kind = instant_ms(command["at"]), account["tenant"], command["type"]
        if kind == "tenant.opened":
            self.accounts[tenant] = (Held(len(self.accounts)), account)
        held, _ = self.accounts[tenant]
        if kind.startswith("licence."):
            self._licence(held.row, command)
        if kind.startswith("number."):
            self._number(held.row, command)
        self._seen(held, account, at)
        if kind in ("clock.ticked", "call.authorize"):
            self._expire_holds(held, at)
        if kind == "clock.ticked":
            self._tick(held, account, at)
        if kind == "call.authorize":
            self._authorize(held, account, command, at, allotment)

    def _tick(self, held: Held, account: Row, at: int) -> None:
        before = at - TWO_DAYS_MS
        held.closed_before = max(held.closed_before, month_number(month_of(before)) if before >= DAY_ONE_MS else 11)
        if held.last_month is not None and month_number(held.last_month) < held.closed_before:
            self._put_away(held, account)

    def called(self, account: Row, call: Row, rated: Row, allotment: Allotment) -> None:
        """A call was rated."""
        held, _ = self.accounts[account["tenant"]]
        self._seen(held, account, instant_ms(call["end"]))
        for row in [row for row in held.holds if self.holds[row]["call_id"] not in account["holds"]]:
            self._end_hold(held, row)
        start = instant_ms(call["start"])
        if held.last_month != month_of(start):
            self._put_away(held, account)
            held.last_month = month_of(start)
        if rated["pool_minutes"]:
            self._pool(held, rated["pool"], allotment(rated["pool"], start))

    def _put_away(self, held: Held, account: Row) -> None:
        """What the account counted of its last month goes to the row of that month."""
        if held.last_month is None or not pending(held, account)["calls"]:
            return
        held.put_away[held.last_month] = dict(account["months"][held.last_month])
        if held.last_month not in held.months:
            held.months[held.last_month] = len(self.totals)
            self.totals.append({"account": held.row, "month": month_number(held.last_month)})

    def _seen(self, held: Held, account: Row, at: int) -> None:
        """What every record does: its instant is seen, lots expire, are drawn, are added, and are told of."""
        held.last_seen_ms = max(held.last_seen_ms, at)
        if at >= held.next_expiry_ms:
            for row in [row for row in held.lots if self.lots[row]["expires_ms"] <= at]:
                self._leave(held, row)
            held.next_expiry_ms = min((self.lots[row]["expires_ms"] for row in held.lots), default=NEVER_MS)
        there = {lot["lot_id"]: lot for lot in account["lots"]}
        for row in [row for row in held.lots if self.lots[row]["name"].decode() not in there]:
            self.lots[row]["left_micros"] = 0
            self._leave(held, row)
        rows = {self.lots[row]["name"].decode(): row for row in held.lots}
        for name in there.keys() - rows.keys():
            rows[name] = self._new_lot(held, there[name])
        for name, row in rows.items():
            self.lots[row] |= {"left_micros": there[name]["left"], "warned": int(there[name]["warned"])}
        held.lots = [rows[lot["lot_id"]] for lot in account["lots"]]
        if not held.lots:
            held.next_expiry_ms = NEVER_MS

    def _leave(self, held: Held, row: int) -> None:
        held.lots.remove(row)
        self.lots.give(row)

    def _new_lot(self, held: Held, lot: Row) -> int:
        """A lot is looked at first when it has just been added: nothing is drawn from it yet."""
        expires = NEVER_MS if lot["expires_ms"] is None else lot["expires_ms"]
        name = lot["lot_id"].encode()
        held.next_expiry_ms = min(held.next_expiry_ms, expires)
        return self.lots.take(
            {"account": held.row, "amount_micros": lot["left"], "at_ms": lot["at"], "expires_ms": expires,
             "name_length": len(name), "name": name}
        )  # fmt: skip

    # ---- holds

    def _expire_holds(self, held: Held, at: int) -> None:
        if not held.holds or at < held.next_hold_ms:
            return
        for row in [row for row in held.holds if self.holds[row]["expires_ms"] <= at]:
            self._end_hold(held, row)
        held.next_hold_ms = min((self.holds[row]["expires_ms"] for row in held.holds), default=NEVER_MS)

    def _authorize(self, held: Held, account: Row, command: Row, at: int, allotment: Allotment) -> None:
        """A hold of the same call ends; what is granted is held."""
        for row in [row for row in held.holds if self.holds[row]["call_id"] == command["call_id"]]:
            self._end_hold(held, row)
        hold = account["holds"].get(command["call_id"])
        if hold is None:
            return
        pool = -1
        if hold["pool"] is not None:
            self._pool(held, hold["pool"], allotment(hold["pool"], at))
            pool = held.pools[hold["pool"]]
        row = self.holds.take(
            {"account": held.row, "owner": held.row, "call_id": command["call_id"], "pool": pool,
             "pool_minutes": hold["pool_minutes"], "micros": hold["micros"], "at_ms": at, "expires_ms": hold["expires_ms"]}
        )  # fmt: skip
        held.holds.insert(0, row)
        held.next_hold_ms = min(held.next_hold_ms, hold["expires_ms"])

    def _end_hold(self, held: Held, row: int) -> None:
        at = held.holds.index(row)
        self.holds[row]["previous"] = held.holds[at - 1] if at else -1
        held.holds.remove(row)
        self.holds.give(row)
        if not held.holds:
            held.next_hold_ms = NEVER_MS

    # ---- what is never given back

    def _licence(self, account: int, command: Row) -> None:
        name, plan = json_text(command["user"]), command["plan"]
        code = PLANS.index(plan)
        blank: Fields = {"account": account, "held": 0, "countries": [0] * len(PLANS), "fleets": [0] * len(PLANS)}
        user = self.users.setdefault((account, name), blank)
        fleets = list(self.fleets.values())
        if user["held"] >> code & 1:
            fleets[user["fleets"][code]]["assigned"] -= 1
        user["held"] &= ~(1 << code)
        user["countries"][code] = 0
        if command["type"] == "licence.assigned":
            place = (account, pool_country(command["country"]), plan)
            if place not in self.fleets:
                self.fleets[place] = {
                    "account": account,
                    "country": country_number(place[1]),
                    "plan": code,
                    "assigned": 0,
                }
            self.fleets[place]["assigned"] += 1
            user["held"] |= 1 << code
            user["countries"][code] = country_number(command["country"])
            user["fleets"][code] = list(self.fleets).index(place)

    def _number(self, account: int, command: Row) -> None:
        place = (account, command["number"].removeprefix("+"))
        row = self.numbers.setdefault(place, {"account": account, "country": 0, "number_type": 0})
        row["assigned"] = int(command["type"] == "number.assigned")
        if row["assigned"]:
            row["country"] = country_number(command["country"])
            row["number_type"] = NUMBER_TYPES.index(command["number_type"])

    def _pool(self, held: Held, name: str, allotment: int) -> None:
        if name not in held.pools:
            country, plan, scope, month, *user = name.split("/", 4)
            owner = NOBODY
            if user:
                owner = list(self.users).index((held.row, json_text(user[0])))
            held.pools[name] = len(self.pools)
            self.pools.append({"account": held.row, "user": owner, "country": 0 if country == "*" else country_number(country),
                               "plan": PLANS.index(plan), "scope": SCOPES.index(scope), "month": month_number(month)})  # fmt: skip
        self.pools[held.pools[name]]["allotment"] = allotment

    # ---- the rows, as bytes

    def counts(self) -> dict[str, int]:
        return {"accounts": len(self.accounts), "lots": len(self.lots), "users": len(self.users), "fleets": len(self.fleets),
                "pools": len(self.pools), "numbers": len(self.numbers), "totals": len(self.totals),
                "holds": len(self.holds)}  # fmt: skip

    def first_free(self) -> dict[str, int]:
        return {**dict.fromkeys(self.counts(), -1), "lots": self.lots.first_free, "holds": self.holds.first_free}

    def bytes(self, key: bytes) -> dict[str, list[bytes]]:
        """Every row of every shelf, under the key that names them."""
        for held, account in self.accounts.values():
            self._chains(held, account)
        made: dict[str, list[Fields]] = {
            "accounts": [named(key, TENANT, 0, name, account_fields(*of)) for name, of in self.accounts.items()],
            "lots": self.lots,
            "users": [named(key, USER, account, name, user) for (account, name), user in self.users.items()],
            "fleets": [
                numbered(row["account"], row["country"] << 32 | row["plan"], row) for row in self.fleets.values()
            ],
            "pools": [pool_named(row) for row in self.pools],
            "numbers": [named(key, NUMBER, account, digits, row) for (account, digits), row in self.numbers.items()],
            "totals": [numbered(row["account"], row["month"], row) for row in self.totals],
            "holds": [named(key, HOLD, row["owner"], json_text(row["call_id"]), row) for row in self.holds],
        }
        return {shelf: [row_bytes(shelf, row) for row in rows] for shelf, rows in made.items()}

    def _chains(self, held: Held, account: Row) -> None:
        """What rows of an account say about each other, and what the twin has counted in them."""
        for row, following in zip(held.lots, [*held.lots[1:], -1], strict=False):
            self.lots[row]["next"] = following
        for row, above, below in zip(held.holds, [-1, *held.holds], [*held.holds[1:], -1], strict=False):
            self.holds[row] |= {"previous": above, "next": below}
        waiting = untold(held, account)
        after = dict(zip(waiting, [*waiting[1:], -1], strict=False))
        for month, row in held.months.items():
            told = int(month in account["months_told"])
            sums = {name: held.put_away[month][theirs] for name, theirs in TOTALS.items()}
            self.totals[row] |= {"next": after.get(row, -1), "told": told, **sums}
        kept = account["holds"].values()
        for name, row in held.pools.items():
            announced = sum(bit for bit, percent in ((1, 80), (2, 100)) if (name, percent) in account["announced"])
            minutes = sum(hold["pool_minutes"] for hold in kept if hold["pool"] == name)
            self.pools[row] |= {"used": account["used"].get(name, 0), "held": minutes, "announced": announced}


def pending(held: Held, account: Row) -> dict[str, int]:
    """What the account's own row counts: the calls of its last month that were not put away."""
    if held.last_month is None:
        return dict.fromkeys(TOTALS, 0)
    now, before = account["months"][held.last_month], held.put_away.get(held.last_month, {})
    return {name: now[theirs] - before.get(theirs, 0) for name, theirs in TOTALS.items()}


def untold(held: Held, account: Row) -> list[int]:
    """Rows of the months whose summary is still to come, the earliest first."""
    return [row for month, row in sorted(held.months.items()) if month not in account["months_told"]]


def account_fields(held: Held, account: Row) -> Fields:
    recharge, waiting = account["recharge"], untold(held, account)
    return {
        "version": account["version"],
        "lots_micros": sum(lot["left"] for lot in account["lots"]),
        "debt_micros": account["debt"],
        "invoice_micros": account["invoice"],
        "trigger_micros": recharge["trigger_micros"],
        "recharge_micros": recharge["amount_micros"],
        "wait_until_ms": recharge["ask_again_ms"] if recharge["ask_again_ms"] > -NEVER_MS else 0,
        "next_expiry_ms": held.next_expiry_ms,
        "last_seen_ms": held.last_seen_ms,
        "closed_before": held.closed_before,
        "first_lot": held.lots[0] if held.lots else -1,
        "lot_count": len(held.lots),
        "recharges": recharge["requests"],
        "failures": recharge["failures"],
        "zero_crossings": account["crossings"],
        "blocks": account["blocks"],
        "conference_licences": sum(plan == "MCOMEETADD" for _, plan in account["licences"]),
        "month": month_number(held.last_month) if held.last_month else 0,
        **{f"month_{name}": count for name, count in pending(held, account).items()},
        "hold_count": len(held.holds),
        "currency": int.from_bytes(account["currency"].encode(), "big"),
        "country": country_number(account["country"]),
        "billing_mode": int(account["billing_mode"] == "post_usage"),
        "overage": int(account["overage"]),
        "recharge_enabled": int(recharge["enabled"]),
        "in_flight": int(recharge["in_flight"] is not None),
        "blocked": int(account["blocked"]),
        "first_open_month": waiting[0] if waiting else -1,
        "open_months": len(waiting),
        "first_hold": held.holds[0] if held.holds else -1,
        "held_micros": sum(hold["micros"] for hold in account["holds"].values()),
        "next_hold_ms": held.next_hold_ms,
        "expired_holds": account["expired_holds"],
    }


def named(key: bytes, kind: int, owner: int, name: str, row: Fields) -> Fields:
    raw = name.encode()
    high, low = name_hash(key, kind, owner, raw)
    return {"hash_0": high, "hash_1": low, "name_length": len(raw), "name": raw, **row}


def numbered(owner: int, low: int, row: Fields) -> Fields:
    high, low = number_hash(owner, low)
    return {"hash_0": high, "hash_1": low, **row}


def pool_named(row: Fields) -> Fields:
    low = row["country"] << 48 | row["plan"] << 40 | row["scope"] << 32 | row["month"]
    return numbered(row["account"] << 32 | (row["user"] + 1), low, row)
