"""Call records: bytes -> rows, without a Python object per record.

The scanner reads one flat JSON object in any key order and is strict: whatever it is not sure of (an escape, a byte beyond
ASCII, a nested value, a fraction, a fault) it leaves to the slow reader (`contract.reader`), which decides alone whether
the record is bad and hands back a canonical form that the scanner then reads as `trusted`. So every field is checked in
one place, here.

Reading is bounded twice: the buffer is padded with zero bytes, which end every token, and no token is read from a place
at or after its record's end. That replaces per-index checks in the byte loops (see docs/engine.md).
"""

from typing import Any

import numpy as np

from rater.core.calls import CALL_TYPES, DISPOSITIONS
from rater.core.compiled import kernel
from rater.core.hashing import folded
from rater.core.instants import BAD_INSTANT, NEVER_MS, parsed_instant
from rater.core.reasons import BAD_FIELD, BAD_TIMES, MISSING_FIELD, NOT_JSON, TOO_LARGE
from rater.core.words import PADDING, head_of, special_bytes, text_words, trailing_zeros, word

U8 = np.uint64

RECORD_BYTES_MAX = 65_536
BILLABLE_MS_MAX = 86_400_000
MEASURE_TOLERANCE_MS = 1_500
ID_LENGTH_MAX = 128
TENANT_LENGTH_MAX = 64

# In the order of the contract's example: the first fault in this order is the one reported.
FIELDS = (
    "record_id", "tenant", "call_type", "user", "caller", "callee", "start", "answer", "end", "billable_ms", "disposition",
    "call_id", "conference_id", "source", "switch", "forwarded_by",
)  # fmt: skip
RECORD_ID, TENANT, CALL_TYPE, USER, CALLER, CALLEE, START, ANSWER, END, BILLABLE, DISPOSITION = range(11)
FIRST_OPTIONAL = CALL_ID = 11
FIELD_COUNT = len(FIELDS)
WHOLE_RECORD = -1

FIELD_WORDS = np.array([text_words(name.encode(), 2) for name in FIELDS], np.uint64)
FIELD_MASKS = np.array([text_words(b"\xff" * len(name), 2) for name in FIELDS], np.uint64)
FIELD_LENGTHS = np.array([len(name) for name in FIELDS], np.int64)
TYPE_WORDS = np.array([text_words(name.encode(), 3) for name in CALL_TYPES], np.uint64)
TYPE_LENGTHS = np.array([len(name) for name in CALL_TYPES], np.int64)
DISPOSITION_WORDS = np.array([text_words(name.encode(), 2) for name in DISPOSITIONS], np.uint64)
DISPOSITION_LENGTHS = np.array([len(name) for name in DISPOSITIONS], np.int64)
NEEDS_USER = np.array([name.startswith(("user_", "conf_")) for name in CALL_TYPES], np.bool_)

# How a record stands after a scan (`call.reason`); a `Reason` above 0 is a rejection.
READ, UNSURE = 0, -1

# What kind of value a member has.
ABSENT, STRING, INTEGER, NULL, OTHER = 0, 1, 2, 3, 4

UNKNOWN_KEYS_MAX = 16  # more unknown members than this go to the slow reader, which sees duplicate keys among them
KEY_SEED, VALUE_SEED = U8(0x51ED270B0D6C4B3F), U8(0xA0761D6478BD642F)
WORD_NULL, WORD_TRUE, WORD_FALSE = (U8(text_words(t, 1)[0]) for t in (b"null", b"true", b"false"))


def scan_scratch() -> tuple[Any, Any, Any, Any]:
    """What a scan notes of the record at hand: kind, first and last place of each field, and unknown keys."""
    places = (np.zeros(FIELD_COUNT, np.int64), np.zeros(FIELD_COUNT, np.int64), np.zeros(FIELD_COUNT, np.int64))
    return (*places, np.zeros(UNKNOWN_KEYS_MAX, np.uint64))


QUOTE, COMMA, COLON, OPEN, CLOSE, BACKSLASH, PLUS = 34, 44, 58, 123, 125, 92, 43


@kernel
def byte_at(buffer: Any, at: Any) -> Any:
    """One byte as a signed number; the caller stays within the padded buffer."""
    return np.int64(word(buffer, at) & U8(255))


@kernel
def after_space(buffer: Any, at: Any, end: Any) -> Any:
    """The next place that is not JSON white space."""
    while at < end:
        c = byte_at(buffer, at)
        if c > 32 or (c != 32 and c != 10 and c != 13 and c != 9):
            return at
        at += 1
    return at


@kernel
def plain_string_end(buffer: Any, at: Any, end: Any) -> Any:
    """The closing quote of a string of printable ASCII without escapes that begins at `at`; -1 for any other."""
    while at < end:
        marks = special_bytes(word(buffer, at))
        if marks != U8(0):
            at += trailing_zeros(marks) >> 3
            return at if at < end and byte_at(buffer, at) == QUOTE else -1
        at += 8
    return -1


