"""The screens: every number whole and exact, on a terminal and in a pipe; nothing in the data is taken for markup."""

import io
import sys
from pathlib import Path
from typing import Any

import pytest

from rater.contract.counts import Counts
from rater.doors.decks import LintReport
from rater.doors.decks.findings import ERROR, WARNING, Finding
from rater.doors.files.amounts import bytes_text, exact, per_minute, two_decimals
from rater.doors.files.audit import Audited
from rater.doors.files.rate import RateRequest, Summary
from rater.doors.files.show import (
    LINT_ROWS_SHOWN,
    counting,
    progress_bar,
    show_audit,
    show_balance,
    show_lint,
    show_summary,
)

Row = dict[str, Any]
Capture = pytest.CaptureFixture[str]


def account(**changes: Any) -> Row:
    """What `rater balance --json` prints."""
    told: Row = {
        "tenant": "contoso",
        "country": "US",
        "currency": "USD",
        "billing_mode": "prepaid",
        "overage": False,
        "balance_micros": 4_995_000,
        "held_micros": 0,
        "open_calls": 0,
        "debt_micros": 0,
        "invoice_micros": 0,
        "blocked": False,
        "lots": [lot("lot-7", 4_995_000)],
        "pools": [pool("US/MCOPSTN1/domestic/2026-11", 3_000, 2_999)],
        "months": [month("2026-11", 1_841)],
        "licences": [
            {"user": "ana", "plan": "MCOPSTN1", "country": "US"},
            {"user": "ana", "plan": "MCOPSTNC", "country": "US"},
        ],
        "numbers": [{"number": "+18005550199", "number_type": "toll_free", "country": "US"}],
        "recharge": {
            "enabled": True,
            "trigger_micros": 5_000_000,
            "amount_micros": 15_000_000,
            "in_flight": None,
            "failures": 0,
            "wait_until": None,
        },
        "account_version": 512,
        "last_seen": "2026-11-03T13:32:47.250Z",
        "recent_events": [],
    }
    return told | changes


def lot(lot_id: str, left: int, expires: str | None = "2027-11-01T00:00:00.000Z") -> Row:
    amounts = {"left_micros": left, "amount_micros": 5_000_000}
    return {"lot_id": lot_id, "added_at": "2026-11-01T00:00:00.000Z", "expires_at": expires} | amounts


def pool(name: str, capacity: int, used: int) -> Row:
    return {"pool": name, "capacity": capacity, "used": used, "left": max(capacity - used, 0), "held": 0}


def month(name: str, calls: int, told: bool = False) -> Row:
    sums = {"connected_calls": calls, "charge_micros": 5_000, "invoice_micros": 0, "pool_minutes": 2_999}
    return {"month": name, "calls": calls, **sums, "credit_minutes": 7, "late_calls": 0, "told": told}


def shown(capsys: Capture, **changes: Any) -> str:
    show_balance(account(**changes))
    return capsys.readouterr().out


def test_a_month_shows_what_its_calls_came_to_and_whether_its_summary_was_told(capsys: Capture):
    text = shown(capsys, months=[month("2026-12", 2), month("2026-11", 1_841, told=True)])
    [december] = [line for line in text.splitlines() if "2026-12" in line]
    [november] = [line for line in text.splitlines() if "2026-11 " in line and "1,841" in line]
    assert "open" in december
    assert "told" in november


def test_of_many_months_the_last_twelve_are_shown(capsys: Capture):
    text = shown(capsys, months=[month(f"{2_026 - k // 12}-{12 - k % 12:02}", 1) for k in range(30)])
    assert "the last 12" in text
    assert "2026-01" in text
    assert "2025-12" not in text


def test_a_tenant_without_calls_has_no_months_to_show(capsys: Capture):
    assert "Months" not in shown(capsys, months=[])


def line(text: str, *words: str) -> str:
    """The first line that holds all these words."""
    return next(found for found in text.splitlines() if all(word in found for word in words))


