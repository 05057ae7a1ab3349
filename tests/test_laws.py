"""Laws that hold for every stream: money is conserved, a cut or a repetition changes nothing, alarms come once."""

from collections import Counter
from itertools import pairwise
from typing import Any

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rater.core.instants import instant_text
from rater.doors.accounts import account_row, months_of
from rater.doors.files.recharge import responder
from tests.workbench import Answers, Bench, Rates, Row, call_record, everything, instant_ms

few = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])

RATES = Rates(
    outbound=["1,,US,,0.0205,,,,,,", "44,,GB,,0.30,0.02,,30,6,,", "449,,GB,premium,1.5,,,,,,", "33,,FR,,0.0000005,,,,,,",
              "49,,DE,,0,,,,,,"],
    inbound=["US,toll_free,*,0.022,", "US,toll_free,CA,0.033,0.01"],
    plans=["MCOPSTN1,US,5,0,", "MCOPSTN2,US,6,4,", "MCOPSTN8,US,3,0,"],
)  # fmt: skip
TENANTS = ("contoso", "fabrikam")
CALLEES = ("+12125550123", "+442079460018", "+449012345678", "+33142685300", "+4930123456", "+88351234", "+911")
NOON_MS = instant_ms("2026-11-03T12:00")

opened = [
    {"type": "tenant.opened", "country": "US", "currency": "USD", "billing_mode": "prepaid"},
    {"type": "tenant.opened", "country": "US", "currency": "USD", "billing_mode": "post_usage", "overage": True},
]
amounts = st.sampled_from([1, 20_500, 50_000, 333_333, 1_000_000])
commands = st.one_of(
    st.builds(lambda user, plan: {"type": "licence.assigned", "user": user, "plan": plan, "country": "US"},
              st.sampled_from("uv"), st.sampled_from(["MCOPSTN1", "MCOPSTN2", "MCOPSTN8", "MCOPSTNC", "MCOMEETADD"])),
    st.builds(lambda user, plan: {"type": "licence.removed", "user": user, "plan": plan},
              st.sampled_from("uv"), st.sampled_from(["MCOPSTN1", "MCOPSTN2"])),
    st.builds(lambda lot, amount, days: {"type": "funds.added", "lot_id": f"lot{lot}", "amount_micros": amount}
              | ({"expires_after": days} if days else {}),
              st.integers(0, 9), amounts, st.sampled_from([0, 0, 1, 3])),
    st.builds(lambda amount: {"type": "account.adjusted", "amount_micros": amount, "reason": "r"},
              amounts.map(lambda amount: -amount) | amounts),
    st.just({"type": "recharge.configured", "enabled": True, "trigger_micros": 100_000, "amount_micros": 400_000}),
    st.just({"type": "number.assigned", "number": "+18005550199", "number_type": "toll_free", "country": "US"}),
    st.just({"type": "clock.ticked"}),
    st.just({"type": "recharge.failed", "recharge_id": "contoso:recharge:1", "reason": "declined"}),
)  # fmt: skip
calls = st.builds(
    lambda callee, seconds, kind, user: {"callee": callee, "ms": seconds * 1000 + 1, "call_type": kind, "user": user},
    st.sampled_from(CALLEES), st.integers(0, 400), st.sampled_from(["user_out", "user_out", "conf_out", "ucap_in", "user_in"]),
    st.sampled_from("uvw"),
)  # fmt: skip
steps = st.lists(
    st.tuples(
        st.sampled_from(TENANTS),
        st.sampled_from([0, 1, 1800, 40_000, 90_000]),  # seconds that pass
        st.one_of(st.tuples(st.just("command"), commands), st.tuples(st.just("call"), calls)),
    ),
    min_size=8,
    max_size=50,
)


