"""Bearer tokens: 256 random bits each, kept as their SHA-256, so that whoever reads the file can use none of them.

A token looks like `rater_1f2e3d4c_...`: its id, which may be shown, and its secret, which is shown once. A password would need a
slow hash; 256 random bits cannot be guessed, however fast.
"""

import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass
from typing import Any

from rater.doors.http.database import ApiProblem, Database

READ, FUNDS, ADMIN, AUTHORIZE = "read", "funds", "admin", "authorize"
# A switch asks whether a call may start and nothing else: its token shows no balance to whoever takes it.
RIGHTS = {
    READ: {READ},
    FUNDS: {READ, FUNDS},
    ADMIN: {READ, FUNDS, ADMIN, AUTHORIZE},
    AUTHORIZE: {AUTHORIZE},
}
SCOPES = tuple(RIGHTS)
EVERY_TENANT = "*"
TENANT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
LABEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._@-]{0,63}")
_TOKEN = re.compile(r"rater_([0-9a-f]{8})_([A-Za-z0-9_-]{43})")


@dataclass(frozen=True, slots=True)
class Caller:
    """Whose token it is: what it may do, for which tenants."""

    token_id: str
    label: str
    scope: str
    tenants: tuple[str, ...]

    def may(self, scope: str) -> bool:
        return scope in RIGHTS[self.scope]

    def knows(self, tenant: str) -> bool:
        return EVERY_TENANT in self.tenants or tenant in self.tenants


def _hash(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()


class Tokens:
    """The tokens of a database; a revoked one is refused from the next request on."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def create(
        self, label: str, scope: str, tenants: tuple[str, ...], now_ms: int, expires_ms: int | None = None
    ) -> str:
        """The token's text, which nobody can read again. Raises `ApiProblem`."""
        if not LABEL.fullmatch(label):
            raise ApiProblem(f"the label is '{label[:64]}'; expected 1 to 64 letters, digits, spaces or . _ @ -")
        if scope not in SCOPES or not tenants:
            raise ApiProblem(f"expected a scope of {' '.join(SCOPES)} and at least one tenant (* for all)")
        for tenant in tenants:
            if tenant != EVERY_TENANT and not TENANT.fullmatch(tenant):
                raise ApiProblem(f"tenant '{tenant[:64]}' is no name of a tenant; expected for example contoso, or *")
        token_id, secret = secrets.token_hex(4), secrets.token_urlsafe(32)
        self._database.write(
            "insert into tokens values (?, ?, ?, ?, ?, ?, ?, null)",
            (token_id, label, scope, " ".join(tenants), _hash(secret), now_ms, expires_ms),
        )
        return f"rater_{token_id}_{secret}"

    def caller(self, text: str, now_ms: int) -> Caller | None:
        """Who comes with this token; None for any that is unknown, revoked or expired."""
        match = _TOKEN.fullmatch(text)
        if match is None:
            return None
        rows = self._database.read(
            "select label, scope, tenants, hash, expires_ms, revoked_ms from tokens where id = ?", (match[1],)
        )
        known = rows[0][3] if rows else bytes(32)
        if not hmac.compare_digest(known, _hash(match[2])) or not rows:
            return None
        label, scope, tenants, _, expires_ms, revoked_ms = rows[0]
        if revoked_ms is not None or (expires_ms is not None and expires_ms <= now_ms):
            return None
        return Caller(match[1], label, scope, tuple(tenants.split()))

    def revoke(self, token_id: str, now_ms: int) -> None:
        changed = self._database.write(
            "update tokens set revoked_ms = ? where id = ? and revoked_ms is null", (now_ms, token_id)
        )
        if not changed:
            raise ApiProblem(f"no token in force has the id '{token_id[:20]}'; rater api token list shows them")

    def listed(self) -> list[dict[str, Any]]:
        names = ("id", "label", "scope", "tenants", "made_ms", "expires_ms", "revoked_ms")
        rows = self._database.read(f"select {', '.join(names)} from tokens order by made_ms, id")
        return [dict(zip(names, row, strict=True)) | {"tenants": row[3].split()} for row in rows]