# --- amounts ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("micros", "rounded", "whole"),
    [
        (0, "0.00", "0.00"),
        (1, "0.00", "0.000001"),
        (4_999, "0.00", "0.004999"),
        (5_000, "0.01", "0.005"),
        (41_000, "0.04", "0.041"),
        (1_250_000, "1.25", "1.25"),
        (999_995_000, "1,000.00", "999.995"),
        (-4_999, "0.00", "-0.004999"),
        (-5_000, "-0.01", "-0.005"),
        (9_007_199_254_740_993, "9,007,199,254.74", "9,007,199,254.740993"),
        (4 * 10**18, "4,000,000,000,000.00", "4,000,000,000,000.00"),
    ],
)
def test_amounts_are_rounded_half_up_on_screens_and_shown_whole_beside_it(
    micros: int, rounded: str, whole: str
) -> None:
    assert two_decimals(micros) == rounded
    assert exact(micros) == whole
    assert exact(micros, "USD") == f"{whole} USD"


def test_a_rate_is_shown_with_every_digit_it_has() -> None:
    assert per_minute(20_500_000, "USD") == "0.0205 USD a minute"
    assert per_minute(1, "USD") == "0.000000001 USD a minute"


def test_sizes_are_short() -> None:
    assert [bytes_text(n) for n in (0, 999, 1_400, 2_000_000, 3_450_000_000)] == [
        "0 B",
        "999 B",
        "1.4 kB",
        "2.0 MB",
        "3.4 GB",
    ]


# --- rater balance ---------------------------------------------------------------------------------------------------


def test_the_balance_is_told_rounded_and_exactly(capsys: Capture) -> None:
    text = shown(capsys)
    assert line(text, "balance").split(None, 1)[1] == "5.00 USD (4.995)"
    assert "contoso (US, prepaid) at 2026-11-03 13:32:47.250 UTC" in text
    assert line(text, "account version").endswith("512")


def test_a_pool_with_one_minute_left_is_not_drawn_as_full(capsys: Capture) -> None:
    almost = line(shown(capsys), "US/MCOPSTN1/domestic/2026-11")
    assert "███████████████████░  99 %" in almost
    assert almost.split()[-3:] == ["2,999", "3,000", "1"]
    full = line(shown(capsys, pools=[pool("p", 60, 60)]), "p ", "60")
    assert "████████████████████ 100 %" in full
    barely = line(shown(capsys, pools=[pool("p", 3_000, 1)]), "p ", "3,000")
    assert "█░░░░░░░░░░░░░░░░░░░   0 %" in barely


def test_a_pool_used_beyond_its_licences_of_today_says_so_without_a_negative_rest(capsys: Capture) -> None:
    over = line(shown(capsys, pools=[pool("p", 120, 150), pool("none", 0, 5)]), "p ", "150")
    assert over.split()[-4:] == ["%", "150", "120", "0"]


def test_lots_debt_and_invoice_are_exact(capsys: Capture) -> None:
    text = shown(
        capsys, debt_micros=1, invoice_micros=2_000_001, lots=[lot("a", 1, None), lot("b", 4_999_999)], blocked=True
    )
    assert line(text, "debt").endswith("0.000001 USD")
    assert line(text, "invoice so far").endswith("2.000001 USD")
    assert line(text, "a  ", "never").split()[:3] == ["a", "0.000001", "5.00"]
    assert line(text, "b  ", "4.999999")
    assert "BLOCKED" in line(text, "balance")


def test_a_declined_recharge_says_when_it_asks_again(capsys: Capture) -> None:
    recharge = account()["recharge"] | {
        "failures": 2,
        "wait_until": "2026-11-03T14:00:00.000Z",
        "in_flight": "c:recharge:3",
    }
    told = line(shown(capsys, recharge=recharge), "recharge")
    assert "15.00 USD when the balance falls below 5.00 USD; c:recharge:3 in flight" in told
    assert "declined 2 times in a row, asks again at a debit from 2026-11-03T14:00:00.000Z" in told
    assert line(shown(capsys, recharge=recharge | {"enabled": False}), "recharge").endswith("off")


