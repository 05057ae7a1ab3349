"""One call x its rate -> a charge: minutes, increments, and the money of the paid part.

Knows no balance. A call pays whole started minutes from a pool; the paid rest is measured in seconds raised to the
rate's increments (contract section 3, "The charge").
"""

from typing import Any

from rater.core.calls import ANSWERED
from rater.core.compiled import kernel
from rater.core.instants import NEVER_MS
from rater.core.money import charge_micros


@kernel
def is_connected(call: Any) -> Any:
    """Answered, said to be answered, and measured: never one field alone."""
    return call.answer_ms != NEVER_MS and call.disposition == ANSWERED and call.billable_ms > 0


@kernel
def billed_minutes(billable_ms: Any) -> Any:
    """Started minutes, at least 1: 59,999 ms and 60,000 ms are one minute, 60,001 ms two."""
    return max((billable_ms + 59_999) // 60_000, 1)


@kernel
def billable_seconds(billable_ms: Any, initial_s: Any, step_s: Any) -> Any:
    """Seconds the caller pays for once the rate's increments are applied: the initial block, then whole steps.

    rate 60/6    seconds     1   60   61   66   67
                 billable   60   60   66   66   72
    """
    seconds = (billable_ms + 999) // 1000
    beyond_s = max(seconds - initial_s, 0)
    return initial_s + (beyond_s + step_s - 1) // step_s * step_s


@kernel
def paid_part(
    billable_ms: Any,
    pool_minutes: Any,
    initial_s: Any,
    step_s: Any,
    rate_nanos: Any,
    fee_micros: Any,
    minimum_micros: Any,
) -> Any:
    """The charge for what the pool did not cover: the pool's whole minutes come off the raised seconds."""
    seconds = max(billable_seconds(billable_ms, initial_s, step_s) - 60 * pool_minutes, 0)
    return charge_micros(rate_nanos, seconds, fee_micros, minimum_micros)