@kernel
def any_string_end(buffer: Any, at: Any, end: Any) -> Any:
    """The closing quote of a string that a JSON library wrote."""
    while at < end:
        c = byte_at(buffer, at)
        if c == QUOTE:
            return at
        at += 2 if c == BACKSLASH else 1
    return -1


@kernel
def nested_end(buffer: Any, at: Any, end: Any) -> Any:
    """The place after an object or array that a JSON library wrote."""
    depth = 0
    while at < end:
        c = byte_at(buffer, at)
        if c == QUOTE:
            at = any_string_end(buffer, at + 1, end)
            if at < 0:
                return -1
        elif c == OPEN or c == 91:
            depth += 1
        elif c == CLOSE or c == 93:
            depth -= 1
            if depth == 0:
                return at + 1
        at += 1
    return -1


@kernel
def is_number_character(c: Any) -> Any:
    return 48 <= c <= 57 or c == 43 or c == 45 or c == 46 or c == 69 or c == 101


@kernel
def value_of(buffer: Any, at: Any, end: Any, trusted: Any) -> Any:
    """(kind, first place inside, place after it inside, place after the value); kind ABSENT where the scanner is unsure."""
    c = byte_at(buffer, at)
    if c == QUOTE:
        close = any_string_end(buffer, at + 1, end) if trusted else plain_string_end(buffer, at + 1, end)
        return (STRING, at + 1, close, close + 1) if close >= 0 else (ABSENT, at, at, at)
    if 48 <= c <= 57:
        stop = at + 1
        while stop < end and 48 <= byte_at(buffer, stop) <= 57:
            stop += 1
        follows = byte_at(buffer, stop)
        if c == 48 and stop > at + 1:
            return ABSENT, at, at, at
        if follows != 46 and follows != 101 and follows != 69:
            return INTEGER, at, stop, stop
    elif head_of(word(buffer, at), 4) == WORD_NULL:
        return NULL, at, at + 4, at + 4
    elif head_of(word(buffer, at), 4) == WORD_TRUE:
        return OTHER, at, at + 4, at + 4
    elif head_of(word(buffer, at), 5) == WORD_FALSE:
        return OTHER, at, at + 5, at + 5
    if not trusted:
        return ABSENT, at, at, at
    if c == OPEN or c == 91:
        stop = nested_end(buffer, at, end)
        return (OTHER, at, stop, stop) if stop >= 0 else (ABSENT, at, at, at)
    stop = at
    while stop < end and is_number_character(byte_at(buffer, stop)):
        stop += 1
    return (OTHER, at, stop, stop) if stop > at else (ABSENT, at, at, at)


@kernel
def is_field(buffer: Any, start: Any, field: Any) -> Any:
    """Does the key that begins here name this very field? Records keep to one order, so the next one is tried first."""
    if field >= FIELD_COUNT or (word(buffer, start) & FIELD_MASKS[field, 0]) != FIELD_WORDS[field, 0]:
        return False
    if (word(buffer, start + 8) & FIELD_MASKS[field, 1]) != FIELD_WORDS[field, 1]:
        return False
    return byte_at(buffer, start + FIELD_LENGTHS[field]) == QUOTE


@kernel
def known_field(buffer: Any, start: Any, length: Any) -> Any:
    """Which field of the contract a key of this length names; -1 for an unknown one."""
    if length > 16 or length == 0:
        return -1
    first = head_of(word(buffer, start), min(length, 8))
    second = head_of(word(buffer, start + 8), length - 8) if length > 8 else U8(0)
    for field in range(FIELD_COUNT):
        if FIELD_LENGTHS[field] == length and FIELD_WORDS[field, 0] == first and FIELD_WORDS[field, 1] == second:
            return field
    return -1