def written(story: list[Any]) -> list[tuple[bool, str, bytes]]:
    """(is it a command, tenant, bytes) of every step, opened tenants first; ids are places, so a stream is its own replay."""
    lines: list[tuple[bool, str, bytes]] = []
    for k, (tenant, opening) in enumerate(zip(TENANTS, opened, strict=True)):
        record = {"command_id": f"open{k}", "tenant": tenant, "at": "2026-11-01T00:00:00Z", **opening}
        lines.append((True, tenant, orjson.dumps(record)))
    now = NOON_MS
    for k, (tenant, passed_s, (kind, what)) in enumerate(story):
        now += passed_s * 1000
        if kind == "command":
            record = {"command_id": f"c{k}", "tenant": tenant, "at": instant_text(now)} | what
            if "expires_after" in record:
                record["expires_at"] = instant_text(now + record.pop("expires_after") * 86_400_000)
            lines.append((True, tenant, orjson.dumps(record)))
        else:
            what = dict(what)
            if what["call_type"] == "ucap_in":
                what["callee"] = "+18005550199"
            lines.append(
                (False, tenant, orjson.dumps(call_record(f"r{k}", **what, tenant=tenant, start=instant_text(now))))
            )
    return lines


def one_by_one(lines: list[tuple[bool, str, bytes]], bench: Bench | None = None) -> tuple[Bench, list[Answers]]:
    bench = bench or Bench(RATES.book())
    return bench, [bench.run([raw]) if is_command else bench.run(calls=[raw]) for is_command, _, raw in lines]


# ---------------------------------------------------------------------------------------------- conservation


SUMS = ("charge_micros", "invoice_micros", "pool_minutes", "credit_minutes")


@few
@given(steps)
def test_every_call_is_in_the_sums_of_exactly_one_month(story: list[Any]):
    """Over all months, the sums are those of the rated calls; a month is told once at most, as it stood then."""
    bench, answers = one_by_one(written(story))
    for tenant in TENANTS:
        rated = [row for said in answers for row in said.rated if row["tenant"] == tenant]
        events = [event for said in answers for event in said.events if event["subject"] == tenant]
        told = [event["data"]["month"] for event in events if event["type"] == "rater.month.closed"]
        months = months_of(bench.state, account_row(bench.state, tenant))
        assert sum(month["calls"] for month in months) == len(rated)
        for name in SUMS:
            assert sum(month[name] for month in months) == sum(row[name] for row in rated)
        assert sorted(told) == sorted(month["month"] for month in months if month["told"])


@few
@given(steps)
def test_money_is_neither_made_nor_lost(story: list[Any]):
    """funds + corrections = what calls took from lots and debt + what expired + what is left - what is owed."""
    lines = written(story)
    bench, answers = one_by_one(lines)
    came = Counter()
    for (is_command, tenant, raw), said in zip(lines, answers, strict=True):
        record = orjson.loads(raw)
        if is_command and not said.reasons and record["type"] in ("funds.added", "account.adjusted"):
            came[tenant] += record["amount_micros"]
        for event in said.events:
            if event["type"] == "rater.lot.expired":
                came[tenant] -= event["data"]["forfeited_micros"]
        for rated in said.rated:
            lots = sum(amount for _, amount in rated["lots"])
            assert lots + rated["debt_micros"] + rated["invoice_micros"] == rated["charge_micros"]
            came[tenant] -= rated["charge_micros"] - rated["invoice_micros"]
            assert rated["balance_micros"] == came[tenant]
    for tenant in TENANTS:
        found = bench.balance(tenant)
        assert found["balance_micros"] == came[tenant] == sum(found["lots"].values()) - found["debt_micros"]
        assert found["debt_micros"] >= 0
        assert all(left > 0 for left in found["lots"].values())
        assert not (found["debt_micros"] and found["lots"]), "debt is repaid before a lot is kept"


@few
@given(steps)
def test_minutes_are_whole_and_no_pool_gives_more_than_it_has(story: list[Any]):
    bench, answers = one_by_one(written(story))
    used: Counter[tuple[str, str]] = Counter()
    for said in answers:
        for rated in said.rated:
            if rated["outcome"] in ("pooled", "charged", "invoiced"):
                assert rated["pool_minutes"] + rated["credit_minutes"] == rated["billed_minutes"]
            if rated["pool"]:
                used[rated["tenant"], rated["pool"]] += rated["pool_minutes"]
                assert rated["pool_minutes"] > 0
    for tenant in TENANTS:
        pools = bench.balance(tenant)["pools"]
        for name, (_, taken) in pools.items():
            assert used[tenant, name] == taken


