"""The canonical workload: tenants, a deck and calls, the same bytes for the same seed on every machine.

A few tenants are very busy and most are quiet (Zipf), as in life: one run of calls meets hot accounts, cold ones, pools
that run out, balances that cross zero, calls nobody answered, records delivered twice and records nobody can read. Money,
numbers and names are invented.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import orjson

Array = np.ndarray[Any, Any]

DAY_MS = 86_400_000
BEGIN_MS = 1_793_491_200_000  # 2026-11-01T00:00:00Z
OPENED_AT = "2026-10-01T00:00:00Z"
TENANTS_IN_FULL = 10_000  # further tenants get two commands: a million of them must be opened in less than a minute
USERS_MAX = 40

# Country -> weight among tenants, fixed prefixes, mobile prefixes, digits of a whole number.
COUNTRIES: dict[str, tuple[int, tuple[str, ...], tuple[str, ...], int]] = {
    "US": (40, ("1212", "1312", "1415", "1617", "1702", "1206", "1305", "1512"), ("1917", "1646", "1310"), 11),
    "GB": (18, ("4420", "44161", "44121", "44131", "44141"), ("4477", "4478", "4479"), 12),
    "DE": (10, ("4930", "4989", "4940", "4969"), ("49151", "49171", "49160"), 12),
    "FR": (7, ("331", "334", "335"), ("336", "337"), 11),
    "CA": (6, ("1416", "1604", "1514"), ("1647", "1778"), 11),
    "NL": (5, ("3120", "3110", "3170"), ("316",), 11),
    "AU": (4, ("612", "613", "617"), ("614",), 11),
    "ES": (3, ("3491", "3493"), ("346",), 11),
    "IT": (3, ("3902", "3906"), ("393",), 12),
    "IN": (2, ("9111", "9122", "9180"), ("9198", "9199"), 12),
    "JP": (1, ("813", "816"), ("8190", "8180"), 12),
    "BR": (1, ("5511", "5521"), ("55119", "55219"), 13),
}
CODES = tuple(COUNTRIES)
COUNTRY_PREFIXES = {
    "US": "1", "GB": "44", "DE": "49", "FR": "33", "CA": "1", "NL": "31", "AU": "61", "ES": "34", "IT": "39", "IN": "91",
    "JP": "81", "BR": "55",
}  # fmt: skip
# Calls to the rest of the world: a prefix the deck has, of countries with few calls each.
FAR_AWAY = ("7495", "27 11", "966 11", "971 4", "65 6", "66 2", "62 21", "60 3", "48 22", "420 2", "46 8", "47 2", "353 1",
            "41 44", "43 1", "351 21", "30 21", "52 55", "54 11", "56 2", "57 1", "90 212", "20 2", "234 1")  # fmt: skip
FAR_PREFIXES = tuple(text.replace(" ", "") for text in FAR_AWAY)
NO_RATE_PREFIX = "99893"  # never in the deck

# (share, call type, who is called): outbound by a user in three distances, then what is rarer.
DOMESTIC, MOBILE, ABROAD, ABROAD_MOBILE, FAR, NO_RATE, OWN_USER, OWN_TOLL_FREE, EMERGENCY = range(9)
MIX: tuple[tuple[float, str, int], ...] = (
    (0.345, "user_out", DOMESTIC),
    (0.145, "user_out", MOBILE),
    (0.085, "user_out", ABROAD),
    (0.035, "user_out", ABROAD_MOBILE),
    (0.040, "user_out", FAR),
    (0.0005, "user_out", NO_RATE),
    (0.010, "user_out_transfer", DOMESTIC),
    (0.015, "user_out_forwarding", MOBILE),
    (0.005, "user_out_conf", DOMESTIC),
    (0.170, "user_in", OWN_USER),
    (0.030, "ucap_in", OWN_TOLL_FREE),
    (0.005, "ucap_in", OWN_USER),
    (0.030, "conf_in", OWN_TOLL_FREE),
    (0.030, "conf_in", OWN_USER),
    (0.025, "conf_out", DOMESTIC),
    (0.010, "conf_out", ABROAD),
    (0.005, "ucap_out", DOMESTIC),
    (0.001, "unassigned_in", OWN_USER),
    (0.0005, "emergency", EMERGENCY),
    (0.007, "dr_out", DOMESTIC),
    (0.006, "dr_in", OWN_USER),
)
NOT_CONNECTED, DELIVERED_TWICE, UNREADABLE = 0.25, 0.005, 0.001
FAILURES = ("no_answer", "busy", "cancelled", "congestion", "failed", "no_answer", "no_answer", "cancelled")

PLANS = ("MCOPSTN1", "MCOPSTN2", "MCOPSTN5", "MCOPSTN6", "MCOPSTN8", "PAYG")
PLAN_SHARES = (0.45, 0.15, 0.15, 0.05, 0.10, 0.10)
SMALL_PLAN_COUNTRIES = frozenset({"IN", "JP", "BR"})  # where the shipped table of plans has no row: everything is paid


@dataclass(frozen=True, slots=True)
class Shape:
    """How much of everything, and the seed of the chance in it."""

    tenants: int = 10_000
    prefixes: int = 6_000
    calls: int = 200_000
    seed: int = 20_261_101
    other_key_order: bool = False

    def with_(self, **changes: Any) -> "Shape":
        return replace(self, **changes)


def chance(shape: Shape, what: str) -> np.random.Generator:
    """A stream of its own for every subject, so that a larger deck does not move the calls."""
    return np.random.Generator(np.random.PCG64([shape.seed, int.from_bytes(what.encode(), "little")]))


def instants_text(instants_ms: Array) -> list[str]:
    texts: list[str] = np.datetime_as_string(instants_ms.astype("M8[ms]")).tolist()
    return texts


# --- tenants -----------------------------------------------------------------------------------------------------------


def tenant_name(rank: int) -> str:
    return f"t-{rank:07d}"


def tenant_country(rank: int) -> str:
    """The same for a rank in every shape."""
    weights = np.cumsum([entry[0] for entry in COUNTRIES.values()])
    return CODES[int(np.searchsorted(weights, rank * 37 % int(weights[-1]), "right"))]


def users_of(rank: int) -> int:
    return max(1, min(USERS_MAX, 400 // (rank + 1))) if rank < TENANTS_IN_FULL else 1


def own_number(rank: int, kind: int) -> str:
    """A number of the tenant's own: OWN_USER or OWN_TOLL_FREE."""
    return f"+1800{rank:07d}" if kind == OWN_TOLL_FREE else f"+44203{rank:07d}"


