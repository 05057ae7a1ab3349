"""The secrets that webhooks are signed with, by tenant, from a file of the operator (TOML):

    [contoso]
    secrets = ["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"]   # two while one replaces the other: both sign

The file is read again when it has changed; a change that cannot be read leaves what was known.
"""

import base64
import binascii
import logging
import tomllib
from pathlib import Path

from rater.doors.settings.secret import Secret

log = logging.getLogger("rater.notification")

LEAST_BYTES, MOST_BYTES = 24, 64  # as the Standard Webhooks specification asks


class SecretsRefused(Exception):
    """The file cannot be used; the text names the file and the tenant, never a secret."""


class WebhookSecrets:
    """Raises `SecretsRefused` for a file that cannot be used from the start."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._stamp: tuple[int, int] | None = None
        self._known: dict[str, tuple[Secret, ...]] = {}
        if path is not None:
            self._stamp = _stamp(path)
            self._known = read_secrets(path)

    def of(self, tenant: str) -> tuple[Secret, ...]:
        """Empty when the tenant has none."""
        self._refresh()
        return self._known.get(tenant, ())

    def _refresh(self) -> None:
        if self._path is None:
            return
        try:
            stamp = _stamp(self._path)
            if stamp != self._stamp:
                self._stamp = stamp
                self._known = read_secrets(self._path)
        except SecretsRefused as wrong:
            log.error("webhook secrets not read again: %s", wrong)


def _stamp(path: Path) -> tuple[int, int]:
    try:
        found = path.stat()
    except OSError as error:
        raise SecretsRefused(f"{path}: {error.strerror}; expected a TOML file of webhook secrets") from None
    return found.st_mtime_ns, found.st_size


def read_secrets(path: Path) -> dict[str, tuple[Secret, ...]]:
    try:
        told = tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise SecretsRefused(f"{path}: {error.strerror}; expected a TOML file of webhook secrets") from None
    except (UnicodeDecodeError, tomllib.TOMLDecodeError):
        # What the parser says may quote the line, and the line may be a secret.
        raise SecretsRefused(f'{path}: no TOML; expected [tenant] and secrets = ["whsec_..."]') from None
    return {tenant: _secrets_of(path, tenant, table) for tenant, table in told.items()}


def _secrets_of(path: Path, tenant: str, table: object) -> tuple[Secret, ...]:
    found = table.get("secrets") if isinstance(table, dict) else None
    if not isinstance(found, list) or not 1 <= len(found) <= 4 or not all(map(_is_secret, found)):
        raise SecretsRefused(
            f"{path}: [{tenant}] has no usable 'secrets'; expected a list of 1 to 4 texts, each whsec_ and {LEAST_BYTES} to "
            f"{MOST_BYTES} random bytes in base64, for example from: echo whsec_$(head -c 32 /dev/urandom | base64)"
        )
    return tuple(map(Secret, found))


def _is_secret(value: object) -> bool:
    if not isinstance(value, str) or not value.startswith("whsec_"):
        return False
    try:
        return LEAST_BYTES <= len(base64.b64decode(value.removeprefix("whsec_"), validate=True)) <= MOST_BYTES
    except binascii.Error:
        return False
