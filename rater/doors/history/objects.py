"""Answers as the objects that `--json` prints, and that HTTP answers with: amounts in micro-units, instants as text."""

from dataclasses import asdict
from typing import Any

import orjson

from rater.core.instants import instant_text
from rater.doors.history.exports import Exported
from rater.doors.history.queries import AfterPoolAnswer, DailyAnswer, EventPage, RechargeAnswer, Reflected, UsagePage
from rater.usage.recharges import Recharge
from rater.usage.rows import Usage

HIDDEN = ("tenant", "feed", "part", "place", "start_ms", "answer_ms", "end_ms", "lots", "flags", "in_part", "in_place")
PLACED = ("requested_ms", "closed_ms")


def _reflects(reflects: list[Reflected]) -> list[dict[str, Any]]:
    return [asdict(one) for one in reflects]


def _instant(ms: int | None) -> str | None:
    return None if ms is None else instant_text(ms)


def usage_object(usage: Usage) -> dict[str, Any]:
    """One call: its numbers whole, because it is the tenant's own."""
    told = {name: value for name, value in usage._asdict().items() if name not in HIDDEN}
    return told | {
        "start": instant_text(usage.start_ms),
        "answer": _instant(usage.answer_ms),
        "end": instant_text(usage.end_ms),
        "lots": [list(lot) for lot in usage.drawn()],
        "flags": usage.marks(),
        "input": [usage.in_part, usage.in_place],
        "at": [usage.part, usage.place],
    }


def usage_page(page: UsagePage) -> dict[str, Any]:
    calls = [usage_object(usage) for usage in page.usages]
    return {"calls": calls, "next": page.next, "reflects": _reflects(page.reflects)}


def event_page(page: EventPage) -> dict[str, Any]:
    told = [orjson.loads(event.body) for event in page.events]
    return {"events": told, "next": page.next, "reflects": _reflects(page.reflects)}


def after_pool_object(answer: AfterPoolAnswer) -> dict[str, Any]:
    calls = [{"pool_ended": call.pool, "why": call.why, **usage_object(call.usage)} for call in answer.calls]
    return {"charge_micros": answer.charge_micros, "calls": calls, "reflects": _reflects(answer.reflects)}


def recharge_object(recharge: Recharge) -> dict[str, Any]:
    told = asdict(recharge)
    for name in PLACED:
        told[name.removesuffix("_ms") + "_at"] = _instant(told.pop(name))
    return told


def recharges_object(answer: RechargeAnswer) -> dict[str, Any]:
    return {"recharges": [recharge_object(one) for one in answer.recharges], "reflects": _reflects(answer.reflects)}


def daily_object(answer: DailyAnswer) -> dict[str, Any]:
    return {"days": [asdict(day) for day in answer.days], "reflects": _reflects(answer.reflects)}


def exported_object(exported: Exported) -> dict[str, Any]:
    return asdict(exported) | {"path": str(exported.path)}
