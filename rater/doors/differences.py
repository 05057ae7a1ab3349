"""What an audit says of two things that should be the same: the first field that differs, in one line."""

from typing import Any

import numpy as np
import orjson

from rater.contract.events import currency_text, row_name
from rater.core.state import State


class Difference(Exception):
    """The first place where the books, the log and the replay do not agree."""


def field_difference(found: bytes, wanted: bytes) -> str:
    """Of two lines of JSON: the first field of `wanted` that `found` has otherwise."""
    try:
        a, b = orjson.loads(found), orjson.loads(wanted)
    except orjson.JSONDecodeError:
        return ": the line is not JSON any more"
    if not isinstance(a, dict):
        return ": the line is not a JSON object any more"
    for key in b:
        if a.get(key) != b[key]:
            return f": {key} is {str(a.get(key))[:60]}, the replay gives {str(b[key])[:60]}"
    return ": other bytes than the replay's"


def owner(name: str, rows: Any, row: int, state: State) -> str:
    """` of tenant contoso` for a row that belongs to one."""
    account = row if name == "accounts" else int(rows[row].account)
    return f" of tenant {row_name(state.shelves['accounts'].rows[account])}" if account >= 0 else ""


def row_difference(kept: Any, replayed: Any, dtype: np.dtype[Any]) -> str:
    """The first field in which two rows differ."""
    for field_name in dtype.names or ():
        if np.any(kept[field_name] != replayed[field_name]):
            if field_name == "currency":
                return (
                    f": currency is {currency_text(kept.currency)}, the replay gives {currency_text(replayed.currency)}"
                )
            return f": {field_name} is {_shown(kept[field_name])}, the replay gives {_shown(replayed[field_name])}"
    return ": padding bytes differ"


def _shown(value: Any) -> str:
    """A field in one line."""
    numbers = value.tolist()
    if isinstance(numbers, list) and value.dtype == np.uint8:
        return repr(bytes(value).rstrip(b"\0"))[:60]
    return str(numbers)[:60]