@kernel
def scan_members(
    buffer: Any, at: Any, end: Any, kinds: Any, starts: Any, ends: Any, unknown_keys: Any, call: Any, trusted: Any
) -> Any:
    """Find every member of one object: READ or UNSURE. Content is the sum over members, so key order is no content."""
    for k in range(FIELD_COUNT):
        kinds[k] = ABSENT
    content, unknown, guess, first = U8(0), 0, 0, True
    at = after_space(buffer, at, end)
    if at >= end or byte_at(buffer, at) != OPEN:
        return UNSURE
    at = after_space(buffer, at + 1, end)
    while True:
        if at >= end:
            return UNSURE
        c = byte_at(buffer, at)
        if c == CLOSE:
            break
        if not first:
            if c != COMMA:
                return UNSURE
            at = after_space(buffer, at + 1, end)
            c = byte_at(buffer, at)
        first = False
        if at >= end or c != QUOTE:
            return UNSURE
        key = at + 1
        field = guess if is_field(buffer, key, guess) else -1
        if field >= 0:
            close = key + FIELD_LENGTHS[field]
        else:
            close = any_string_end(buffer, key, end) if trusted else plain_string_end(buffer, key, end)
            if close < 0:
                return UNSURE
            field = known_field(buffer, key, close - key)
        at = after_space(buffer, close + 1, end)
        if at >= end or byte_at(buffer, at) != COLON:
            return UNSURE
        at = after_space(buffer, at + 1, end)
        if at >= end:
            return UNSURE
        kind, start, stop, after = value_of(buffer, at, end, trusted)
        if kind == ABSENT or after > end:
            return UNSURE
        if field >= 0:
            if kinds[field] != ABSENT:
                return UNSURE
            kinds[field], starts[field], ends[field] = kind, start, stop
            content += folded(VALUE_SEED + U8(field), buffer, at, after)
            guess = field + 1
        else:
            name = folded(KEY_SEED, buffer, key, close)
            if not trusted:
                if unknown >= UNKNOWN_KEYS_MAX:
                    return UNSURE
                for k in range(unknown):
                    if unknown_keys[k] == name:
                        return UNSURE
                unknown_keys[unknown] = name
            unknown += 1
            content += folded(name, buffer, at, after)
        at = after_space(buffer, after, end)
    call.content = content ^ (content >> U8(32))
    call.unknown_fields = unknown
    return READ if after_space(buffer, at + 1, end) >= end else UNSURE


@kernel
def named(buffer: Any, start: Any, end: Any, words: Any, lengths: Any) -> Any:
    """The place of a short name in a table of words, or -1."""
    length = end - start
    width = words.shape[1]
    if length > 8 * width or length == 0:
        return -1
    for k in range(lengths.size):
        if lengths[k] == length:
            same = True
            for w in range(width):
                if length > 8 * w and words[k, w] != head_of(word(buffer, start + 8 * w), length - 8 * w):
                    same = False
            if same:
                return k
    return -1


@kernel
def printable_length(buffer: Any, start: Any, end: Any) -> Any:
    """How many printable ASCII characters a string's bytes spell, an escaped quote or backslash counting one; else -1."""
    count, at = 0, start
    while at < end:
        c = byte_at(buffer, at)
        if c < 32 or c > 126:
            return -1
        if c == BACKSLASH:
            at += 1
            follows = byte_at(buffer, at)
            if follows != QUOTE and follows != BACKSLASH:
                return -1
        at += 1
        count += 1
    return count


@kernel
def is_tenant_name(buffer: Any, start: Any, end: Any) -> Any:
    """`[A-Za-z0-9][A-Za-z0-9._-]{0,63}`"""
    if end <= start or end - start > TENANT_LENGTH_MAX:
        return False
    for at in range(start, end):
        c = byte_at(buffer, at)
        if not (48 <= c <= 57 or 65 <= c <= 90 or 97 <= c <= 122):
            if at == start or (c != 46 and c != 95 and c != 45):
                return False
    return True


@kernel
def is_number(buffer: Any, start: Any, end: Any) -> Any:
    """`+` and 3 to 15 ASCII digits."""
    if end - start < 4 or end - start > 16 or byte_at(buffer, start) != PLUS:
        return False
    for at in range(start + 1, end):
        c = byte_at(buffer, at)
        if c < 48 or c > 57:
            return False
    return True


@kernel
def is_user_name(buffer: Any, start: Any, end: Any) -> Any:
    """1 to 128 bytes of text without control characters (escaped quotes and backslashes count one)."""
    count, at = 0, start
    while at < end:
        c = byte_at(buffer, at)
        if c < 32 or c == 127:
            return False
        if c == BACKSLASH:
            at += 1
            follows = byte_at(buffer, at)
            if follows != QUOTE and follows != BACKSLASH:
                return False
        at += 1
        count += 1
    return 1 <= count <= ID_LENGTH_MAX


@kernel
def whole_number(buffer: Any, start: Any, end: Any, largest: Any) -> Any:
    """The digits' value, or -1 when above `largest`."""
    if end - start > 18:
        return -1
    value = 0
    for at in range(start, end):
        value = value * 10 + byte_at(buffer, at) - 48
    return value if value <= largest else -1


@kernel
def instant_field(buffer: Any, kind: Any, start: Any, end: Any) -> Any:
    return parsed_instant(buffer, start, end - start) if kind == STRING else BAD_INSTANT


