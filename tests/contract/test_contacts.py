"""The contacts of a tenant: read once each, with their defaults; a fault names the place and never the address."""

from typing import Any

import orjson
import pytest

from rater.contract.contacts import CONTACTS_MAX, TYPES_TOLD, BadContacts, read_contacts
from tests.schema_check import SchemaMismatch, validate
from tests.streams import BAD_CONTACTS, CONTACTS

FINANCE = {"email": "finance@contoso.example"}


def as_command(contacts: Any) -> bytes:
    record = {"command_id": "c", "tenant": "contoso", "type": "contacts.set", "at": "2026-11-03T12:00:00Z", "by": None}
    return orjson.dumps(record | {"contacts": contacts})


def test_what_a_contact_leaves_out_is_filled_in():
    assert read_contacts([FINANCE, {"webhook": "https://hooks.example/x", "language": None, "note": "unknown"}]) == [
        {"email": "finance@contoso.example", "language": "en", "roles": [], "events": None},
        {"webhook": "https://hooks.example/x", "language": "en", "roles": [], "events": None},
    ]


def test_nobody_may_be_told():
    assert read_contacts([]) == []


def test_a_contact_that_stands_there_twice_is_told_once_however_its_address_is_spelled():
    again = {"email": "Finance@Contoso.example", "language": "en", "roles": []}
    assert [contact["email"] for contact in read_contacts([FINANCE, again, FINANCE])] == ["finance@contoso.example"]


@pytest.mark.parametrize("other", [{"language": "fr"}, {"roles": ["boss"]}, {"events": ["rater.balance.zero"]}])
def test_one_address_with_two_settings_is_refused_because_either_could_be_meant(other: dict[str, Any]):
    with pytest.raises(BadContacts, match=r"contacts\[1\]: .* other settings"):
        read_contacts([FINANCE, FINANCE | other])


def test_roles_and_events_are_kept_once_in_their_order():
    [read] = read_contacts(
        [FINANCE | {"roles": ["b", "a", "b"], "events": [TYPES_TOLD[4], TYPES_TOLD[0], TYPES_TOLD[4]]}]
    )
    assert read["roles"] == ["b", "a"]
    assert read["events"] == [TYPES_TOLD[4], TYPES_TOLD[0]]


def test_every_event_may_be_chosen_by_name():
    [read] = read_contacts([FINANCE | {"events": list(TYPES_TOLD)}])
    assert read["events"] == list(TYPES_TOLD)
    validate("account-commands", as_command([FINANCE | {"events": list(TYPES_TOLD)}]))


@pytest.mark.parametrize("contact", CONTACTS)
def test_a_good_contact_is_one_for_the_schema_too(contact: dict[str, Any]):
    assert len(read_contacts([contact])) == 1
    validate("account-commands", as_command([contact]))


GOOD_ALONE = ({"roles": ["other settings"]}, {"language": None, "roles": None, "events": None})


@pytest.mark.parametrize("wrong", [wrong for wrong in BAD_CONTACTS if wrong not in GOOD_ALONE])
def test_a_bad_contact_is_refused_by_its_place_and_by_the_schema(wrong: dict[str, Any]):
    with pytest.raises(BadContacts) as refused:
        read_contacts([{"email": "first@b.example"}, FINANCE | wrong])
    assert refused.value.place.startswith("contacts[1]")
    for value in (wrong.get("email"), wrong.get("webhook")):
        assert not isinstance(value, str) or len(value) < 9 or value not in str(refused.value)
    with pytest.raises(SchemaMismatch):
        validate("account-commands", as_command([FINANCE | wrong]))


@pytest.mark.parametrize("value", ["a@b.c", {}, {"email": "a@b.c"}, [None], ["a@b.c"], [[]], 7])
def test_what_is_no_list_of_contacts_is_refused(value: Any):
    with pytest.raises(BadContacts):
        read_contacts(value)


def test_fifty_contacts_are_enough():
    many = [{"email": f"a{k}@b.example"} for k in range(CONTACTS_MAX + 1)]
    assert len(read_contacts(many[:-1])) == CONTACTS_MAX
    with pytest.raises(BadContacts, match="a list of at most 50 contacts"):
        read_contacts(many)
