"""The mails of `rater rate`: made of what is committed, the same bytes however often, nobody's but the contacts'."""

import email
import shutil
from email.message import EmailMessage
from email.policy import default
from pathlib import Path
from typing import Any

import orjson
import pytest

from rater.doors.files.outbox import INDEX, MARK
from rater.notify.naming import message_key
from tests.doors.front import front, refused, told
from tests.faults.scenarios import calls, commands, contacts_commands, rates, write_lines


class Desk:
    """A deck, accounts, calls; and runs that may be told where to write."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.out, self.count = folder, folder / "out", 0
        self.deck = rates().write(folder)

    def rate(self, lines: list[bytes], *more: str, given: list[bytes] | None = None, out: Path | None = None) -> Any:
        self.count += 1
        file = write_lines(self.folder / f"calls-{self.count}.jsonl", lines)
        orders = write_lines(self.folder / f"commands-{self.count}.jsonl", given or [])
        return front(
            "rate", file, "--commands", orders, "--rates", self.deck, "--state", self.folder / "state.db",
            "--out", out or self.out, "--json", *more,
        )  # fmt: skip

    def outbox(self, out: Path | None = None) -> dict[str, bytes]:
        folder = (out or self.out) / "outbox"
        return {
            str(file.relative_to(folder)): file.read_bytes() for file in sorted(folder.rglob("*")) if file.is_file()
        }

    def mails(self, out: Path | None = None) -> dict[str, EmailMessage]:
        found = {
            name: email.message_from_bytes(data, policy=default)
            for name, data in self.outbox(out).items()
            if name.endswith(".eml")
        }
        return {name: mail for name, mail in found.items() if isinstance(mail, EmailMessage)}


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


def lists(tenant: str, version: int, *addresses: str, at: str = "2026-11-01T00:00:03Z") -> bytes:
    return orjson.dumps({
        "command_id": f"who-{version}", "tenant": tenant, "type": "contacts.set", "at": at, "by": "ops",
        "contacts": [{"email": address} for address in addresses],
    })  # fmt: skip


def with_contacts() -> list[bytes]:
    return commands() + contacts_commands()


# ---------------------------------------------------------------------------------------------- what is written


def test_each_event_is_one_mail_to_each_who_wants_it_under_its_own_name(desk: Desk):
    told(desk.rate(calls(), "--recharge", "decline", given=with_contacts()))
    mails = desk.mails()
    recipients = {str(mail["To"]) for mail in mails.values()}
    assert recipients == {"ana@contoso.example", "benoit@contoso.example", "new@fabrikam.example"}
    events = [orjson.loads(line) for line in (desk.out / "account-events.jsonl").read_bytes().splitlines()]
    listed = next(event for event in events if event["type"] == "rater.contacts.set" and event["subject"] == "contoso")
    failed = [e for e in events if e["type"] == "rater.recharge.failed" and e["subject"] == "contoso"
              and e["data"]["account_version"] > listed["data"]["account_version"]]  # fmt: skip
    assert failed
    for event in failed:
        key = message_key(event["id"], "email", "benoit@contoso.example")
        (mail,) = (mail for mail in mails.values() if mail["Message-ID"] == f"<{key}@rater.invalid>")
        assert str(mail["Content-Language"]) == "fr"
        assert [part.get_content_type() for part in mail.iter_parts()] == ["text/plain", "text/html"]
    assert len(mails) == len({str(mail["Message-ID"]) for mail in mails.values()})
    assert all(name.split("/")[0] in str(mail["To"]) for name, mail in mails.items())


def test_credits_that_are_used_up_are_one_mail_and_it_says_which_calls_stop(desk: Desk):
    told(desk.rate(calls(), given=with_contacts()))
    kinds = [name.split("-")[4] for name in desk.mails() if name.startswith("contoso/")]
    assert "service_blocked" in kinds
    assert "balance_zero" not in kinds


def test_without_contacts_there_is_no_outbox(desk: Desk):
    told(desk.rate(calls(), "--recharge", "approve", given=commands()))
    assert not (desk.out / "outbox").exists()


def test_the_page_shows_each_mail_in_a_frame_that_may_run_nothing(desk: Desk):
    told(desk.rate(calls(), "--recharge", "decline", given=with_contacts()))
    page = desk.outbox()[INDEX].decode()
    assert page.count("<iframe sandbox ") == len(desk.mails())
    assert "<script" not in page
    for name in desk.mails():
        assert f'href="{name}"' in page


# ---------------------------------------------------------------------------------------------- again, elsewhere


def test_in_one_run_or_in_many_the_mails_are_the_same(desk: Desk, tmp_path: Path):
    lines = calls()
    told(desk.rate(lines, "--recharge", "decline", given=with_contacts()))
    other = Desk(tmp_path / "other")
    told(other.rate(lines[:40], "--recharge", "decline", given=with_contacts()))
    told(other.rate(lines[40:], "--recharge", "decline"))
    assert other.mails().keys() == desk.mails().keys()
    assert {name: data for name, data in other.outbox().items() if name.endswith(".eml")} == {
        name: data for name, data in desk.outbox().items() if name.endswith(".eml")
    }


def test_mails_that_were_taken_away_are_written_again_to_the_lists_of_their_time(desk: Desk):
    told(
        desk.rate(
            calls()[:60],
            "--recharge",
            "decline",
            given=[*with_contacts(), lists("contoso", 1, "first@contoso.example")],
        )
    )
    told(desk.rate(calls()[60:], "--recharge", "decline", given=[lists("contoso", 2, "second@contoso.example")]))
    before = desk.outbox()
    assert {str(mail["To"]) for mail in desk.mails().values()} >= {"first@contoso.example", "second@contoso.example"}
    shutil.rmtree(desk.out / "outbox")
    told(desk.rate([]))
    assert desk.outbox() == before


def test_a_new_folder_knows_whom_an_earlier_one_was_told_of(desk: Desk):
    told(desk.rate(calls()[:40], given=with_contacts()))
    second = desk.folder / "second"
    told(desk.rate(calls()[40:], "--recharge", "decline", out=second))
    assert desk.mails(second)


def test_no_outbox_leaves_the_mails_to_a_later_run(desk: Desk, tmp_path: Path):
    told(desk.rate(calls(), "--recharge", "decline", "--no-outbox", given=with_contacts()))
    assert not (desk.out / "outbox").exists()
    told(desk.rate([]))
    other = Desk(tmp_path / "other")
    told(other.rate(calls(), "--recharge", "decline", given=with_contacts()))
    assert desk.mails().keys() == other.mails().keys() != set()


# ---------------------------------------------------------------------------------------------- what is refused


def test_somebody_elses_outbox_is_left_alone(desk: Desk):
    (desk.out / "outbox").mkdir(parents=True)
    (desk.out / "outbox" / "mine.eml").write_text("mine")
    assert f"holds no {MARK}, so no run made it" in refused(desk.rate(calls(), given=with_contacts()))
    shutil.move(desk.out / "outbox", desk.folder / "mine")
    desk.count -= 1  # the same command again
    told(desk.rate(calls(), given=with_contacts()))
    assert desk.mails()


def test_mails_of_other_events_are_not_gone_on_with(desk: Desk, tmp_path: Path):
    told(desk.rate(calls(), "--recharge", "decline", given=with_contacts()))
    other = Desk(tmp_path / "other")
    told(other.rate(calls(), given=with_contacts()))
    shutil.rmtree(other.out / "outbox")
    shutil.copytree(desk.out / "outbox", other.out / "outbox")
    assert "its mails are not those of" in refused(other.rate([]))
