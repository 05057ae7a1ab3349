"""What mails say, and what no mail can be made to say."""

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from rater.notify.contacts import LANGUAGES
from rater.notify.contexts import context_of, digest_context
from rater.notify.events import Event
from rater.notify.examples import example_context, example_events
from rater.notify.kinds import DIGEST, KINDS, OPERATOR
from rater.notify.rendering import Letter, Templates, TemplatesRefused

TEMPLATES = Templates()
EVERY = [(language, kind) for language in LANGUAGES for kind in KINDS]


class Words(HTMLParser):
    """The text of a page without its style sheet; counts tags that nobody wrote into a template."""

    def __init__(self) -> None:
        super().__init__()
        self.text: list[str] = []
        self.tags: list[str] = []
        self._silent = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:  # noqa: ARG002
        self.tags.append(tag)
        self._silent += tag in ("style", "title")

    def handle_endtag(self, tag: str) -> None:
        self._silent -= tag in ("style", "title")

    def handle_data(self, data: str) -> None:
        if not self._silent:
            self.text.append(data)


def words(html: str) -> str:
    reader = Words()
    reader.feed(html)
    return " ".join(" ".join(reader.text).split())


def letter(kind: str, language: str = "en", **data: object) -> Letter:
    event = example_events(kind)[0]
    changed = Event(event.id, event.type, event.tenant, event.time, event.data | data, event.body)
    return TEMPLATES.render(kind, language, context_of(changed))


@pytest.mark.parametrize(("language", "kind"), EVERY)
def test_every_mail_has_a_subject_a_text_and_a_page_for_light_and_dark(language: str, kind: str):
    for context in example_context(kind):
        made = TEMPLATES.render(kind, language, context)
        assert 10 < len(made.subject) <= 150
        assert "UTC" in made.text
        assert "prefers-color-scheme: dark" in made.html
        assert "width=device-width" in made.html
        assert f'lang="{language}"' in made.html
        assert "{{" not in made.text + made.html
        assert "None" not in words(made.html)


@pytest.mark.parametrize(("language", "kind"), [case for case in EVERY if case[1] != DIGEST])
def test_every_amount_of_the_text_stands_in_the_page_too(language: str, kind: str):
    for context in example_context(kind):
        made = TEMPLATES.render(kind, language, context)
        amounts = re.findall(r"-?\$[\d,.]+\d|-?[\d\u202f]+,\d\d\u00a0\$US", made.text)
        page = "".join(words(made.html).split())
        assert [amount for amount in amounts if "".join(amount.split()) not in page] == []


def test_a_failed_recharge_says_why_and_what_to_do():
    made = letter("recharge_failed", reason="the card has expired")
    assert "Reason: the card has expired" in made.text
    assert "Check the payment method" in made.text
    assert "not before 3 November 2026, 13:47\u00a0UTC" in made.text
    assert "the card has expired" in words(made.html)


def test_balance_zero_names_what_stopped_and_what_still_works():
    made = letter("service_blocked", "fr")
    assert "Numéros gratuits d'accès aux conférences" in made.text
    assert "Les appels d\u2019urgence" in made.text
    assert "Que faire" in words(made.html)


def test_a_full_pool_and_a_nearly_full_one_are_told_apart():
    eighty, hundred = (TEMPLATES.render("pool_reached", "en", context) for context in example_context("pool_reached"))
    assert "80%" in eighty.subject
    assert "100%" in hundred.subject
    assert "used up" in hundred.text
    assert "used up" not in eighty.text.split("Pool:")[0]


EVIL = "</td><script>alert(1)</script>\r\nBcc: eve@example.com\r\n\r\n<b>\u202ebold\u2028{{ 7*7 }}"


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize(
    ("kind", "field"),
    [("recharge_failed", "reason"), ("recharge_failed", "recharge_id"), ("lot_expiring", "lot_id"), ("pool_reached", "pool"),
     ("rate_missing", "digits"), ("rate_missing", "record_id"), ("service_blocked", "call_types")],
)  # fmt: skip
def test_no_value_becomes_a_tag_a_header_or_a_template(language: str, kind: str, field: str):
    made = letter(kind, language, **{field: [EVIL] if field == "call_types" else EVIL})
    reader = Words()
    reader.feed(made.html)
    assert "script" not in reader.tags
    assert "b" not in reader.tags
    assert not re.search(r"[\r\n\u2028\u202e]", made.subject)
    assert "\nBcc:" not in made.text
    assert "49" not in made.subject


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_digest_escapes_what_it_lists(language: str):
    event = example_events("recharge_failed")[0]
    evil = Event(event.id, event.type, event.tenant, event.time, event.data | {"reason": EVIL}, event.body)
    made = TEMPLATES.render(DIGEST, language, digest_context("contoso", [evil, evil]))
    reader = Words()
    reader.feed(made.html)
    assert "script" not in reader.tags
    assert "alert(1)" in words(made.html)
    assert "\nBcc:" not in made.text


