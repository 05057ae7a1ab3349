"""The calls that `call.authorize` commands ask about: rows as the scanner makes them, and the buffer their places point into."""

from typing import Any

import numpy as np
import orjson

from rater.core.administration import CALL_AUTHORIZE
from rater.core.calls import CALL, CALL_TYPES
from rater.core.instants import NEVER_MS
from rater.core.words import PADDING

Array = np.ndarray[Any, Any]

TYPE_CODES = {name: code for code, name in enumerate(CALL_TYPES)}
_TEXTS = ("caller", "callee", "user", "call_id")


def json_text(value: str) -> bytes:
    """A text as a call record has it between its quotes."""
    return orjson.dumps(value)[1:-1]


def _bytes_of(name: str, value: str) -> bytes:
    return value[1:].encode() if name in ("caller", "callee") else json_text(value)


def questions_of(rows: Any, fields: list[dict[str, Any]]) -> tuple[Array, Array]:
    """(CALL rows, buffer) for the commands that ask; each gets the row of its `question`. The fields were checked when decoded."""
    asking = np.flatnonzero((rows.kind == CALL_AUTHORIZE) & (rows.reason == 0)).tolist()
    questions = np.zeros(len(asking), CALL).view(np.recarray)
    pieces, at = [], 0
    for number, place in enumerate(asking):
        rows[place].question = number
        asked, question = fields[place], questions[number]
        question.start_ms, question.answer_ms = rows[place].at_ms, NEVER_MS
        question.call_type = TYPE_CODES[asked["call_type"]]
        for name in _TEXTS:
            text = asked.get(name)
            if text is None:
                question[f"{name}_at"], question[f"{name}_end"] = -1, -1
                continue
            piece = _bytes_of(name, text)
            pieces.append(piece)
            question[f"{name}_at"], question[f"{name}_end"] = at, at + len(piece)
            at += len(piece)
    buffer = np.frombuffer(b"".join([*pieces, bytes(PADDING)]), np.uint8).copy()
    return questions, buffer