def _command(rank: int, name: str, **fields: Any) -> bytes:
    kind = fields.pop("type")
    head = {"command_id": f"open:{name}", "tenant": tenant_name(rank), "type": kind, "at": OPENED_AT, "by": "benchmark"}
    return orjson.dumps(head | fields)


def commands_of(rank: int, draw: random.Random) -> list[bytes]:
    """What opens a tenant: its settings, licences, numbers and money."""
    country = tenant_country(rank)
    prepaid = rank % 5 != 4
    opened: dict[str, Any] = {
        "country": country,
        "currency": "USD",
        "billing_mode": "prepaid" if prepaid else "post_usage",
    }
    if not prepaid:
        opened["overage"] = rank % 10 == 9
    commands = [_command(rank, "tenant", type="tenant.opened", **opened)]
    if rank >= TENANTS_IN_FULL:
        plan = {"user": "user-0000", "plan": "MCOPSTN1", "country": country}
        return [*commands, _command(rank, "licence", type="licence.assigned", **plan)]
    for k in range(users_of(rank)):
        user = f"user-{k:04d}"
        plan_name = draw.choices(PLANS, PLAN_SHARES)[0]
        more = [plan_name]
        if draw.random() < 0.6:
            more.append("MCOPSTNC")
        if draw.random() < 0.2:
            more.append("MCOMEETACPEA" if draw.random() < 0.1 else "MCOMEETADD")
        for name in more:
            licence = {"user": user, "plan": name, "country": country}
            commands.append(_command(rank, f"{user}:{name}", type="licence.assigned", **licence))
    if prepaid or rank % 10 == 4:
        lots = 1 + (draw.random() < 0.3) + (draw.random() < 0.1)
        for k in range(lots):
            amount = draw.choice((50, 100, 200, 500)) * 1_000_000
            commands.append(_command(rank, f"lot-{k}", type="funds.added", lot_id=f"lot-{k}", amount_micros=amount))
        if draw.random() < 0.8:
            recharge = {"enabled": True, "trigger_micros": 10_000_000, "amount_micros": 100_000_000}
            commands.append(_command(rank, "recharge", type="recharge.configured", **recharge))
    numbers = [(OWN_USER, "user", country)]
    if rank % 4 == 0:
        numbers.append((OWN_TOLL_FREE, "toll_free", "US"))
    for kind, number_type, where in numbers:
        number = {"number": own_number(rank, kind), "number_type": number_type, "country": where}
        commands.append(_command(rank, number_type, type="number.assigned", **number))
    return commands


def commands(shape: Shape, first_rank: int = 0) -> list[bytes]:
    """Account commands that open every tenant from `first_rank` on."""
    found: list[bytes] = []
    for rank in range(first_rank, shape.tenants):
        found += commands_of(rank, random.Random(shape.seed * 1_000_003 + rank))
    return found


# --- the deck ----------------------------------------------------------------------------------------------------------

