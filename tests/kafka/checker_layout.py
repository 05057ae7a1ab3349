"""What the bytes of a state row mean, written down a second time: fields, places, and the hashes that name a row.

Whole numbers are 64 bits, little-endian, unless a width is given; between fields lie zero bytes where a C compiler would put
them; a row in the changelog has lost the zero bytes at its end. Nothing here comes from `rater`.
"""

import struct
from typing import Any

SHELVES = ("accounts", "lots", "users", "fleets", "pools", "numbers", "totals", "holds")
TENANT, USER, NUMBER, HOLD = 1, 6, 7, 8  # what a name is of
MASK = (1 << 64) - 1
COUNT = "q"
OWN = {"hash_0": "Q", "hash_1": "Q"}


def wholes(names: str) -> dict[str, str]:
    return dict.fromkeys(names.split(), COUNT)


LAYOUTS: dict[str, dict[str, str]] = {
    "accounts": OWN
    | wholes("""version lots_micros debt_micros invoice_micros trigger_micros recharge_micros wait_until_ms next_expiry_ms
                last_seen_ms closed_before first_lot lot_count recharges failures zero_crossings blocks conference_licences
                month month_calls month_connected month_charge_micros month_invoice_micros month_pool_minutes
                month_credit_minutes month_late hold_count currency country""")
    | {"billing_mode": "b", "overage": "b", "recharge_enabled": "b", "in_flight": "b", "blocked": "b"}
    | {"name_length": "xh", "name": "64s", "first_open_month": "q", "open_months": "q"}
    | wholes("first_hold held_micros next_hold_ms expired_holds"),
    "lots": wholes("account next left_micros amount_micros at_ms expires_ms")
    | {"name_length": "h", "warned": "b", "name": "136s"},
    "users": OWN
    | wholes("account held")
    | {"countries": "11q", "fleets": "11q", "name_length": "h", "name": "260s"},
    "fleets": OWN | wholes("account country plan assigned"),
    "pools": OWN | wholes("account user country plan scope month used held allotment announced"),
    "numbers": OWN | wholes("account country number_type assigned") | {"name_length": "h", "name": "16s"},
    "totals": OWN
    | wholes("""account month next calls connected charge_micros invoice_micros pool_minutes credit_minutes late told"""),
    "holds": OWN
    | wholes("account next previous pool pool_minutes micros at_ms expires_ms")
    | {"name_length": "h", "name": "260s"},
}  # fmt: skip

Fields = dict[str, Any]


def row_bytes(shelf: str, fields: Fields) -> bytes:
    """A row as the changelog has it. Every field must be given."""
    parts = []
    for name, code in LAYOUTS[shelf].items():
        value = fields[name]
        parts.append(struct.pack("<" + code, *(value if isinstance(value, list | tuple) else [value])))
    return b"".join(parts).rstrip(b"\0")


def row_size(shelf: str) -> int:
    return sum(struct.calcsize("<" + code) for code in LAYOUTS[shelf].values())


def fields_of(shelf: str, row: bytes) -> Fields | None:
    """The fields of a row as found, to say which one differs; None for more bytes than a row has."""
    size = row_size(shelf)
    if len(row) > size + 7:  # a C compiler fills a row up to a multiple of 8
        return None
    at, found = 0, {}
    padded = row.ljust(size + 8, b"\0")
    for name, code in LAYOUTS[shelf].items():
        several = struct.unpack_from("<" + code, padded, at)
        found[name] = several[0] if len(several) == 1 else list(several)
        at += struct.calcsize("<" + code)
    return found


# ---------------------------------------------------------------------------------------------- hashes


def rotated(value: int, bits: int) -> int:
    return ((value << bits) | (value >> (64 - bits))) & MASK


def siphash_rounds(v: list[int], count: int) -> None:
    for _ in range(count):
        v[0] = (v[0] + v[1]) & MASK
        v[1] = rotated(v[1], 13) ^ v[0]
        v[0] = rotated(v[0], 32)
        v[2] = (v[2] + v[3]) & MASK
        v[3] = rotated(v[3], 16) ^ v[2]
        v[0] = (v[0] + v[3]) & MASK
        v[3] = rotated(v[3], 21) ^ v[0]
        v[2] = (v[2] + v[1]) & MASK
        v[1] = rotated(v[1], 17) ^ v[2]
        v[2] = rotated(v[2], 32)


def siphash(key: bytes, message: bytes) -> tuple[int, int]:
    """SipHash-2-4 with 128 bits of output, after the paper: both halves of it as numbers."""
    k0, k1 = struct.unpack("<QQ", key)
    v = [0x736F6D6570736575 ^ k0, 0x646F72616E646F6D ^ k1 ^ 0xEE, 0x6C7967656E657261 ^ k0, 0x7465646279746573 ^ k1]
    last = len(message) % 8
    padded = message + bytes(7 - last) + bytes([len(message) & 0xFF])
    for (word,) in struct.iter_unpack("<Q", padded):
        v[3] ^= word
        siphash_rounds(v, 2)
        v[0] ^= word
    v[2] ^= 0xEE
    siphash_rounds(v, 4)
    first = v[0] ^ v[1] ^ v[2] ^ v[3]
    v[1] ^= 0xDD
    siphash_rounds(v, 4)
    return first, v[0] ^ v[1] ^ v[2] ^ v[3]


def name_hash(key: bytes, kind: int, owner: int, name: bytes) -> tuple[int, int]:
    """Of a tenant, or of what an account's row owns: the kind stands in the highest byte of a word before the name."""
    return siphash(key, struct.pack("<Q", kind << 56 | owner) + name)


def spread(value: int) -> int:
    """The finaliser of splitmix64."""
    value = ((value ^ value >> 30) * 0xBF58476D1CE4E5B9) & MASK
    value = ((value ^ value >> 27) * 0x94D049BB133111EB) & MASK
    return value ^ value >> 31


def number_hash(owner: int, low: int) -> tuple[int, int]:
    """Of a row that whole numbers name."""
    return spread((owner + spread(low)) & MASK), low
