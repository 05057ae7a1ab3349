"""Text into an output buffer: bytes, whole numbers, and what a kernel has to say in words.

Each function takes the buffer and the next free place and returns the next free place. The caller has made sure that there
is room.
"""

from typing import Any

import numpy as np

from rater.core.compiled import kernel
from rater.core.words import copy_bytes


def fragment(text: str) -> np.ndarray[Any, Any]:
    """A constant text as the array a kernel copies."""
    return np.frombuffer(text.encode(), np.uint8).copy()


def fragments(texts: list[str]) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Several constant texts end to end, and their n + 1 boundaries."""
    data = [text.encode() for text in texts]
    return np.frombuffer(b"".join(data), np.uint8).copy(), np.cumsum([0] + [len(d) for d in data]).astype(np.int64)


@kernel
def put(out: Any, at: Any, text: Any) -> Any:
    copy_bytes(out, at, text, 0, text.size)
    return at + text.size


@kernel
def put_span(out: Any, at: Any, text: Any, start: Any, end: Any) -> Any:
    """`text[start:end]`"""
    copy_bytes(out, at, text, start, end - start)
    return at + end - start


@kernel
def put_choice(out: Any, at: Any, texts: Any, bounds: Any, choice: Any) -> Any:
    """One of several constant texts."""
    return put_span(out, at, texts, bounds[choice], bounds[choice + 1])


@kernel
def put_int(out: Any, at: Any, value: Any) -> Any:
    """A whole number in decimal digits."""
    if value < 0:
        out[at] = 45
        at += 1
        value = -value
    digits, rest = 1, value
    while rest >= 10:
        rest //= 10
        digits += 1
    place = at + digits
    while place > at:
        place -= 1
        tenth = value // 10
        out[place] = 48 + (value - tenth * 10)
        value = tenth
    return at + digits


@kernel
def put_country(out: Any, at: Any, country: Any) -> Any:
    """`"GB"`, or `null` for an unknown one."""
    if country == 0:
        out[at], out[at + 1], out[at + 2], out[at + 3] = 110, 117, 108, 108
    else:
        out[at], out[at + 1], out[at + 2], out[at + 3] = 34, country >> 8, country & 255, 34
    return at + 4


@kernel
def put_two(out: Any, at: Any, value: Any) -> Any:
    out[at] = 48 + value // 10
    out[at + 1] = 48 + value % 10
    return at + 2


@kernel
def put_month(out: Any, at: Any, month: Any) -> Any:
    """`2026-11`"""
    year = month // 12
    at = put_two(out, at, year // 100)
    at = put_two(out, at, year % 100)
    out[at] = 45
    return put_two(out, at + 1, month % 12 + 1)


@kernel
def put_escaped(out: Any, at: Any, text: Any, length: Any) -> Any:
    """Printable ASCII as the inside of a JSON string."""
    for k in range(length):
        if text[k] == 34 or text[k] == 92:
            out[at] = 92
            at += 1
        out[at] = text[k]
        at += 1
    return at
