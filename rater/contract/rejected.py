"""Rejected records -> the bytes of `rejected-cdrs` and `rejected-commands`: reason, detail, the record's bytes, its place."""

from base64 import b64encode

import orjson

from rater.contract.scanner import BILLABLE, CALL_TYPE, CALLEE, CALLER, DISPOSITION, FIELDS, RECORD_ID, TENANT, USER
from rater.core.calls import CALL_TYPES, DISPOSITIONS
from rater.core.reasons import Reason

EXPECTED = dict.fromkeys(FIELDS, "text or null") | {
    FIELDS[RECORD_ID]: "1 to 128 printable ASCII characters",
    FIELDS[TENANT]: "[A-Za-z0-9][A-Za-z0-9._-]{0,63}",
    FIELDS[CALL_TYPE]: "one of " + " ".join(CALL_TYPES),
    FIELDS[USER]: "1 to 128 bytes of text without control characters",
    FIELDS[CALLER]: "+ and 3 to 15 digits, or null",
    FIELDS[CALLEE]: "+ and 3 to 15 digits",
    "start": "an instant such as 2026-11-03T13:30:00.200Z",
    "answer": "an instant such as 2026-11-03T13:30:12.700Z, or null",
    "end": "an instant such as 2026-11-03T13:32:47.250Z",
    FIELDS[BILLABLE]: "a whole number from 0 to 86400000",
    FIELDS[DISPOSITION]: "one of " + " ".join(DISPOSITIONS),
}

DETAILS = {
    Reason.NOT_JSON: "the bytes are not one JSON value in UTF-8",
    Reason.NOT_AN_OBJECT: "the JSON value is not an object",
    Reason.TOO_LARGE: "the record has more than 65536 bytes",
    Reason.DUPLICATE_KEY: "a key stands twice in one object",
    Reason.BAD_TIMES: "expected start <= answer <= end and billable_ms within 1500 of end - answer",
    Reason.KEY_MISMATCH: "the record key is not the tenant",
    Reason.UNKNOWN_TENANT: "no tenant.opened was applied for this tenant",
    Reason.CONFLICT: "this id was used before with other content",
    Reason.ALREADY_OPEN: "the tenant is open already",
    Reason.ALREADY_ASSIGNED: "this is assigned already, in the same place",
    Reason.NOT_ASSIGNED: "this is not assigned, or not there",
    Reason.NOT_IN_FLIGHT: "recharge_id: no such recharge is in flight",
    Reason.OUT_OF_RANGE: "the account would leave the range that is kept exact",
}


# A compressed record may inflate to more than a topic takes as a message (16 MiB); base64 adds a third.
RAW_BYTES_MAX = 8 << 20


def call_detail(reason: Reason, field: int) -> str:
    """A sentence about a call record's fault; it names the field, never its value."""
    if reason is Reason.MISSING_FIELD:
        return f"{FIELDS[field]}: missing"
    if reason is Reason.BAD_FIELD:
        return f"{FIELDS[field]}: expected {EXPECTED[FIELDS[field]]}"
    return DETAILS.get(reason, "")


def encode_rejection(reason: Reason, detail: str, raw: bytes, partition: int, offset: int) -> bytes:
    """One line of a rejected topic, without its line feed. Of a monster it keeps the beginning, and says so."""
    detail = detail or DETAILS.get(reason, "")
    if len(raw) > RAW_BYTES_MAX:
        detail = f"{detail}; of its {len(raw)} bytes the first {RAW_BYTES_MAX} are kept"
        raw = raw[:RAW_BYTES_MAX]
    return orjson.dumps(
        {
            "v": 1,
            "reason": reason.text,
            "detail": detail,
            "raw_b64": b64encode(raw).decode(),
            "input": [partition, offset],
        }
    )
