"""The contacts of `contacts.set`: who is told, where, in which language, of what.

Two forms of an address: an e-mail (the form of an HTML form's e-mail field: no quotes, no comments, no second line of a header
in it) and a webhook (http or https, printable ASCII). A fault names the place of the contact and never its address.
"""

import re
from typing import Any

from rater.contract.events import ANSWERS, EVENT_TYPES

CONTACTS_MAX = 50
ROLES_MAX = 20
LANGUAGES = ("en", "fr")
TYPES_TOLD = tuple(told for name in EVENT_TYPES.values() if (told := f"rater.{name}") not in ANSWERS)

_LABEL = "[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_EMAIL = re.compile(rf"(?=.{{3,254}}\Z)[A-Za-z0-9.!#$%&'*+/=?^_`{{|}}~-]{{1,64}}@{_LABEL}(?:\.{_LABEL})*")
_WEBHOOK = re.compile(r"(?=.{8,2000}\Z)https?://(?:[A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?(?:[/?][!-~]*)?")
_ROLE = re.compile(r"[^\x00-\x1f\x7f]{1,64}")


class BadContacts(Exception):
    """What is wrong with a list of contacts: `place`, and what was expected there."""

    def __init__(self, place: str, expected: str) -> None:
        super().__init__(f"{place}: expected {expected}")
        self.place, self.expected = place, expected


def _matching(value: Any, pattern: re.Pattern[str], place: str, expected: str) -> str:
    if not isinstance(value, str) or not pattern.fullmatch(value):
        raise BadContacts(place, expected)
    return value


def _address(contact: dict[str, Any], place: str) -> dict[str, str]:
    email, webhook = contact.get("email"), contact.get("webhook")
    if (email is None) == (webhook is None):
        raise BadContacts(place, "either `email` or `webhook`")
    if email is not None:
        return {"email": _matching(email, _EMAIL, f"{place}.email", "an address such as finance@contoso.example")}
    expected = "an address that begins with https:// or http://, at most 2000 characters"
    return {"webhook": _matching(webhook, _WEBHOOK, f"{place}.webhook", expected)}


def _language(value: Any, place: str) -> str:
    if value is None:
        return LANGUAGES[0]
    if not isinstance(value, str) or value not in LANGUAGES:
        raise BadContacts(f"{place}.language", "one of " + " ".join(LANGUAGES))
    return value


def _roles(value: Any, place: str) -> list[str]:
    expected = f"a list of at most {ROLES_MAX} words of 1 to 64 characters"
    if value is None:
        return []
    if not isinstance(value, list) or len(value) > ROLES_MAX:
        raise BadContacts(f"{place}.roles", expected)
    return list(dict.fromkeys(_matching(role, _ROLE, f"{place}.roles", expected) for role in value))


def _events(value: Any, place: str) -> list[str] | None:
    """The types a contact is told of; None, all of them, also those of later versions."""
    if value is None:
        return None
    if not isinstance(value, list) or not value:
        raise BadContacts(f"{place}.events", "a list of event types, or no `events` for all")
    for kind in value:
        if not isinstance(kind, str) or kind not in TYPES_TOLD:
            raise BadContacts(f"{place}.events", "event types such as " + " ".join(TYPES_TOLD[1:5]))
    return list(dict.fromkeys(value))


def _name(contact: dict[str, Any]) -> str:
    """What two contacts share that reach the same place: nobody means two mailboxes by Finance@ and finance@."""
    return str(contact.get("email", "")).lower() or str(contact["webhook"])


def read_contacts(value: Any) -> list[dict[str, Any]]:
    """Contacts with their defaults filled in, each once, in the order given. Raises `BadContacts`.

    [{"email": "a@b.example"}]  ->  [{"email": "a@b.example", "language": "en", "roles": [], "events": None}]
    """
    if not isinstance(value, list) or len(value) > CONTACTS_MAX:
        raise BadContacts("contacts", f"a list of at most {CONTACTS_MAX} contacts")
    found: dict[str, dict[str, Any]] = {}
    for k, contact in enumerate(value):
        place = f"contacts[{k}]"
        if not isinstance(contact, dict):
            raise BadContacts(place, "an object with `email` or `webhook`")
        read: dict[str, Any] = {
            **_address(contact, place),
            "language": _language(contact.get("language"), place),
            "roles": _roles(contact.get("roles"), place),
            "events": _events(contact.get("events"), place),
        }
        known = found.setdefault(_name(read), read)
        if known != read and {**known, "email": ""} != {**read, "email": ""}:
            raise BadContacts(place, "another address: this one stands in the list already, with other settings")
    return list(found.values())
