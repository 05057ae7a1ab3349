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


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise _DuplicateKey
    return found


def _whole(text: str) -> Any:
    """A whole number as itself, or as it is spelled where 64 bits do not hold it: a number of 5,000 digits costs nothing."""
    return int(text) if len(text) < 19 else orjson.Fragment(text)


_READER = json.JSONDecoder(object_pairs_hook=_unique, parse_int=_whole, parse_float=orjson.Fragment)


def read_slowly(raw: bytes) -> tuple[bytes, Any] | Reason:
    """(canonical bytes, the object) of a JSON object with unique keys, else why not.

    orjson judges the JSON (strict UTF-8, no NaN, no lone surrogate). The canonical form has its keys sorted, at every depth,
    and its fractions as they are spelled, so two writings of one object have one content.
    """
    if len(raw) > RECORD_BYTES_MAX:
        return Reason.TOO_LARGE
    try:
        value = orjson.loads(raw)
    except orjson.JSONDecodeError:
        return Reason.NOT_JSON
    if not isinstance(value, dict):
        return Reason.NOT_AN_OBJECT
    try:
        return orjson.dumps(_READER.decode(raw.decode()), option=orjson.OPT_SORT_KEYS), value
    except _DuplicateKey:
        return Reason.DUPLICATE_KEY
    except (RecursionError, ValueError, TypeError):
        return Reason.NOT_JSON  # nested deeper than any record: readable by no consumer we know
