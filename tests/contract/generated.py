"""Call records as a switch might write them: any key order, white space, escapes, unknown fields, and now and then a fault."""

import json
from typing import Any

from hypothesis import strategies as st

from tests.workbench import call_record

GOOD = call_record("sw1:1:0", ms=61_000)

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
NUMBERS = st.one_of(
    st.integers(-5, 5), st.integers(-(2**63), 2**64), st.floats(allow_nan=False, allow_infinity=False), st.just(10**30)
)
VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), NUMBERS, TEXTS),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=5,
)
SPACES = st.text(" \t\r", max_size=3)

# What each field may say; most of it right, so that records come through.
FIELDS: dict[str, st.SearchStrategy[Any]] = {
    "record_id": st.sampled_from(["a", "sw1:3f:0", ' ~!"\\/', "x" * 128, "x" * 129, "", "é", "\x7f"]),
    "tenant": st.sampled_from(["contoso", "A.b_c-9", "x" * 64, "x" * 65, "", "-a", "a b", "té"]),
    "call_type": st.sampled_from(
        ["user_out", "conf_in", "dr_out_user_forwarding", "emergency", "USER_OUT", "user_ou", ""]
    ),
    "user": st.sampled_from([None, "u", "Jörg", 'q"\\', "x" * 128, "x" * 129, "", "a\tb", "\x7f"]),
    "caller": st.sampled_from([None, "+442079460018", "+123", "+12", "+1234567890123456", "442079460018", "+44 20"]),
    "callee": st.sampled_from(["+12125550123", "+112", "+1234567890123456", None, "12125550123", "+١٢٣٤"]),
    "start": st.sampled_from(["2026-11-03T12:00:00Z", "2026-11-03T12:00:00.5Z", "2026-11-03T12:00:60Z", None, "today"]),
    "answer": st.sampled_from([None, "2026-11-03T12:00:00.500Z", "2026-11-03T12:00:01Z", "2026-11-03"]),
    "end": st.sampled_from(["2026-11-03T12:01:01Z", "2026-11-03T12:01:01.000000001Z", "2026-11-03T11:59:59Z", 0]),
    "billable_ms": st.sampled_from(
        [0, 60_000, 61_000, 61_999, 86_400_000, 86_400_001, -1, 61_000.0, "61000", True, 10**25]
    ),
    "disposition": st.sampled_from(["answered", "busy", "ANSWERED", "", None]),
    "switch": st.one_of(st.none(), TEXTS, st.integers(0, 9)),
    "call_id": st.one_of(st.none(), TEXTS),
}


@st.composite
def spelled(draw: st.DrawFn, value: Any) -> str:
    """One JSON value in some spelling."""
    if isinstance(value, str):
        text = json.dumps(value, ensure_ascii=draw(st.booleans()))
        if draw(st.integers(0, 9)) == 0 and value:
            at = draw(st.integers(0, len(value) - 1))
            if value[at].isascii() and value[at] not in '"\\':
                text = json.dumps(value[:at])[:-1] + f"\\u{ord(value[at]):04X}" + json.dumps(value[at + 1 :])[1:]
        return text
    return json.dumps(value, ensure_ascii=draw(st.booleans()))


@st.composite
def record_bytes(draw: st.DrawFn) -> bytes:
    record = dict(GOOD)
    for name in draw(st.lists(st.sampled_from(sorted(FIELDS)), max_size=3)):
        record[name] = draw(FIELDS[name])
    for name in draw(st.lists(st.sampled_from(sorted(GOOD)), max_size=1)):
        if draw(st.integers(0, 4)) == 0:
            del record[name]
    record |= draw(st.dictionaries(TEXTS, VALUES, max_size=3))
    members = [(key, value) for key, value in record.items()]
    if draw(st.booleans()):
        members = draw(st.permutations(members))
    if draw(st.integers(0, 19)) == 0:
        members = [*members, draw(st.sampled_from(members))]
    space = (lambda: draw(SPACES)) if draw(st.integers(0, 2)) == 0 else (lambda: "")
    parts = [
        f"{space()}{draw(spelled(key))}{space()}:{space()}{draw(spelled(value))}{space()}" for key, value in members
    ]
    return (space() + "{" + ",".join(parts) + "}" + space()).encode()


@st.composite
def damaged_bytes(draw: st.DrawFn) -> bytes:
    """A record with a byte changed, taken out or put in."""
    data = bytearray(draw(record_bytes()))
    for _ in range(draw(st.integers(1, 2))):
        at = draw(st.integers(0, len(data) - 1))
        deed = draw(st.integers(0, 2))
        byte = draw(st.sampled_from([*b'"\\{}[],:0159.eE+-ntf \x00\x1f\x7f\x80\xff', draw(st.integers(0, 255))]))
        if deed == 0:
            data[at] = byte
        elif deed == 1 and len(data) > 1:
            del data[at]
        else:
            data.insert(at, byte)
    return bytes(data)
