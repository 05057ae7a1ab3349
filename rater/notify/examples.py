"""One invented event of each kind: what templates are tried with at the start, and what the pictures show."""

from typing import Any

import orjson

from rater.core.calls import REFUSED_WITHOUT_CREDIT
from rater.notify.contexts import context_of, digest_context
from rater.notify.events import Event, read_event
from rater.notify.kinds import DIGEST, KIND_OF, OPERATOR

_TENANT, _TIME = "contoso", "2026-11-03T13:32:47.250Z"
_USD: dict[str, Any] = {"currency": "USD"}
_POOL = "GB/MCOPSTN1/domestic/2026-11"

_DATA: dict[str, list[dict[str, Any]]] = {
    "recharge_succeeded": [
        {"recharge_id": "contoso:recharge:7", "lot_id": "contoso:recharge:7", "amount_micros": 50_000_000,
         "balance_micros": 51_234_500, **_USD},
    ],
    "recharge_failed": [
        {"recharge_id": "contoso:recharge:8", "reason": "the card has expired", "balance_micros": 3_120_000, **_USD,
         "failures": 1, "next_attempt_after": "2026-11-03T13:47:47.250Z"},
        {"recharge_id": "contoso:recharge:9", "reason": "the daily limit of recharges is reached", "balance_micros": -420_000,
         **_USD, "failures": 3, "next_attempt_after": "2026-11-03T14:32:47.250Z"},
    ],
    "balance_zero": [{"balance_micros": 0, "crossing": 1, **_USD}],
    "service_blocked": [{"call_types": list(REFUSED_WITHOUT_CREDIT), "balance_micros": -20_000, **_USD}],
    "service_restored": [{"call_types": list(REFUSED_WITHOUT_CREDIT), "balance_micros": 49_980_000, **_USD}],
    "pool_reached": [
        {"percent": 80, "pool": _POOL, "capacity": 3_000, "used": 2_400},
        {"percent": 100, "pool": _POOL, "capacity": 3_000, "used": 3_000},
    ],
    "lot_expiring": [
        {"lot_id": "lot-7", "left_micros": 12_345_678_900, "expires_at": "2026-11-30T09:00:00.000Z",
         "balance_micros": 12_400_000_000, **_USD},
    ],
    "lot_expired": [
        {"lot_id": "lot-7", "forfeited_micros": 958_000, "expires_at": "2026-11-03T13:00:00.000Z", "balance_micros": 0, **_USD},
    ],
    "month_closed": [
        {"month": "2026-10", "calls": 18_412, "connected_calls": 15_020, "charge_micros": 1_234_567_890, "invoice_micros": 0,
         "pool_minutes": 24_310, "credit_minutes": 9_871, "late_calls": 3, "balance_micros": 51_234_500, **_USD},
        {"month": "2026-10", "calls": 1, "connected_calls": 1, "charge_micros": 41_000, "invoice_micros": 41_000,
         "pool_minutes": 0, "credit_minutes": 2, "late_calls": 0, "balance_micros": 0, **_USD},
    ],
    "rate_missing": [
        {"digits": "8835", "day": "2026-11-03", "call_type": "user_out", "record_id": "sw1:3f2b6c1e:0"},
        {"digits": "*", "day": "2026-11-03", "call_type": "conf_in", "record_id": "sw1:3f2b6c1e:0"},
    ],
}  # fmt: skip


def example_events(kind: str) -> list[Event]:
    """Each case of a kind that its templates tell apart."""
    type_of = next(name for name, known in KIND_OF.items() if known == kind)
    return [_event(type_of, n, data) for n, data in enumerate(_DATA[kind], 1)]


def _event(type_of: str, number: int, data: dict[str, Any]) -> Event:
    told = {
        "specversion": "1.0", "id": f"{_TENANT}/{type_of.removeprefix('rater.')}/{number}", "source": "rater",
        "type": type_of, "subject": _TENANT, "time": _TIME, "datacontenttype": "application/json",
        "data": {**data, "account_version": 512, "input": [0, 18_842], "cause": "call"},
    }  # fmt: skip
    return read_event(orjson.dumps(told))


def example_context(kind: str) -> list[dict[str, Any]]:
    if kind != DIGEST:
        return [context_of(event) for event in example_events(kind)]
    of_tenant = [event for known in _DATA if known != "rate_missing" for event in example_events(known)]
    return [digest_context(_TENANT, of_tenant * 4), digest_context(OPERATOR, example_events("rate_missing") * 2)]