@few
@given(steps)
def test_versions_count_without_a_gap_and_only_what_changed(story: list[Any]):
    lines = written(story)
    bench, answers = one_by_one(lines)
    versions: Counter[str] = Counter()
    for (_, tenant, _), said in zip(lines, answers, strict=True):
        versions[tenant] += not said.reasons
        for row in said.rated:
            assert row["account_version"] == versions[tenant]
        for event in said.events:
            assert event["data"]["account_version"] == versions[tenant]
    assert {tenant: bench.balance(tenant)["version"] for tenant in TENANTS} == dict(versions)


# ---------------------------------------------------------------------------------------------- cuts, order, repetition


def in_cuts(lines: list[tuple[bool, str, bytes]], cuts: list[int], mode: str) -> tuple[Bench, tuple[bytes, ...]]:
    """The stream as batches of these sizes; a batch ends, too, where a call is followed by a command."""
    bench = Bench(RATES.book(), responder(mode))
    topics = [b"", b"", b"", b""]
    commands_now: list[bytes] = []
    calls_now: list[bytes] = []

    def flush() -> None:
        outcome = bench.decide(commands_now, calls_now)
        for k, (data, end) in enumerate(zip(everything(outcome), (b"", b"\n", b"\n", b"\n"), strict=True)):
            topics[k] += data + (end if data else b"")
        commands_now.clear()
        calls_now.clear()

    sizes = iter(cuts)
    left = next(sizes, 10**9)
    for is_command, _, raw in lines:
        if left == 0 or (is_command and calls_now):
            flush()
            left = next(sizes, 10**9)
        (commands_now if is_command else calls_now).append(raw)
        left -= 1
    flush()
    return bench, tuple(topics)


@few
@given(steps, st.lists(st.integers(1, 12), max_size=20), st.sampled_from(["none", "approve", "decline"]))
def test_how_a_stream_is_cut_into_batches_changes_no_byte(story: list[Any], cuts: list[int], mode: str):
    lines = written(story)
    a, whole = in_cuts(lines, [], mode)
    b, pieces = in_cuts(lines, cuts, mode)
    c, singles = in_cuts(lines, [1] * len(lines), mode)
    assert whole == pieces == singles
    for name in a.state.shelves:
        assert a.state.rows(name).tobytes() == b.state.rows(name).tobytes() == c.state.rows(name).tobytes()


@few
@given(steps, st.randoms(use_true_random=False))
def test_tenants_do_not_depend_on_each_others_order(story: list[Any], rng: Any):
    """Each tenant's own stream in its own order, interleaved otherwise: the same answers but for their places."""
    lines = written(story)
    queues = {tenant: [line for line in lines if line[1] == tenant] for tenant in TENANTS}
    mixed = []
    while any(queues.values()):
        tenant = rng.choice([tenant for tenant in TENANTS if queues[tenant]])
        mixed.append(queues[tenant].pop(0))
    a, first = one_by_one(lines)
    b, second = one_by_one(mixed)

    def told(answers: list[Answers], tenant: str) -> list[Row]:
        rows = [row for said in answers for row in (*said.rated, *said.events)]
        for row in rows:
            row.pop("input", None)
            row.get("data", {}).pop("input", None)
        return [row for row in rows if (row.get("tenant") or row.get("subject")) == tenant]

    for tenant in TENANTS:
        assert told(first, tenant) == told(second, tenant)
        assert a.balance(tenant) == b.balance(tenant)


@few
@given(steps, st.data())
def test_what_is_delivered_again_changes_nothing(story: list[Any], draw: st.DataObject):
    lines = written(story)
    again = []
    for place, line in enumerate(lines):
        again.append(line)
        for _ in range(draw.draw(st.integers(0, 2))):
            again.append(lines[draw.draw(st.integers(0, place))])
    a, once = one_by_one(lines)
    b, twice = one_by_one(again)
    # what was rejected the first time may be applied when it comes again, so only streams without such repeats are equal
    rejected = {line[2] for line, said in zip(lines, once, strict=True) if said.reasons}
    if any(count > 1 and raw in rejected for raw, count in Counter(line[2] for line in again).items()):
        return
    rated = [[row | {"input": 0} for said in answers for row in said.rated] for answers in (once, twice)]
    assert rated[0] == rated[1]
    events = [[event["id"] for said in answers for event in said.events] for answers in (once, twice)]
    assert events[0] == events[1]
    assert [a.balance(tenant) for tenant in TENANTS] == [b.balance(tenant) for tenant in TENANTS]
    counts = [said.outcome.counts for said in twice]
    assert sum(c.duplicates + c.commands_duplicates for c in counts) == len(again) - len(lines)