def test_a_reason_with_a_phone_number_loses_it():
    made = letter("recharge_failed", reason="call +44 20 7946 0018")
    assert "0018" not in made.text + made.html


def test_a_digest_counts_all_and_lists_the_newest():
    events = [
        Event(f"contoso/pool.reached/{n}", "rater.pool.reached", "contoso", f"2026-11-03T13:{n // 60:02}:{n % 60:02}.000Z",
              {"percent": 80, "pool": f"GB/MCOPSTN1/domestic/2026-11/u-{n}", "capacity": 10, "used": 8}, b"")
        for n in range(1000)
    ]  # fmt: skip
    made = TEMPLATES.render(DIGEST, "en", digest_context("contoso", events))
    assert "1,000 notifications" in made.subject
    assert "Pools of minutes: 1,000" in made.text
    assert "u-999" in made.text
    assert "u-959" not in made.text
    assert "and 960 earlier ones" in made.text


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_operator_is_not_told_to_be_a_tenants_contact(language: str):
    made = letter("rate_missing", language)
    for told in (made.text, words(made.html)):
        assert "operator" in told or "exploitant" in told
        assert "contacts of" not in told
        assert "les contacts de" not in told


def test_the_operators_digest_names_tenants_and_tells_no_balance():
    context = digest_context(OPERATOR, example_events("rate_missing"))
    assert context["tenant"] is None
    assert context["balance_micros"] is None
    assert "contoso: No rate for 8835…" in TEMPLATES.render(DIGEST, "en", context).text


# ---------------------------------------------------------------------------------------------- an operator's templates


def own(folder: Path, name: str, text: str) -> Path:
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(text, "utf-8")
    return folder


def test_an_operators_template_is_used_and_the_others_stay(tmp_path: Path):
    folder = own(
        tmp_path,
        "en/balance_zero.txt",
        "{% block subject %}Ours{% endblock %}{{ data.balance_micros | money(data.currency) }}",
    )
    templates = Templates(folder)
    (context,) = example_context("balance_zero")
    assert templates.render("balance_zero", "en", context).subject == "Ours"
    assert templates.render("balance_zero", "fr", context).subject.startswith("contoso : vos crédits")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("{% block subject %}x{% endblock %}\n{% if %}", "line 2"),
        ("{% block subject %}x{% endblock %}\n\n{{ data.blance_micros }}", "line 3"),
        ("{% block subject %}x{% endblock %}\n{{ data.balance_micros | mony }}", "line 2"),
        ("no subject", "block 'subject'"),
        ("{% block subject %} {% endblock %}", "subject is empty"),
        ("{% block subject %}x{% endblock %}{{ ''.__class__.__mro__ }}", "en/balance_zero.txt"),
    ],
)
def test_a_broken_template_is_refused_at_the_start_by_file_and_line(tmp_path: Path, text: str, told: str):
    with pytest.raises(TemplatesRefused) as refused:
        Templates(own(tmp_path, "en/balance_zero.txt", text))
    assert "balance_zero.txt" in str(refused.value)
    assert told in str(refused.value)


def test_a_template_that_no_message_has_is_refused(tmp_path: Path):
    with pytest.raises(TemplatesRefused, match=r"no message is called en/balance_null\.txt"):
        Templates(own(tmp_path, "en/balance_null.txt", "x"))


def test_an_operators_page_is_escaped_like_ours(tmp_path: Path):
    folder = own(tmp_path, "en/recharge_failed.html", "<p>{{ data.reason }}</p>")
    event = example_events("recharge_failed")[0]
    context = context_of(event) | {"data": event.data | {"reason": "<script>"}}
    assert Templates(folder).render("recharge_failed", "en", context).html == "<p>&lt;script&gt;</p>"


@pytest.mark.parametrize(
    ("language", "late", "said"),
    [
        ("en", 1, "1 of these calls was reported to us only after the month was closed"),
        ("en", 3, "3 of these calls were reported to us only after the month was closed"),
        ("fr", 1, "1 de ces appels ne nous est parvenu qu\u2019après la clôture ; il est signalé comme tardif."),
        ("fr", 3, "3 de ces appels ne nous sont parvenus qu\u2019après la clôture ; ils sont signalés comme tardifs."),
    ],
)
def test_late_calls_are_calls_of_the_month_that_came_after_it_was_closed(language: str, late: int, said: str):
    event = example_events("month_closed")[0]
    letter = TEMPLATES.render("month_closed", language, context_of(event) | {"data": event.data | {"late_calls": late}})
    assert said in letter.text
    assert said in letter.html
