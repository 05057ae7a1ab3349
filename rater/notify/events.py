"""An account event as the messages need it: the CloudEvent of `account-events`, read strictly enough to rely on.

What cannot be read is refused with `EventRefused`; the sentence names what was found and carries nothing of the content.
"""

from dataclasses import dataclass
from typing import Any

import orjson


class EventRefused(Exception):
    """Not an event this house writes; the text says which part."""


@dataclass(frozen=True, slots=True)
class Event:
    """One CloudEvent. `body` are its bytes as they came; `data` is never changed."""

    id: str
    type: str
    tenant: str
    time: str
    data: dict[str, Any]
    body: bytes

    @property
    def account_version(self) -> int:
        """0 where the event does not say."""
        version = self.data.get("account_version")
        return version if isinstance(version, int) else 0


def read_event(body: bytes) -> Event:
    """The event in these bytes; raises `EventRefused`."""
    try:
        told = orjson.loads(body)
    except orjson.JSONDecodeError:
        raise EventRefused(f"{len(body)} bytes are no JSON; expected a CloudEvent") from None
    if not isinstance(told, dict):
        raise EventRefused("found JSON that is no object; expected a CloudEvent")
    for name in ("id", "type", "subject", "time"):
        if not isinstance(told.get(name), str) or not told[name]:
            raise EventRefused(f"the CloudEvent has no text in '{name}'")
    if not isinstance(told.get("data"), dict):
        raise EventRefused("the CloudEvent has no object in 'data'")
    return Event(told["id"], told["type"], told["subject"], told["time"], told["data"], body)