# ---------------------------------------------------------------------------------------------- alarms


@few
@given(steps)
def test_every_alarm_comes_once_and_none_is_missing(story: list[Any]):
    """Replays the balance after each record and demands exactly the crossings that a person would see."""
    lines = written(story)
    bench, answers = one_by_one(lines)
    ids = [event["id"] for said in answers for event in said.events]
    assert len(set(ids)) == len(ids)
    balances = dict.fromkeys(TENANTS, 0)
    for (is_command, tenant, raw), said in zip(lines, answers, strict=True):
        zero = [event["data"]["balance_micros"] for event in said.events if event["type"] == "rater.balance.zero"]
        forfeited = sum(e["data"]["forfeited_micros"] for e in said.events if e["type"] == "rater.lot.expired")
        moves = [balances[tenant], balances[tenant] - forfeited]
        record = orjson.loads(raw)
        if said.rated:
            moves.append(said.rated[0]["balance_micros"])
        elif is_command and not said.reasons and record["type"] in ("funds.added", "account.adjusted"):
            moves.append(moves[-1] + record["amount_micros"])
        crossed = [after for before, after in pairwise(moves) if before > 0 >= after]
        assert zero == crossed
        balances[tenant] = moves[-1]
    for tenant in TENANTS:
        assert bench.balance(tenant)["balance_micros"] == balances[tenant]


@few
@given(steps)
def test_a_recharge_is_in_flight_or_not_and_never_twice(story: list[Any]):
    _, answers = one_by_one(written(story))
    flying = dict.fromkeys(TENANTS, False)
    for said in answers:
        for event in said.events:
            tenant, kind = event["subject"], event["type"]
            if kind == "rater.recharge.requested":
                assert not flying[tenant]
                assert event["data"]["balance_micros"] < event["data"]["trigger_micros"]
                flying[tenant] = True
            elif kind == "rater.recharge.failed":
                assert flying[tenant]
                flying[tenant] = False


@few
@given(steps)
def test_blocked_and_restored_take_turns(story: list[Any]):
    _, answers = one_by_one(written(story))
    blocked = dict.fromkeys(TENANTS, False)
    for said in answers:
        for event in said.events:
            if event["type"] in ("rater.service.blocked", "rater.service.restored"):
                now = event["type"].endswith("blocked")
                assert blocked[event["subject"]] is not now
                blocked[event["subject"]] = now
                assert (event["data"]["balance_micros"] <= 0) is now


@pytest.mark.parametrize("count", [1500])
def test_a_batch_of_many_calls_and_lots_outgrows_every_buffer(count: int):
    """Rooms for text, news and draws are made larger in mid-batch: not one byte differs from small batches."""
    lines = [
        (
            True,
            TENANTS[0],
            orjson.dumps({"command_id": "o", "tenant": "contoso", "at": "2026-11-01T00:00:00Z", **opened[0]}),
        )
    ]
    for k in range(300):
        lines.append((True, TENANTS[0], orjson.dumps(
            {"command_id": f"f{k}", "tenant": "contoso", "type": "funds.added", "at": "2026-11-01T00:00:00Z",
             "lot_id": "x" * 100 + str(k), "amount_micros": 1, "expires_at": f"2026-11-{2 + k % 5:02d}T00:00:00Z"})))  # fmt: skip
    for k in range(count):
        start = instant_text(instant_ms("2026-11-01T12:00") + k * 600_000)
        callee = f"+{8800 + k % 100}123" if k % 30 else "+33142685300"
        lines.append(
            (False, TENANTS[0], orjson.dumps(call_record(f"r{k}", callee, 60_000, start=start, note="n" * (k % 700))))
        )
    a, whole = in_cuts(lines, [], "none")
    b, pieces = in_cuts(lines, [50] * 40, "none")
    assert whole == pieces
    assert whole[1].count(b"lot.expired") > 100
    assert whole[1].count(b"rate.missing") > 500
    assert a.balance() == b.balance()
