"""Which messages an event gives, to whom, under which names."""

import orjson
import pytest

from rater.notify.contacts import EMAIL, WEBHOOK, Contact, Directory, contacts_of, is_address
from rater.notify.events import Event, EventRefused, read_event
from rater.notify.examples import example_events
from rater.notify.kinds import KIND_OF, OPERATOR, messages_of, one_mail_a_pair
from rater.notify.naming import message_id, message_key, spread
from rater.notify.retry import lane_delay_ms, retry_delay_ms

ANNE, BERT = Contact(EMAIL, "anne@example.com"), Contact(EMAIL, "bert@example.com", "fr")
HOOK = Contact(WEBHOOK, "https://example.com/hook")
BOSS = Contact(EMAIL, "noc@example.com")


def contacts_set(version: int, *contacts: dict[str, object], tenant: str = "contoso") -> Event:
    data = {"account_version": version, "contacts": list(contacts)}
    return Event(
        f"{tenant}/contacts.set/{version}", "rater.contacts.set", tenant, "2026-11-03T00:00:00.000Z", data, b"{}"
    )


@pytest.mark.parametrize("type_of", [name for name in KIND_OF if name != "rater.rate.missing"])
def test_each_contact_is_told_once_each_in_its_language(type_of: str):
    event = example_events(KIND_OF[type_of])[0]
    told = messages_of(event, [ANNE, BERT, HOOK, ANNE], BOSS)
    assert [(m.address, m.language, m.kind) for m in told] == [
        ("anne@example.com", "en", KIND_OF[type_of]),
        ("bert@example.com", "fr", KIND_OF[type_of]),
        ("https://example.com/hook", "en", type_of),
    ]
    assert len({m.key for m in told}) == 3


def test_a_missing_rate_is_for_the_operator_alone():
    told = messages_of(example_events("rate_missing")[0], [ANNE], BOSS)
    assert [(m.address, m.scope) for m in told] == [("noc@example.com", OPERATOR)]
    assert messages_of(example_events("rate_missing")[0], [ANNE]) == []


def test_a_contact_that_asked_for_some_events_gets_those():
    event = example_events("recharge_failed")[0]
    assert messages_of(event, [Contact(EMAIL, "a@b.c", "en", frozenset({"rater.pool.reached"}))]) == []
    assert len(messages_of(event, [Contact(EMAIL, "a@b.c", "en", frozenset({event.type}))])) == 1


def test_who_asked_for_balance_zero_gets_the_mail_that_says_what_stopped():
    contact = Contact(EMAIL, "a@b.c", "en", frozenset({"rater.balance.zero"}))
    blocked, zero = example_events("service_blocked")[0], example_events("balance_zero")[0]
    (first,), (second,) = messages_of(zero, [contact]), messages_of(blocked, [contact])
    assert first.pair == second.pair != ""
    assert first.wait_ms > 0 == second.wait_ms


def test_an_event_nobody_writes_mails_about_goes_to_webhooks_that_ask_for_it():
    event = Event("c/recharge.requested/1", "rater.recharge.requested", "c", "2026-11-03T00:00:00.000Z", {}, b"{}")
    assert [m.channel for m in messages_of(event, [ANNE, HOOK])] == [WEBHOOK]


def test_contacts_are_learned_in_the_order_of_the_account_whatever_the_order_of_reading():
    directory = Directory()
    newer = contacts_set(7, {"email": "new@example.com"})
    assert directory.learn(newer)
    assert not directory.learn(contacts_set(5, {"email": "old@example.com"}))
    assert not directory.learn(newer)
    assert [c.address for c in directory.of("contoso")] == ["new@example.com"]
    assert directory.of("other") == ()
    assert directory.learn(contacts_set(9))
    assert directory.of("contoso") == ()


