"""Which messages an event gives, and to whom.

Mail goes out for the kinds a person acts on; a webhook gets every event it asked for, as the event is. `balance.zero` and
`service.blocked` come together where the gate refuses: two events, one mail. The second says which calls stopped, so the
first waits a moment for it (`Message.pair`) and goes out alone only where no calls are refused.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from rater.contract.events import ANSWERS
from rater.notify.contacts import EMAIL, Contact
from rater.notify.events import Event
from rater.notify.naming import message_key

# The kind of a mail is the name of its templates.
RECHARGE_SUCCEEDED, RECHARGE_FAILED = "recharge_succeeded", "recharge_failed"
BALANCE_ZERO, SERVICE_BLOCKED, SERVICE_RESTORED = "balance_zero", "service_blocked", "service_restored"
POOL_REACHED, LOT_EXPIRING, LOT_EXPIRED = "pool_reached", "lot_expiring", "lot_expired"
MONTH_CLOSED, RATE_MISSING, DIGEST = "month_closed", "rate_missing", "digest"

KIND_OF = {
    "rater.recharge.succeeded": RECHARGE_SUCCEEDED,
    "rater.recharge.failed": RECHARGE_FAILED,
    "rater.balance.zero": BALANCE_ZERO,
    "rater.service.blocked": SERVICE_BLOCKED,
    "rater.service.restored": SERVICE_RESTORED,
    "rater.pool.reached": POOL_REACHED,
    "rater.lot.expiring": LOT_EXPIRING,
    "rater.lot.expired": LOT_EXPIRED,
    "rater.month.closed": MONTH_CLOSED,
    "rater.rate.missing": RATE_MISSING,
}
KINDS = (*KIND_OF.values(), DIGEST)

# Of concern to whoever runs the rater, who alone can add a rate; never to a tenant.
FOR_OPERATOR = frozenset({"rater.rate.missing"})
# Either event is the news that the credits are gone.
_ALSO = {"rater.balance.zero": "rater.service.blocked", "rater.service.blocked": "rater.balance.zero"}
PAIR_WAIT_MS = 400
OPERATOR = "*operator*"  # no tenant's name begins with an asterisk


@dataclass(frozen=True, slots=True)
class Message:
    """One event for one recipient.

    `scope` is what may stand together in one digest: a tenant, or `OPERATOR`. `pair`: messages of one pair to one recipient
    are one mail; "" where there is none. `wait_ms` is how long the other of the pair is waited for.
    """

    key: str
    event: Event
    channel: str
    address: str
    language: str
    kind: str
    scope: str
    pair: str = ""
    wait_ms: int = 0


def messages_of(event: Event, contacts: Iterable[Contact], operator: Contact | None = None) -> list[Message]:
    """One message a recipient, each recipient once, in the order of the list."""
    found: dict[str, Message] = {}
    for contact in contacts:
        if _goes_to(event, contact):
            message = _message(event, contact, event.tenant)
            found.setdefault(message.key, message)
    if operator is not None and event.type in FOR_OPERATOR:
        message = _message(event, operator, OPERATOR)
        found.setdefault(message.key, message)
    return list(found.values())


def _goes_to(event: Event, contact: Contact) -> bool:
    if event.type in ANSWERS:  # however the contact's list reads
        return False
    if contact.channel != EMAIL:
        return contact.wants(event.type)
    if event.type not in KIND_OF or event.type in FOR_OPERATOR:
        return False
    also = _ALSO.get(event.type)
    return contact.wants(event.type) if also is None else contact.wants(event.type, also)


def _message(event: Event, contact: Contact, scope: str) -> Message:
    paired = contact.channel == EMAIL and event.type in _ALSO
    kind = KIND_OF.get(event.type, "") if contact.channel == EMAIL else event.type
    return Message(
        key=message_key(event.id, contact.channel, contact.address),
        event=event,
        channel=contact.channel,
        address=contact.address,
        language=contact.language,
        kind=kind,
        scope=scope,
        pair=f"{event.tenant}/{event.account_version}" if paired else "",
        wait_ms=PAIR_WAIT_MS if paired and event.type == "rater.balance.zero" else 0,
    )


def one_mail_a_pair(messages: Iterable[Message]) -> Iterator[Message]:
    """Messages of events in their order, none of which is still to come: of a pair only the one that says all.

    `balance.zero` is held until its change of the account is over; `service.blocked` of the same change takes its place.
    """
    held: dict[str, Message] = {}
    change: tuple[str, int] | None = None
    for message in messages:
        found = message.event.tenant, message.event.account_version
        if found != change:
            yield from held.values()
            held, change = {}, found
        if message.wait_ms:
            held[message.address] = message
        else:
            if message.pair:
                held.pop(message.address, None)
            yield message
    yield from held.values()