@kernel
def check_fields(buffer: Any, kinds: Any, starts: Any, ends: Any, call: Any) -> Any:
    """Fill the row from the members found: (0, -1) or (reason, field) of the first fault in the order of FIELDS."""
    for field in range(FIRST_OPTIONAL):
        kind = kinds[field]
        if kind == ABSENT or (kind == NULL and field != CALLER and field != ANSWER and field != USER):
            if field != USER:
                return MISSING_FIELD, field
        if field == RECORD_ID:
            length = printable_length(buffer, starts[field], ends[field]) if kind == STRING else -1
            if length < 1 or length > ID_LENGTH_MAX:
                return BAD_FIELD, field
            call.record_at, call.record_end = starts[field], ends[field]
        elif field == TENANT:
            if kind != STRING or not is_tenant_name(buffer, starts[field], ends[field]):
                return BAD_FIELD, field
            call.tenant_at, call.tenant_end = starts[field], ends[field]
        elif field == CALL_TYPE:
            code = named(buffer, starts[field], ends[field], TYPE_WORDS, TYPE_LENGTHS) if kind == STRING else -1
            if code < 0:
                return BAD_FIELD, field
            call.call_type = code
        elif field == USER:
            call.user_at, call.user_end = -1, -1
            if kind == ABSENT or kind == NULL:
                if NEEDS_USER[call.call_type]:
                    return MISSING_FIELD, field
            elif kind != STRING or not is_user_name(buffer, starts[field], ends[field]):
                return BAD_FIELD, field
            else:
                call.user_at, call.user_end = starts[field], ends[field]
        elif field == CALLER:
            call.caller_at, call.caller_end = -1, -1
            if kind != NULL:
                if kind != STRING or not is_number(buffer, starts[field], ends[field]):
                    return BAD_FIELD, field
                call.caller_at, call.caller_end = starts[field] + 1, ends[field]
        elif field == CALLEE:
            if kind != STRING or not is_number(buffer, starts[field], ends[field]):
                return BAD_FIELD, field
            call.callee_at, call.callee_end = starts[field] + 1, ends[field]
        elif field == BILLABLE:
            value = whole_number(buffer, starts[field], ends[field], BILLABLE_MS_MAX) if kind == INTEGER else -1
            if value < 0:
                return BAD_FIELD, field
            call.billable_ms = value
        elif field == DISPOSITION:
            code = -1
            if kind == STRING:
                code = named(buffer, starts[field], ends[field], DISPOSITION_WORDS, DISPOSITION_LENGTHS)
            if code < 0:
                return BAD_FIELD, field
            call.disposition = code
        elif field == ANSWER and kind == NULL:
            call.answer_ms = NEVER_MS
        else:
            instant = instant_field(buffer, kind, starts[field], ends[field])
            if instant == BAD_INSTANT:
                return BAD_FIELD, field
            if field == START:
                call.start_ms = instant
            elif field == ANSWER:
                call.answer_ms = instant
            else:
                call.end_ms = instant
    for field in range(FIRST_OPTIONAL, FIELD_COUNT):
        kind = kinds[field]
        if kind != ABSENT and kind != STRING and kind != NULL:
            return BAD_FIELD, field
    call.call_id_at, call.call_id_end = -1, -1
    if kinds[CALL_ID] == STRING:
        call.call_id_at, call.call_id_end = starts[CALL_ID], ends[CALL_ID]
    return READ, WHOLE_RECORD


@kernel
def times_agree(call: Any) -> Any:
    """start <= answer <= end, and the measured duration within 1.5 s of end - answer."""
    if call.start_ms > call.end_ms:
        return False
    if call.answer_ms == NEVER_MS:
        return True
    if call.start_ms > call.answer_ms or call.answer_ms > call.end_ms:
        return False
    return abs(call.end_ms - call.answer_ms - call.billable_ms) <= MEASURE_TOLERANCE_MS


@kernel
def scan(buffer: Any, starts: Any, ends: Any, calls: Any, first: Any, count: Any, trusted: Any, scratch: Any) -> Any:
    """Read `count` records from the `first` on into their rows; how many the slow reader must see."""
    kinds, value_starts, value_ends, unknown_keys = scratch
    unsure = 0
    for r in range(first, first + count):
        start, end = starts[r], ends[r]
        call = calls[r]
        call.field = WHOLE_RECORD
        call.unknown_fields = 0
        if start < 0 or end < start or end + PADDING > buffer.size:
            call.reason = NOT_JSON
            continue
        if not trusted and end - start > RECORD_BYTES_MAX:
            call.reason = TOO_LARGE
            continue
        status = scan_members(buffer, start, end, kinds, value_starts, value_ends, unknown_keys, call, trusted)
        if status == UNSURE:
            call.reason = UNSURE
            unsure += 1
            continue
        reason, field = check_fields(buffer, kinds, value_starts, value_ends, call)
        if reason == READ and not times_agree(call):
            reason = BAD_TIMES
        call.reason, call.field = reason, field
    return unsure
