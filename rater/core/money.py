"""Money as whole micro-units: exact sums, one rounding.

An amount is a signed 64-bit count of millionths of the major unit: 1.25 EUR is 1_250_000. A rate is a count of
nano-units a minute: 0.0205 USD a minute is 20_500_000. Integer sums are exact, so the order of a batch cannot move a total.

A fraction appears only where a per-minute rate meets a number of seconds. It is rounded here, half up, once per charge.

Compiled integers wrap around in silence, so the doors refuse what could leave 64 bits:

    rate at most          10_000 a minute   = 10**13 nano-units
    connection fee at most     1_000_000    = 10**12 micro-units
    seconds at most   86_400 + 2 * 86_400   (the longest call, raised by the longest increments)
    rate * seconds  <= 2.6 * 10**18, fee * 60_000 <= 6 * 10**16, together below 2**63 = 9.2 * 10**18
    one movement of an account at most 10**15 micro-units; a balance, a debt or an invoice at most 4 * 10**18
"""

from typing import Any

from rater.core.compiled import kernel

MICROS = 1_000_000
RATE_NANOS_MAX = 10**13
FEE_MICROS_MAX = 10**12
AMOUNT_MICROS_MAX = 10**15
BALANCE_MICROS_MAX = 4 * 10**18

_NANO_SECONDS_PER_MICRO = 60_000  # nano-units a minute x seconds, in one micro-unit


@kernel
def charge_micros(rate_nanos: Any, seconds: Any, fee_micros: Any, minimum_micros: Any) -> Any:
    """Connection fee + rate x seconds / 60, not below the minimum, rounded half up to a micro-unit.

    rate 0.020500000 a minute, 120 s, no fee          41_000
    rate 0.000000025 a minute,  60 s, no fee               0 (0.025 micro-units)
    rate 0.000000500 a minute,  60 s, no fee               1 (exactly half goes up)
    """
    exact = fee_micros * _NANO_SECONDS_PER_MICRO + rate_nanos * seconds
    rounded = (exact + _NANO_SECONDS_PER_MICRO // 2) // _NANO_SECONDS_PER_MICRO
    return max(rounded, minimum_micros)
