"""Answers against the slow twin's own outputs: every call, every sum, every page; and which calls a pool's end cost."""

from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import pytest

from rater.doors.history.asking import window
from rater.doors.history.queries import (
    Filter,
    Reflected,
    UnknownTenant,
    daily,
    events,
    paid_after_pool,
    recharge_history,
    usage,
)  # fmt: skip
from rater.doors.history.store import HistoryProblem, Store
from rater.usage.rows import Usage
from tests.history.support import event, put, rated, twin_of
from tests.twin import Row, instant_ms

DAY_MS = 86_400_000
SEEDS = (1, 7, 23)


def order(row: Row, place: int) -> tuple[int, int]:
    return instant_ms(row["call"]["start"]), place


def all_pages(store: Store, tenant: str, wanted: Filter, limit: int) -> list[Usage]:
    found: list[Usage] = []
    after = None
    while True:
        page = usage(store, tenant, wanted, after, limit)
        found += page.usages
        if page.next is None:
            return found
        after = page.next


@pytest.mark.parametrize("seed", SEEDS)
def test_usage_days_and_events_come_to_what_the_twin_wrote(store: Store, seed: int, tmp_path: Path):
    twin, _ = twin_of(tmp_path, seed)
    put(store, twin.rated, twin.events)
    for tenant in twin.accounts:
        mine = [(place, row) for place, row in enumerate(twin.rated) if row["tenant"] == tenant]
        if not mine:
            continue
        mine.sort(key=lambda one: order(one[1], one[0]))
        found = all_pages(store, tenant, Filter(), 7)
        assert [one.record_id for one in found] == [row["record_id"] for _, row in mine]
        for one, (_, row) in zip(found, mine, strict=True):
            check_usage(one, row)
        check_days(store, tenant, [row for _, row in mine])
        told = events(store, tenant, limit=10_000)
        expected = [row for row in twin.events if row["subject"] == tenant]
        assert sorted(one.event_id for one in told.events) == sorted(row["id"] for row in expected)


def check_usage(one: Usage, row: Row) -> None:
    call = row["call"]
    assert (one.charge_micros, one.pool, one.pool_minutes, one.credit_minutes, one.billed_minutes) == (
        row["charge_micros"], row["pool"], row["pool_minutes"], row["credit_minutes"], row["billed_minutes"],
    )  # fmt: skip
    assert (one.deck_version, one.drawn(), one.marks()) == (
        row["deck_version"], [tuple(lot) for lot in row["lots"]], row["flags"],
    )  # fmt: skip
    assert (one.start_ms, one.end_ms) == (instant_ms(call["start"]), instant_ms(call["end"]))
    assert one.answer_ms == (None if call["answer"] is None else instant_ms(call["answer"]))
    assert (one.caller, one.callee, one.user_id) == (call["caller"], call["callee"], call.get("user"))
    assert [one.in_part, one.in_place] == row["input"]


