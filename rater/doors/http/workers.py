"""Asking the workers: the one that owns a tenant's partition answers, the others say that it is not theirs.

Which one it is is remembered, and found again when partitions move. While they do, or while a batch is on its way, the question waits,
for so long and no longer.
"""

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol
from urllib.parse import quote

import aiohttp

from rater.doors.http.reflects import Marks, behind
from rater.doors.questions import Away
from rater.doors.settings.secret import Secret

DEADLINE_S = 8.0
ONE_S = 6.0  # a worker waits up to 5 s for a batch on its way
CONNECT_S = 1.0
AGAIN_S = 0.1
OWNERS_MAX = 100_000
ANSWER_BYTES_MAX = 64 << 20  # an account of a hundred thousand users

log = logging.getLogger("rater.api")


@dataclass(frozen=True, slots=True)
class Seen:
    """One answer: the account (None: no such tenant), where the state stands, and the verdict on a command that was asked about."""

    account: dict[str, Any] | None
    reflects: dict[str, int]
    command: str | None = None

    @property
    def marks(self) -> Marks:
        told = self.reflects
        number = told["partition"]
        return {
            ("batch", number): told["batch"],
            ("cdrs", number): told["next_cdr"],
            ("account-commands", number): told["next_command"],
        }


class Live(Protocol):
    """Whoever knows the committed accounts."""

    async def ask(self, tenant: str, least: Marks, command: tuple[str, int] | None = None) -> Seen:
        """An answer that does not go back behind `least`. Raises `Away` when there is none in time.

        `command`: (id, content): was this command applied?
        """


class Workers:
    """The workers of a deployment, by their addresses (`http://host:port`)."""

    def __init__(
        self,
        addresses: Sequence[str],
        secret: Secret | None,
        now_s: Callable[[], float],
        deadline_s: float = DEADLINE_S,
    ) -> None:
        self._addresses, self._now_s, self._deadline_s = list(addresses), now_s, deadline_s
        self._headers = {} if secret is None else {"Authorization": f"Bearer {secret.reveal()}"}
        self._owners: OrderedDict[str, str] = OrderedDict()
        self._session: aiohttp.ClientSession | None = None

    async def open(self) -> None:
        timeout = aiohttp.ClientTimeout(total=ONE_S, sock_connect=CONNECT_S)
        self._session = aiohttp.ClientSession(
            timeout=timeout, headers=self._headers, connector=aiohttp.TCPConnector(limit=64), trust_env=False
        )

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()

    async def ask(self, tenant: str, least: Marks, command: tuple[str, int] | None = None) -> Seen:
        until = self._now_s() + self._deadline_s
        why = "no worker is known"
        while True:
            for address in self._order(tenant):
                seen, told = await self._one(address, tenant, command)
                if seen is not None and not behind(seen.marks, least):
                    self._remember(tenant, address)
                    return seen
                why = told if seen is None else "what answers is behind an answer you had before"
            if self._now_s() + AGAIN_S >= until:
                log.warning(
                    "no worker answers for a tenant: %s", why, extra={"event": "live", "tenant": tenant, "reason": why}
                )
                raise Away("the worker of this tenant does not answer now; ask again in a moment")
            await asyncio.sleep(AGAIN_S)

    async def _one(self, address: str, tenant: str, command: tuple[str, int] | None) -> tuple[Seen | None, str]:
        """An answer, or why there is none."""
        assert self._session is not None
        query = {} if command is None else {"command_id": command[0], "content": str(command[1])}
        try:
            async with self._session.get(
                f"{address}/live/{quote(tenant, safe='')}", params=query, allow_redirects=False
            ) as answer:
                if answer.status not in (200, 404):
                    return None, _refusal(answer.status)
                if (answer.content_length or 0) > ANSWER_BYTES_MAX:
                    return None, "an account too large to be shown"
                told = await answer.json(content_type=None)
                return Seen(told.get("account"), told["reflects"], told.get("command")), ""
        except (aiohttp.ClientError, TimeoutError, ValueError, KeyError, TypeError, AttributeError) as problem:
            return None, f"a worker cannot be reached ({type(problem).__name__})"

    def _order(self, tenant: str) -> list[str]:
        owner = self._owners.get(tenant)
        return self._addresses if owner is None else [owner, *(one for one in self._addresses if one != owner)]

    def _remember(self, tenant: str, address: str) -> None:
        self._owners[tenant] = address
        self._owners.move_to_end(tenant)
        while len(self._owners) > OWNERS_MAX:
            self._owners.popitem(last=False)


def _refusal(status: int) -> str:
    told = {
        401: "a worker has another RATER_INTERNAL_SECRET than this API",
        421: "no worker owns the partition at the moment",
        503: "the partition is not being rated at the moment",
    }
    return told.get(status, f"a worker answers {status}")
