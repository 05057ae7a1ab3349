"""When a message is tried again, as plain tables: delays in seconds after the first, second ... failed attempt.

The last delay repeats until the message is too old. Jitter of up to a fifth either way comes from the message's own name.
"""

from rater.notify.contacts import WEBHOOK
from rater.notify.naming import spread

# A grey-listing server wants to be asked again after minutes; nobody is helped by a mail that waits half a day.
MAIL_DELAYS_S = (5, 60, 300, 900, 1_800, 3_600)
# The schedule that the Standard Webhooks specification recommends.
WEBHOOK_DELAYS_S = (5, 300, 1_800, 7_200, 18_000, 36_000, 50_400, 72_000, 86_400)
# A whole server that is away: asked often at first, then once a minute, so that an hour's outage ends within a minute.
LANE_DELAYS_S = (1, 2, 5, 10, 30, 60)

JITTER = 0.2


def _delay_ms(delays: tuple[int, ...], key: str, attempt: int) -> int:
    exact = delays[min(attempt, len(delays)) - 1] * 1000
    return int(exact * (1 - JITTER + 2 * JITTER * spread(key, attempt)))


def retry_delay_ms(channel: str, key: str, attempt: int) -> int:
    """After the `attempt`-th failure of this message, counted from 1."""
    return _delay_ms(WEBHOOK_DELAYS_S if channel == WEBHOOK else MAIL_DELAYS_S, key, attempt)


def lane_delay_ms(lane: str, failures: int) -> int:
    """After the `failures`-th time in a row that a whole server did not answer."""
    return _delay_ms(LANE_DELAYS_S, lane, failures)
