"""Who is told: the contacts of a tenant, learned from `rater.contacts.set` and from nothing else.

The event replaces the tenant's whole list. It may come twice, or after a newer one (a partition is read again from an older
place): the version of the account decides which is newer.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from rater.notify.events import Event

EMAIL, WEBHOOK = "email", "webhook"
LANGUAGES = ("en", "fr")
CONTACTS_SET = "rater.contacts.set"

# What goes into an SMTP command and a header must not be able to end either: printable ASCII, no space, no list.
_LOCAL = r"[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}"
_DOMAIN = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,62})(?:\.[A-Za-z0-9](?:[A-Za-z0-9-]{0,62}))*"
_ADDRESS = re.compile(rf"{_LOCAL}@{_DOMAIN}")
_URL = re.compile(r"https?://[!-~]{1,2000}")


@dataclass(frozen=True, slots=True)
class Contact:
    """One recipient. `types`: the event types it asked for; None for all."""

    channel: str  # EMAIL or WEBHOOK
    address: str
    language: str = "en"
    types: frozenset[str] | None = None

    def wants(self, *types: str) -> bool:
        return self.types is None or not self.types.isdisjoint(types)


def is_address(text: str) -> bool:
    """Can mail be sent to it without any way to say more than an address?"""
    return len(text) <= 254 and _ADDRESS.fullmatch(text) is not None


def is_url(text: str) -> bool:
    return _URL.fullmatch(text) is not None


def contacts_of(event: Event) -> tuple[Contact, ...]:
    """The list a `rater.contacts.set` sets; what the engine would have refused is left out."""
    told = event.data.get("contacts")
    found = [_contact(item) for item in told if isinstance(item, dict)] if isinstance(told, list) else []
    return tuple(dict.fromkeys(contact for contact in found if contact is not None))


def _contact(item: dict[str, Any]) -> Contact | None:
    types = item.get("events")
    wanted = frozenset(t for t in types if isinstance(t, str)) if isinstance(types, list) else None
    language = item.get("language")
    language = language if language in LANGUAGES else LANGUAGES[0]
    email, url = item.get("email"), item.get("webhook")
    if isinstance(email, str) and is_address(email):
        return Contact(EMAIL, email, language, wanted)
    if isinstance(url, str) and is_url(url):
        return Contact(WEBHOOK, url, language, wanted)
    return None


class Directory:
    """The contacts of the tenants that this process reads."""

    def __init__(self) -> None:
        self._tenants: dict[str, tuple[int, tuple[Contact, ...]]] = {}

    def learn(self, event: Event) -> bool:
        """Take over the list unless a newer one is known; was it news?"""
        known = self._tenants.get(event.tenant)
        if known is not None and known[0] >= event.account_version:
            return False
        self._tenants[event.tenant] = (event.account_version, contacts_of(event))
        return True

    def of(self, tenant: str) -> tuple[Contact, ...]:
        known = self._tenants.get(tenant)
        return () if known is None else known[1]

    def forget(self, tenants: Iterable[str]) -> None:
        for tenant in tenants:
            self._tenants.pop(tenant, None)