DECK_HEADER = "prefix,destination,country,class,rate_per_minute,connection_fee,minimum_charge,initial_s,step_s,valid_from,valid_to"
INBOUND_HEADER = "number_country,number_type,origin_country,rate_per_minute,connection_fee"


def base_prefixes() -> dict[str, tuple[str, str, str]]:
    """Prefix -> (destination, country, class) of what the calls go to."""
    found = {prefix: (f"Elsewhere {prefix}", "", "") for prefix in FAR_PREFIXES}
    for country, (_, fixed, mobile, _) in COUNTRIES.items():
        if country != "CA":
            found[COUNTRY_PREFIXES[country]] = (f"{country} - any", country, "")
        found |= {prefix: (f"{country} - area {prefix}", country, "geographic") for prefix in fixed}
        if country not in ("US", "CA"):  # mobile numbers of North America look like the others
            found |= dict.fromkeys(mobile, (f"{country} - mobile", country, "mobile"))
    return found


def prefixes(shape: Shape) -> dict[str, tuple[str, str, str]]:
    """The deck's prefixes: those of the calls, then longer and longer ones below them, as a carrier's deck has them."""
    found = base_prefixes()
    draw = random.Random(shape.seed)
    stems = list(found)
    while len(found) < shape.prefixes:
        stem = stems[int(draw.random() * len(stems))]
        if len(stem) > 8:
            continue
        prefix = f"{stem}{int(draw.random() * 10)}"
        if prefix not in found and not NO_RATE_PREFIX.startswith(prefix):
            destination, country, kind = found[stem]
            found[prefix] = (f"{destination[:40]} {prefix[-1]}", country, kind)
            stems.append(prefix)
    return found


