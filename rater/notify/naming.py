"""Names that never change: a message is known by its event and its recipient, whoever computes it and how often.

A mail server, a mailbox or a receiver that has seen a name can drop a repeat; so can the outbox.
"""

import hashlib
from collections.abc import Iterable

_BYTES = 20


def _hash(*parts: str) -> str:
    """Parts are framed by their length: ("a", "bc") and ("ab", "c") differ."""
    framed = b"".join(b"%d:%b" % (len(raw), raw) for raw in (part.encode() for part in parts))
    return hashlib.sha256(framed).hexdigest()[: 2 * _BYTES]


def message_key(event_id: str, channel: str, address: str) -> str:
    """The key of the outbox: event and recipient."""
    return _hash("message", event_id, channel, address)


def digest_key(member_keys: Iterable[str]) -> str:
    return _hash("digest", *sorted(member_keys))


def message_id(key: str, domain: str) -> str:
    """`<...@calling.example>`: the Message-ID of a mail."""
    return f"<{key}@{domain}>"


def webhook_id(key: str) -> str:
    return f"msg_{key}"


def spread(key: str, attempt: int) -> float:
    """0 <= x < 1, evenly over keys: jitter that a test can foresee, so that 10,000 retries do not meet again."""
    return int(_hash("spread", key, str(attempt))[:8], 16) / 2**32
