"""A payment provider as the recharge agent needs it: ask once, ask about it as often as needed.

`ledger` is embedded (`provider_ledger`), `http` any service that speaks a small protocol (`provider_http`), `stripe` Stripe
(`provider_stripe`).
"""

from collections.abc import Mapping
from typing import Protocol

from rater.recharge.answers import Answer, Unknown
from rater.recharge.requests import Request


class Unclear(Exception):
    """No answer that says anything: the provider may have the request or not. The text says what happened and what to look at."""


class CallbackRefused(Exception):
    """A callback that is not believed or not understood: an HTTP status and a sentence."""

    def __init__(self, status: int, sentence: str) -> None:
        self.status = status
        super().__init__(sentence)


class Provider(Protocol):
    """Whoever moves money. The recharge's id is the key under which it does so once."""

    name: str

    async def ask(self, request: Request) -> Answer:
        """Take the amount. Asked again with the same id, it answers what it answered. Raises `Unclear`."""

    async def status(self, request: Request, reference: str) -> Answer | Unknown:
        """What became of it; moves no money. Raises `Unclear`."""

    def callback(self, headers: Mapping[str, str], body: bytes, now_s: int) -> tuple[str, Answer]:
        """(recharge id, answer) of something the provider sent by itself. Raises `CallbackRefused`."""

    async def close(self) -> None:
        """No more questions."""