def check_days(store: Store, tenant: str, rows: list[Row]) -> None:
    sums: dict[int, Counter[str]] = defaultdict(Counter)
    for row in rows:
        day = sums[instant_ms(row["call"]["start"]) // DAY_MS]
        day["calls"] += 1
        day["connected"] += row["outcome"] != "not_connected"
        for name in ("charge_micros", "billed_minutes", "pool_minutes", "credit_minutes"):
            day[name] += row[name]
    found = daily(store, tenant).days
    assert len(found) == len(sums)
    for day, (_, expected) in zip(found, sorted(sums.items()), strict=True):
        assert {name: getattr(day, name) for name in expected} == dict(expected)


@pytest.mark.parametrize(
    ("wanted", "test"),
    [
        (Filter(user="u-a"), lambda row: row["call"].get("user") == "u-a"),
        (Filter(call_types=("user_out", "conf_out")), lambda row: row["call"]["call_type"] in ("user_out", "conf_out")),
        (Filter(capabilities=("MCOPSTNPP",)), lambda row: row["capability"] == "MCOPSTNPP"),
        (Filter(outcomes=("charged", "pooled")), lambda row: row["outcome"] in ("charged", "pooled")),
    ],
)
def test_a_filter_leaves_out_what_it_says_and_nothing_else(
    sqlite_store: Store, wanted: Filter, test: Any, tmp_path: Path
):
    twin, _ = twin_of(tmp_path, 7)
    put(sqlite_store, twin.rated, twin.events)
    assert 0 < sum(map(test, twin.rated)) < len(twin.rated), "this scenario does not tell the filter from no filter"
    for tenant in {row["tenant"] for row in twin.rated}:
        expected = {row["record_id"] for row in twin.rated if row["tenant"] == tenant and test(row)}
        assert {one.record_id for one in all_pages(sqlite_store, tenant, wanted, 10_000)} == expected


def test_a_window_holds_its_first_instant_and_not_its_last(store: Store):
    starts = [
        "2026-10-31T23:59:59.999Z",
        "2026-11-01T00:00:00.000Z",
        "2026-11-30T23:59:59.999Z",
        "2026-12-01T00:00:00.000Z",
    ]
    put(store, [rated(k, start=start) for k, start in enumerate(starts)])
    from_ms, to_ms = window("2026-11", None, None)
    page = usage(store, "contoso", Filter(from_ms=from_ms, to_ms=to_ms))
    assert [one.record_id for one in page.usages] == ["r1", "r2"]
    assert window("2026-12", None, None)[1] == window(None, None, "2027-01-01")[1]


def test_calls_that_arrive_between_two_pages_neither_repeat_nor_hide_one(store: Store):
    put(store, [rated(k, start=f"2026-11-0{1 + k}T10:00:00.000Z") for k in range(4)])
    first = usage(store, "contoso", Filter(), limit=2)
    put(store, [rated(9, start="2026-11-01T09:00:00.000Z"), rated(10, start="2026-11-03T09:00:00.000Z")])
    second = usage(store, "contoso", Filter(), first.next, limit=9)
    assert [one.record_id for one in first.usages + second.usages] == ["r0", "r1", "r10", "r2", "r3"]
    assert first.reflects == [Reflected("kafka:", "account-events", 0, 0), Reflected("kafka:", "rated-cdrs", 0, 4)]
    assert second.reflects[1].offset == 6


def test_the_last_page_says_that_it_is_the_last(store: Store):
    put(store, [rated(k) for k in range(4)], [event(k, "balance.zero", "2026-11-01T00:00:00.000Z") for k in range(4)])
    assert usage(store, "contoso", Filter(), limit=4).next is None
    assert events(store, "contoso", limit=4).next is None
    first = events(store, "contoso", limit=3)
    assert [one.event_id[-1] for one in first.events + events(store, "contoso", (), first.next).events] == list("0123")


def test_calls_of_one_instant_are_paged_too(store: Store):
    put(store, [rated(k, start="2026-11-01T10:00:00.000Z") for k in range(5)])
    assert [one.record_id for one in all_pages(store, "contoso", Filter(), 2)] == ["r0", "r1", "r2", "r3", "r4"]


def test_nobody_sees_another_tenants_calls(store: Store):
    put(store, [rated(0), rated(1, "fabrikam")], [event(0, "balance.zero", "2026-11-01T00:00:00.000Z", "fabrikam")])
    assert [one.tenant for one in usage(store, "contoso", Filter()).usages] == ["contoso"]
    assert events(store, "contoso").events == []
    with pytest.raises(UnknownTenant, match="no call and no event of tenant 'nobody'"):
        usage(store, "nobody", Filter())


def test_a_cursor_that_nobody_gave_is_refused(sqlite_store: Store):
    put(sqlite_store, [rated(0)])
    for text in ("", "1.2.3", "1.2.3.x", "1.2.3.4; drop table calls", "\uff11.2.3.4"):
        with pytest.raises(HistoryProblem, match="expected what the answer before gave as next"):
            usage(sqlite_store, "contoso", Filter(), text)


def test_a_tenant_named_like_sql_is_a_name(store: Store):
    put(store, [rated(0)])
    with pytest.raises(UnknownTenant):
        usage(store, "' or 1=1 --", Filter())


# ---------------------------------------------------------------------------------------------- after a pool ended

POOL = "GB/MCOPSTN1/domestic/2026-11"
DRAWN = {"outcome": "pooled", "pool": POOL, "pool_minutes": 3, "credit_minutes": 0, "charge_micros": 0, "lots": [],
         "destination_context": "Domestic"}  # fmt: skip


def paid(number: int, charge: int = 61_500, **fields: Any) -> Row:
    told = {"outcome": "charged", "pool": None, "pool_minutes": 0, "credit_minutes": 3, "charge_micros": charge,
            "destination_context": "Domestic"}  # fmt: skip
    return rated(number, **(told | fields))


def drawn(number: int, **fields: Any) -> Row:
    return rated(number, **(DRAWN | fields))


def ended_calls(store: Store) -> list[tuple[str, str, str]]:
    return [(call.usage.record_id, call.pool, call.why) for call in paid_after_pool(store, "contoso").calls]


def test_the_call_a_pool_could_not_end_and_those_behind_it_were_paid_by_credits(store: Store):
    put(store, [
        paid(0), drawn(1), drawn(2, pool_minutes=1, credit_minutes=2, outcome="charged", charge_micros=41_000), paid(3),
        paid(4, user="somebody else"), paid(5, destination_context="International"), paid(6, start="2026-12-01T00:00:00.000Z"),
    ])  # fmt: skip
    answer = paid_after_pool(store, "contoso")
    assert ended_calls(store) == [("r2", POOL, "straddled"), ("r3", POOL, "ended")]
    assert answer.charge_micros == 41_000 + 61_500
    assert answer.reflects[1].offset == 7


def test_a_pool_that_ended_with_its_last_minute_is_told_by_its_event(store: Store):
    reached = event(0, "pool.reached", "2026-11-03T13:30:00.000Z", percent=100, pool=POOL, capacity=3, used=3,
                    account_version=2)  # fmt: skip
    put(store, [paid(0), drawn(1), paid(2), paid(3)], [reached])
    assert ended_calls(store) == [("r2", POOL, "ended"), ("r3", POOL, "ended")]


def test_a_pool_at_eighty_percent_has_not_ended(store: Store):
    reached = event(0, "pool.reached", "2026-11-03T13:30:00.000Z", percent=80, pool=POOL, capacity=4, used=3,
                    account_version=2)  # fmt: skip
    put(store, [drawn(1), paid(2)], [reached])
    assert ended_calls(store) == []


def test_who_used_the_pool_last_month_is_known_when_others_end_it_this_month(store: Store):
    december = POOL.replace("11", "12")
    put(store, [
        drawn(0), drawn(1, user="v", pool=december, start="2026-12-01T08:00:00.000Z", credit_minutes=1, pool_minutes=2,
                        outcome="charged", charge_micros=20_500),
        paid(2, start="2026-12-02T08:00:00.000Z"),
    ])  # fmt: skip
    assert ended_calls(store) == [("r1", december, "straddled"), ("r2", december, "ended")]


def test_one_counter_of_mcopstn2_at_its_cap_stops_the_other(store: Store):
    both = {scope: f"GB/MCOPSTN2/{scope}/2026-11" for scope in ("domestic", "international")}
    put(store, [
        drawn(0, pool=both["domestic"]),
        drawn(1, pool=both["international"], destination_context="International", pool_minutes=2, credit_minutes=1,
              outcome="charged", charge_micros=20_500),
        paid(2),
    ])  # fmt: skip
    assert ended_calls(store) == [("r1", both["international"], "straddled"), ("r2", both["international"], "ended")]


def test_a_conference_call_outside_zone_a_never_had_a_pool(store: Store):
    pool = "*/MCOMEETADD/zone-a/2026-11"
    put(store, [
        drawn(0, pool=pool, call_type="conf_out", credit_minutes=1, pool_minutes=2, outcome="charged", charge_micros=20_500),
        paid(1, call_type="conf_out", destination_country="NG"), paid(2, call_type="conf_out", destination_country="US"),
    ])  # fmt: skip
    assert ended_calls(store) == [("r0", pool, "straddled"), ("r2", pool, "ended")]


@pytest.mark.parametrize("seed", range(30, 40))
def test_every_call_the_twin_split_between_pool_and_credits_is_among_them(
    sqlite_store: Store, seed: int, tmp_path: Path
):
    twin, _ = twin_of(tmp_path, seed)
    put(sqlite_store, twin.rated, twin.events)
    for tenant in {row["tenant"] for row in twin.rated}:
        found = paid_after_pool(sqlite_store, tenant).calls
        split = [
            row["record_id"] for row in twin.rated
            if row["tenant"] == tenant and row["pool"] and row["credit_minutes"] and row["charge_micros"]
        ]  # fmt: skip
        assert [call.usage.record_id for call in found if call.why == "straddled"] == split
        assert all(call.usage.charge_micros > 0 and call.usage.pool is None for call in found if call.why == "ended")


# ---------------------------------------------------------------------------------------------- recharges


def test_a_recharge_is_told_from_its_request_to_its_end(store: Store):
    asked = {"amount_micros": 20_000_000, "trigger_micros": 5_000_000, "balance_micros": 4_000_000, "currency": "USD"}
    put(store, [], [
        event(0, "recharge.requested", "2026-11-01T10:00:00.000Z", recharge_id="contoso:recharge:1", **asked),
        event(1, "recharge.failed", "2026-11-01T10:00:05.000Z", recharge_id="contoso:recharge:1", reason="card expired",
              balance_micros=4_000_000, currency="USD"),
        event(2, "recharge.requested", "2026-11-02T10:00:00.000Z", recharge_id="contoso:recharge:2", **asked),
        event(3, "recharge.succeeded", "2026-11-02T10:00:05.000Z", recharge_id="contoso:recharge:2", lot_id="lot-9",
              amount_micros=20_000_000, balance_micros=24_000_000, currency="USD"),
        event(4, "recharge.requested", "2026-11-03T10:00:00.000Z", recharge_id="contoso:recharge:3", **asked),
    ])  # fmt: skip
    found = recharge_history(store, "contoso").recharges
    assert [(one.recharge_id[-1], one.state, one.reason, one.paid_micros, one.lot_id) for one in found] == [
        ("1", "failed", "card expired", None, None), ("2", "succeeded", None, 20_000_000, "lot-9"),
        ("3", "pending", None, None, None),
    ]  # fmt: skip
    assert found[1].closed_ms == instant_ms("2026-11-02T10:00:05.000Z")


@pytest.mark.parametrize("seed", SEEDS)
def test_recharges_are_as_many_as_the_twin_asked_for(sqlite_store: Store, seed: int, tmp_path: Path):
    twin, _ = twin_of(tmp_path, seed)
    put(sqlite_store, twin.rated, twin.events)
    for tenant in {row["subject"] for row in twin.events}:
        asked = [row["data"]["recharge_id"] for row in twin.events
                 if row["subject"] == tenant and row["type"] == "rater.recharge.requested"]  # fmt: skip
        assert [
            one.recharge_id for one in recharge_history(sqlite_store, tenant).recharges if one.requested_ms
        ] == asked


def test_no_repr_of_a_call_shows_a_number(store: Store):
    put(store, [rated(0, caller="+442079460018", callee="+12125550123")])
    page = usage(store, "contoso", Filter())
    assert "2125550123" not in repr(page)
    assert "2079460018" not in repr(page)