@pytest.mark.parametrize(
    "address",
    ["", "a", "a@", "@b.c", "a b@c.d", "a@b.c\r\nRCPT TO:<x@y.z>", "a@b.c\n", "<a@b.c>", "a@b.c,x@y.z", "é@b.c", "a@b..c",
     "a@-b.c", 'a"@b.c', "a@" + "b" * 260 + ".c", "a@b.c\x00", "a\u2028@b.c"],
)  # fmt: skip
def test_what_is_no_plain_address_is_no_contact(address: str):
    assert not is_address(address)
    assert contacts_of(contacts_set(1, {"email": address})) == ()


@pytest.mark.parametrize(
    "item", [{}, {"email": 3}, {"webhook": "ftp://x"}, {"webhook": "https://a b"}, {"email": None}]
)
def test_what_is_no_contact_is_left_out(item: dict[str, object]):
    assert contacts_of(contacts_set(1, item, {"email": "a@b.c"})) == (Contact(EMAIL, "a@b.c"),)


def test_the_name_of_a_message_is_its_event_and_its_recipient_for_ever():
    key = message_key("contoso/balance.zero/1", EMAIL, "a@b.c")
    assert message_id(key, "example.com") == f"<{key}@example.com>"
    assert key == message_key("contoso/balance.zero/1", EMAIL, "a@b.c")
    others = {
        message_key("contoso/balance.zero/2", EMAIL, "a@b.c"),
        message_key("contoso/balance.zero/1", WEBHOOK, "a@b.c"),
        message_key("contoso/balance.zero/1", EMAIL, "b@b.c"),
        message_key("contoso/balance.zero/1e", "mail", "a@b.c"),
    }
    assert key not in others
    assert len(others) == 4


def test_retries_wait_longer_each_time_and_do_not_meet():
    waits = [retry_delay_ms(EMAIL, "k", n) for n in range(1, 9)]
    assert 4_000 <= waits[0] <= 6_000
    assert 48 * 60_000 <= waits[-1] <= 72 * 60_000
    assert len({retry_delay_ms(EMAIL, f"k{n}", 3) for n in range(100)}) > 90
    assert lane_delay_ms("mail", 50) <= 72_000
    assert 0 <= spread("k", 1) < 1


@pytest.mark.parametrize(
    "body",
    [b"", b"x", b"[]", b'{"id":"a"}', orjson.dumps({"id": "a", "type": "t", "subject": "s", "time": "x", "data": []})],
)
def test_what_is_no_event_is_refused_in_a_sentence(body: bytes):
    with pytest.raises(EventRefused, match="CloudEvent"):
        read_event(body)


def happened(kind: str, version: int, tenant: str = "contoso") -> Event:
    known = example_events(kind)[0]
    return Event(
        f"{tenant}/{kind}/{version}", known.type, tenant, known.time, {**known.data, "account_version": version}, b"{}"
    )


@pytest.mark.parametrize(
    ("events", "expected"),
    [
        ([("balance_zero", 7), ("service_blocked", 7)], ["service_blocked"]),
        ([("balance_zero", 7), ("pool_reached", 7), ("service_blocked", 7)], ["pool_reached", "service_blocked"]),
        ([("balance_zero", 7)], ["balance_zero"]),
        ([("balance_zero", 7), ("service_blocked", 9)], ["balance_zero", "service_blocked"]),
        ([("balance_zero", 7), ("balance_zero", 9), ("service_blocked", 9)], ["balance_zero", "service_blocked"]),
    ],
)
def test_of_a_pair_only_the_mail_that_says_all_is_written(events: list[tuple[str, int]], expected: list[str]):
    told = [message for kind, version in events for message in messages_of(happened(kind, version), [ANNE, BERT])]
    assert [message.kind for message in one_mail_a_pair(told) if message.address == ANNE.address] == expected
    assert [message.kind for message in one_mail_a_pair(told) if message.address == BERT.address] == expected


def test_a_pair_is_of_one_tenant():
    told = [
        *messages_of(happened("balance_zero", 7), [ANNE]),
        *messages_of(happened("service_blocked", 7, "fabrikam"), [ANNE]),
    ]
    assert [message.kind for message in one_mail_a_pair(told)] == ["balance_zero", "service_blocked"]