def write_deck(folder: Path, shape: Shape) -> Path:
    """A deck folder with exactly the prefixes of the shape (some have a past price besides today's)."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "deck.toml").write_text('name = "benchmark-usd"\ncurrency = "USD"\nprice_ceiling_per_minute = "20"\n')
    draw = random.Random(shape.seed + 1)
    lines = [DECK_HEADER]
    for prefix, (destination, country, kind) in sorted(prefixes(shape).items()):
        rate = f"0.{int(draw.random() * (1900 if kind == 'mobile' else 600)) + 20:04d}"
        fee = "0.005" if draw.random() < 0.05 else ""
        least = "0.01" if draw.random() < 0.02 else ""
        increments = ("60,60", "60,60", "30,6", "1,1", ",")[int(draw.random() * 5)]
        row = f"{prefix},{destination},{country},{kind},{{}},{fee},{least},{increments},{{}},{{}}"
        if draw.random() < 0.02:
            lines.append(row.format("0.0990", "2025-01-01", "2026-06-01"))
            lines.append(row.format(rate, "2026-06-01", ""))
        else:
            lines.append(row.format(rate, "", ""))
    (folder / "outbound.csv").write_text("\n".join(lines) + "\n")
    inbound = [INBOUND_HEADER]
    for country in CODES:
        inbound += [
            f"{country},toll_free,*,0.03,",
            f"{country},toll_free,{country},0.017,",
            f"{country},service,*,0.01,",
        ]
        inbound.append(f"{country},user,*,0.012,")
    (folder / "inbound.csv").write_text("\n".join(inbound) + "\n")
    return folder


# --- calls -------------------------------------------------------------------------------------------------------------


def zipf_ranks(shape: Shape, uniform: Array) -> Array:
    """Tenant ranks: the k-th busiest has 1/k of the calls of the busiest."""
    weights = np.cumsum(1.0 / np.arange(1, shape.tenants + 1))
    ranks: Array = np.searchsorted(weights, uniform * weights[-1], "right").clip(0, shape.tenants - 1)
    return ranks


class _Numbers:
    """Called numbers: a prefix of the right kind and random digits behind it."""

    def __init__(self, uniform: Array, digits: Array) -> None:
        self._uniform, self._digits = uniform, digits
        weights = np.cumsum([entry[0] for entry in COUNTRIES.values()])
        self._abroad = np.searchsorted(weights, uniform * weights[-1], "right")

    def to(self, place: int, target: int, home: str, rank: int) -> str:
        if target == OWN_USER or target == OWN_TOLL_FREE:
            return own_number(rank, target)
        if target == EMERGENCY:
            return "+112"
        pick = float(self._uniform[place])
        if target == FAR:
            prefix, length = FAR_PREFIXES[int(pick * len(FAR_PREFIXES))], 12
        elif target == NO_RATE:
            prefix, length = NO_RATE_PREFIX, 12
        else:
            country = CODES[int(self._abroad[place])] if target in (ABROAD, ABROAD_MOBILE) else home
            _, fixed, mobile, length = COUNTRIES[country]
            few = mobile if target in (MOBILE, ABROAD_MOBILE) else fixed
            prefix = few[int(pick * 1009) % len(few)]
        rest = length - len(prefix)
        return f"+{prefix}{int(self._digits[place]) % 10**rest:0{rest}d}"


def _spoiled(line: bytes, how: float) -> bytes:
    """A record as it should not be, with a call's size."""
    if how < 0.25:
        return line[: len(line) * 2 // 3]
    if how < 0.5:
        return line.replace(b'"billable_ms":', b'"billable_ms":-', 1)
    if how < 0.75:
        return line.replace(b'"tenant":"t-', b'"tenant":"nobody-', 1)
    return line.replace(b'"callee":"+', b'"callee":"00', 1)


Line = Callable[..., str]


def _switch_line(
    number: int, tenant: str, kind: str, user: str, caller: str, callee: str, times: tuple[str, str | None, str],
    billable_ms: int, disposition: str,
) -> str:  # fmt: skip
    """A call as a switch writes it: compact, in the contract's key order."""
    start, answer, end = times
    answered = "null" if answer is None else f'"{answer}Z"'
    return (
        f'{{"record_id":"sw1:{number:08x}-{number * 2654435761 % 65536:04x}:0","tenant":"{tenant}","call_type":"{kind}",'
        f'"user":"{user}","caller":"{caller}","callee":"{callee}","start":"{start}Z","answer":{answered},'
        f'"end":"{end}Z","billable_ms":{billable_ms},"disposition":"{disposition}","source":"freeswitch","switch":"sw1"}}'
    )


def _sorted_line(
    number: int, tenant: str, kind: str, user: str, caller: str, callee: str, times: tuple[str, str | None, str],
    billable_ms: int, disposition: str,
) -> str:  # fmt: skip
    """The same call from a switch that sorts its keys and writes spaces."""
    start, answer, end = times
    answered = "null" if answer is None else f'"{answer}Z"'
    return (
        f'{{"answer": {answered}, "billable_ms": {billable_ms}, "call_type": "{kind}", "callee": "{callee}", '
        f'"caller": "{caller}", "disposition": "{disposition}", "end": "{end}Z", '
        f'"record_id": "sw1:{number:08x}-{number * 2654435761 % 65536:04x}:0", "source": "freeswitch", '
        f'"start": "{start}Z", "switch": "sw1", "tenant": "{tenant}", "user": "{user}"}}'
    )


def calls(shape: Shape) -> list[bytes]:
    """The canonical calls, in the order in which a month of them would arrive."""
    count = shape.calls
    draws = chance(shape, "calls").random((9, count))
    ranks = zipf_ranks(shape, draws[0])
    shares = np.cumsum([entry[0] for entry in MIX])
    kinds = np.searchsorted(shares, draws[1] * shares[-1], "right").clip(0, len(MIX) - 1)
    connected = draws[2] >= NOT_CONNECTED
    failures = (draws[2] / NOT_CONNECTED * len(FAILURES)).astype(np.int64) % len(FAILURES)
    ringing = (draws[3] * 20_000).astype(np.int64) + 500
    talked = np.where(connected, np.minimum(-np.log1p(-draws[4]) * 170_000, 7_200_000).astype(np.int64) + 1, 0)
    begins = BEGIN_MS + (np.arange(count, dtype=np.float64) / max(count, 1) * 14 * DAY_MS).astype(np.int64)
    starts, answers = instants_text(begins), instants_text(begins + ringing)
    ends = instants_text(begins + ringing + talked)
    numbers = _Numbers(draws[5], (draws[6] * 1e12).astype(np.int64))
    homes = [tenant_country(rank) for rank in range(min(shape.tenants, 1000))]
    write: Line = _sorted_line if shape.other_key_order else _switch_line
    lines: list[bytes] = []
    for place in range(count):
        if lines and draws[7, place] < DELIVERED_TWICE:
            lines.append(lines[-1 - int(draws[8, place] * min(300, len(lines)))])
            continue
        rank, was_answered = int(ranks[place]), bool(connected[place])
        home = homes[rank] if rank < len(homes) else tenant_country(rank)
        _, kind, target = MIX[kinds[place]]
        line = write(
            place,
            tenant_name(rank),
            kind,
            f"user-{int(draws[8, place] * users_of(rank)):04d}",
            f"+44207{int(draws[3, place] * 10**7):07d}",
            numbers.to(place, target, home, rank),
            (starts[place], answers[place] if was_answered else None, ends[place]),
            int(talked[place]),
            "answered" if was_answered else FAILURES[failures[place]],
        ).encode()
        lines.append(_spoiled(line, float(draws[8, place])) if draws[7, place] > 1 - UNREADABLE else line)
    return lines