def test_licences_are_told_by_user_and_numbers_one_a_line(capsys: Capture) -> None:
    text = shown(capsys)
    assert line(text, "ana").split(None, 1)[1] == "MCOPSTN1 US, MCOPSTNC US"
    assert line(text, "+18005550199").split() == ["+18005550199", "toll_free", "US"]


def test_recent_events_are_told_in_words(capsys: Capture) -> None:
    data = {"percent": 80, "pool": "GB/MCOPSTN1/domestic/2026-11", "capacity": 3000, "used": 2400}
    events = [{"time": "2026-11-03T13:32:47.250Z", "type": "rater.pool.reached", "data": data}]
    told = line(shown(capsys, recent_events=events), "pool.reached")
    assert told.endswith("80 % of GB/MCOPSTN1/domestic/2026-11, 2,400 of 3,000 minutes")


def test_what_is_held_for_authorized_calls_is_told_when_there_are_any(capsys: Capture) -> None:
    held = [pool("US/MCOPSTN1/domestic/2026-11", 3_000, 1) | {"held": 12}]
    told = line(shown(capsys, held_micros=1_032_000, open_calls=2, pools=held), "held")
    assert told.endswith("1.032 USD and 12 minutes of pools for 2 authorized calls")


@pytest.mark.parametrize(
    ("kind", "data", "said"),
    [
        ("call.authorized", {"call_id": "7f", "seconds": 3_600, "payer": "pool", "pool_minutes": 60, "amount_micros": 0},
         "call 7f, at most 3,600 s, paid by pool; 0.00 USD and 60 minutes held"),
        ("call.refused", {"call_id": "7f", "reason": "no_credit", "balance_micros": 1, "held_micros": 1},
         "call 7f: no_credit; balance 0.000001 USD, held 0.000001 USD"),
        ("authorization.expired", {"call_id": "7f", "amount_micros": 5_000_000},
         "call 7f: no record came; 5.00 USD no longer held"),
    ],
)  # fmt: skip
def test_an_answer_to_a_switch_is_told_in_words(capsys: Capture, kind: str, data: Row, said: str) -> None:
    events = [{"time": "2026-11-03T13:32:47.250Z", "type": f"rater.{kind}", "data": data | {"currency": "USD"}}]
    assert line(shown(capsys, recent_events=events), kind).endswith(said)


def test_what_an_account_does_not_have_takes_no_room(capsys: Capture) -> None:
    text = shown(capsys, lots=[], pools=[], months=[], licences=[], numbers=[])
    assert len(text.splitlines()) == 5


def test_names_from_the_data_are_no_markup(capsys: Capture) -> None:
    text = shown(capsys, lots=[lot("[red]lot[/red]", 1), lot(":smile:", 2), lot("[/]", 3)])
    assert "[red]lot[/red]" in text
    assert ":smile:" in text
    assert "[/]" in text


def test_a_pipe_gets_whole_lines_without_colour_however_long(capsys: Capture) -> None:
    long = "L" * 128
    text = shown(capsys, lots=[lot(long, 1)])
    assert long in text
    assert "\x1b" not in text
    assert all(told == told.rstrip() for told in text.splitlines())


