"""The slow reader: decides alone whether a record that the scanner was not sure of is bad.

It returns either the canonical form of the record (compact JSON, UTF-8, keys once), which the scanner then reads as trusted,
or the reason why there is none. It judges JSON, never fields: those are checked in one place, the scanner.
"""

import json
from typing import Any

import orjson

from rater.core.reasons import Reason

RECORD_BYTES_MAX = 65_536


class _DuplicateKey(ValueError):
    pass


def _unique(pairs: list[tuple[str, Any]]) -> None:
    if len({key for key, _ in pairs}) != len(pairs):
        raise _DuplicateKey


# Numbers stay text: the check is for keys, and a number of 5,000 digits must cost nothing.
_KEYS_ONLY = json.JSONDecoder(object_pairs_hook=_unique, parse_int=str, parse_float=str)


def read_slowly(raw: bytes) -> tuple[bytes, Any] | Reason:
    """(canonical bytes, the object) of a JSON object with unique keys, else why not."""
    if len(raw) > RECORD_BYTES_MAX:
        return Reason.TOO_LARGE
    try:
        value = orjson.loads(raw)
    except orjson.JSONDecodeError:
        return Reason.NOT_JSON
    if not isinstance(value, dict):
        return Reason.NOT_AN_OBJECT
    try:
        _KEYS_ONLY.decode(raw.decode())
        return orjson.dumps(value), value
    except _DuplicateKey:
        return Reason.DUPLICATE_KEY
    except (RecursionError, ValueError, TypeError):
        return Reason.NOT_JSON  # nested deeper than any record: readable by no consumer we know
