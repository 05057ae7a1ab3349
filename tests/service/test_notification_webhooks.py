"""Webhooks at a real HTTP receiver: signed as the specification says, and never sent where they must not go."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.abc import AbstractResolver
from standardwebhooks import Webhook

from rater.doors.clock import wall_ms
from rater.doors.service.notification_outcome import Delivered, Later, Outcome, Refused
from rater.doors.service.webhook_addresses import AddressRefused, PublicResolver, is_public
from rater.doors.service.webhook_secrets import SecretsRefused, WebhookSecrets, read_secrets
from rater.doors.service.webhooks import WebhookRules, WebhookSender
from rater.notify.examples import example_events

OLD, NEW = "whsec_" + "b2xk" * 10, "whsec_" + "bmV3" * 10
EVENT = example_events("balance_zero")[0]
KEY = "ab" * 20


def secrets(folder: Path, text: str = f'[contoso]\nsecrets = ["{NEW}", "{OLD}"]\n') -> WebhookSecrets:
    file = folder / "webhooks.toml"
    file.write_text(text, "utf-8")
    return WebhookSecrets(file)


class Receiver:
    """Answers with `status`, keeps what came."""

    def __init__(self, status: int = 204, headers: dict[str, str] | None = None) -> None:
        self.status, self.headers = status, headers or {}
        self.got: list[tuple[dict[str, str], bytes]] = []
        self.url = ""

    async def __aenter__(self) -> "Receiver":
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._answer)
        self._runner = web.AppRunner(app)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}/hook"
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()

    async def _answer(self, request: web.Request) -> web.Response:
        self.got.append((dict(request.headers), await request.read()))
        return web.Response(status=self.status, headers=self.headers)


def with_receiver(
    receiver: Receiver, known: WebhookSecrets, then: Callable[[WebhookSender, str], Awaitable[Outcome]]
) -> Outcome:
    async def run() -> Outcome:
        async with receiver:
            sender = WebhookSender(known, WebhookRules(allow_private=True, timeout_s=5), wall_ms)
            try:
                return await then(sender, receiver.url)
            finally:
                await sender.close()

    return asyncio.run(run())


def post(sender: WebhookSender, url: str) -> Awaitable[Outcome]:
    return sender.send(url, "contoso", KEY, EVENT.body)


@pytest.mark.parametrize("secret", [OLD, NEW])
def test_a_receiver_with_either_secret_can_check_what_came(tmp_path: Path, secret: str):
    receiver = Receiver()
    assert with_receiver(receiver, secrets(tmp_path), post) == Delivered()
    ((headers, body),) = receiver.got
    assert Webhook(secret).verify(body, headers)["id"] == EVENT.id
    assert body == EVENT.body
    assert headers["Content-Type"].startswith("application/cloudevents+json")


def test_every_attempt_has_the_same_id(tmp_path: Path):
    receiver = Receiver(500)

    async def twice(sender: WebhookSender, url: str) -> Outcome:
        await post(sender, url)
        return await post(sender, url)

    assert with_receiver(receiver, secrets(tmp_path), twice) == Later("the receiver answered 500")
    assert [headers["webhook-id"] for headers, _ in receiver.got] == [f"msg_{KEY}"] * 2


@pytest.mark.parametrize(
    ("receiver", "expected"),
    [
        (Receiver(200), Delivered()),
        (Receiver(410), Refused("gone", "the receiver answered 410 Gone: it wants no more of these")),
        (Receiver(503, {"retry-after": "120"}), Later("the receiver answered 503", 120_000)),
        (Receiver(429, {"retry-after": "soon"}), Later("the receiver answered 429")),
        (Receiver(404), Later("the receiver answered 404")),
        (Receiver(302, {"location": "http://127.0.0.1/"}), Later("the receiver answered 302")),
    ],
)
def test_what_an_answer_means(tmp_path: Path, receiver: Receiver, expected: Outcome):
    assert with_receiver(receiver, secrets(tmp_path), post) == expected
    assert len(receiver.got) == 1


def test_a_receiver_that_is_not_there_is_asked_again_later(tmp_path: Path):
    async def nowhere(sender: WebhookSender, _url: str) -> Outcome:
        return await post(sender, "http://127.0.0.1:9/")

    assert isinstance(with_receiver(Receiver(), secrets(tmp_path), nowhere), Later)


def test_a_tenant_without_a_secret_is_sent_nothing(tmp_path: Path):
    receiver = Receiver()
    outcome = with_receiver(receiver, secrets(tmp_path), lambda sender, url: sender.send(url, "fabrikam", KEY, b"{}"))
    assert isinstance(outcome, Refused)
    assert outcome.reason == "no_webhook_secret"
    assert receiver.got == []


# ---------------------------------------------------------------------------------------------- where it may go


@pytest.mark.parametrize(
    "url",
    ["http://example.com/", "https://127.0.0.1/", "https://10.0.0.1/", "https://169.254.169.254/latest", "https://[::1]/",
     "https://[::ffff:127.0.0.1]/", "https://[fe80::1]/", "https://[64:ff9b::7f00:1]/", "https://[2002:7f00:1::]/", "https://0.0.0.0/",
     "https://192.168.1.1:8443/x", "https://100.64.0.1/", "https://224.0.0.1/", "https://[ff02::1]/", "https://[broken/"],
)  # fmt: skip
def test_a_private_address_is_refused_before_anything_is_sent(tmp_path: Path, url: str):
    async def run() -> Outcome:
        sender = WebhookSender(secrets(tmp_path), WebhookRules(timeout_s=1), wall_ms)
        try:
            return await post(sender, url)
        finally:
            await sender.close()

    outcome = asyncio.run(run())
    assert isinstance(outcome, Refused)
    assert outcome.reason == "address_refused"


@pytest.mark.parametrize("address", ["93.184.215.14", "2606:2800:21f:cb07:6820:80da:af6b:8b2c"])
def test_the_public_internet_is_public(address: str):
    assert is_public(address)


class Answers(AbstractResolver):
    """A name server that somebody else runs."""

    def __init__(self, *addresses: str) -> None:
        self._addresses = addresses

    async def resolve(self, host: str, port: int = 0, family: int = 0) -> list[object]:  # type: ignore[override]
        return [
            {"hostname": host, "host": a, "port": port, "family": family, "proto": 0, "flags": 0}
            for a in self._addresses
        ]

    async def close(self) -> None:
        pass


def test_a_name_that_leads_to_a_private_address_is_refused_even_among_public_ones():
    with pytest.raises(AddressRefused):
        asyncio.run(PublicResolver(Answers("93.184.215.14", "10.0.0.7")).resolve("example.com", 443))
    assert len(asyncio.run(PublicResolver(Answers("93.184.215.14")).resolve("example.com", 443))) == 1


def test_a_name_is_refused_by_the_sender_too(tmp_path: Path):
    async def run() -> Outcome:
        sender = WebhookSender(secrets(tmp_path), WebhookRules(timeout_s=5), wall_ms)
        try:
            return await post(sender, "https://localhost:1/")
        finally:
            await sender.close()

    assert asyncio.run(run()) == Refused(
        "address_refused", "the host leads to an address that is not on the public internet"
    )


# ---------------------------------------------------------------------------------------------- the file of secrets


@pytest.mark.parametrize(
    "text",
    ["x = ", "contoso = 1", "[contoso]\n", "[contoso]\nsecrets = []", '[contoso]\nsecrets = ["whsec_c2hvcnQ="]',
     '[contoso]\nsecrets = ["s3cret-not-base64"]', "[contoso]\nsecrets = [1]"],
)  # fmt: skip
def test_a_file_of_secrets_that_cannot_be_used_is_refused_without_showing_it(tmp_path: Path, text: str):
    with pytest.raises(SecretsRefused) as refused:
        secrets(tmp_path, text)
    assert "webhooks.toml" in str(refused.value)
    assert "s3cret" not in str(refused.value)


def test_a_changed_file_is_read_again_and_a_broken_one_changes_nothing(tmp_path: Path):
    known = secrets(tmp_path, f'[contoso]\nsecrets = ["{OLD}"]')
    file = tmp_path / "webhooks.toml"
    file.write_text(f'[contoso]\nsecrets = ["{NEW}", "{OLD}"]\n[fabrikam]\nsecrets = ["{NEW}"]', "utf-8")
    assert [s.reveal() for s in known.of("contoso")] == [NEW, OLD]
    assert len(known.of("fabrikam")) == 1
    file.write_text("broken =", "utf-8")
    assert len(known.of("contoso")) == 2
    assert NEW not in repr(read_secrets) + repr(known.of("contoso"))