def test_an_old_terminal_gets_letters_it_can_show(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", screen)
    show_balance(account(licences=[{"user": "Jörg", "plan": "MCOPSTN1", "country": "DE"}]))
    screen.seek(0)
    text = screen.read()
    assert "###################." in text
    assert "J\\xf6rg" in text


# --- the other screens -----------------------------------------------------------------------------------------------


def test_a_summary_tells_every_count_and_where_to_look(tmp_path: Path, capsys: Capture) -> None:
    counts = Counts(read=1_010, rated=1_000, rejected=4, duplicates=6, pool_minutes=7, credit_minutes=8, events=2)
    counts.by_outcome = {"pooled": 400, "charged": 600, "free": 0}
    counts.rejected_by_reason = {"bad_times": 4}
    counts.charge_micros = {"USD": 1_005_000, "EUR": 4_999}
    counts.events_by_type = {"rater.pool.reached": 2}
    summary = Summary(counts, blank_lines=3, resumed=True, wall_s=0.5, tenants=9, ids_kept=1_000, ids_bytes=32_768)
    (tmp_path / "rated-cdrs.jsonl").write_bytes(b"x" * 1_400)
    show_summary(summary, RateRequest([], [], tmp_path / "state.db", tmp_path))
    text = capsys.readouterr().out
    assert text.splitlines()[1].startswith("Interrupted run finished")
    assert line(text, "  rated").endswith("1,000 (charged 600, pooled 400)")
    assert line(text, "  rejected").endswith("4 (bad_times 4)")
    assert line(text, "  duplicates").split()[1] == "6"
    assert line(text, "blank lines").endswith(" 3")
    assert line(text, "charged", "USD").endswith("1.01 USD")
    assert line(text, "charged", "EUR").endswith("0.00 EUR")
    assert line(text, "events").endswith("2 (pool.reached 2)")
    assert line(text, "ids kept").endswith("1,000 in 32.7 kB of memory, 32 bytes an id")
    assert line(text, "time  ").endswith("  0.50 s")
    assert line(text, str(tmp_path / "rated-cdrs.jsonl"), "1.4 kB")


def test_a_run_tells_its_pace_and_the_rest_of_an_interrupted_one_does_not(tmp_path: Path, capsys: Capture) -> None:
    request = RateRequest([], [], tmp_path / "state.db", tmp_path)
    show_summary(Summary(Counts(read=1_010), wall_s=0.5), request)
    assert line(capsys.readouterr().out, "time  ").endswith("0.50 s, 2,020 calls/s with files and state")
    show_summary(Summary(Counts(read=1_010), wall_s=0.5, resumed=True), request)
    assert line(capsys.readouterr().out, "time  ").endswith("0.50 s")


def test_an_audit_gives_its_verdict_first(capsys: Capture) -> None:
    show_audit(Audited(batches=2, rated=3, charge_micros={"USD": 61_350_000}))
    text = capsys.readouterr().out
    assert text.splitlines()[1] == "The books agree with the log, to the byte"
    assert line(text, "charged").endswith("61.35 USD")


def test_a_lint_report_shows_errors_first_and_counts_what_does_not_fit(capsys: Capture) -> None:
    odd = [Finding(WARNING, "no_root", "rates.csv", k, "no row", "a row") for k in range(1, 61)]
    wrong = Finding(ERROR, "bad_prefix", "rates.csv", 99, "prefix '44 7'", "digits only")
    show_lint(LintReport("decks/mine", [*odd, wrong], rows=60, inbound_rows=1))
    text = capsys.readouterr().out
    rows = [told for told in text.splitlines() if told.startswith("rates.csv:")]
    assert len(rows) == LINT_ROWS_SHOWN
    assert rows[0].split()[:3] == ["rates.csv:99", "error", "bad_prefix"]
    assert "11 more: no_root 11; --json lists them all" in text
    assert text.splitlines()[-1] == "decks/mine: refused; 60 outbound rows, 1 inbound row; 1 error, 60 warnings"


def test_progress_is_silent_where_nobody_watches(tmp_path: Path, capsys: Capture) -> None:
    calls = tmp_path / "calls.jsonl"
    calls.write_bytes(b"{}\n")
    with progress_bar([str(calls), "-", "missing.jsonl"]) as progress:
        progress("commands", 3)
        progress("calls", 10)
    with counting("auditing") as count:
        count(1, 2)
    told = capsys.readouterr()
    assert told.out + told.err == ""
