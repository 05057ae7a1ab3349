"""Hashes: a keyed 128-bit one for identities, a quick 64-bit one for equal content.

SipHash-2-4 with 128 bits of output (Aumasson and Bernstein, 2012) names record ids, tenants, users and numbers: whoever
does not know the key of the state cannot choose two ids that meet in one slot. The quick one only tells whether a record
delivered again says the same thing; nobody gains by breaking it.
"""

from typing import Any

import numpy as np

from rater.core.compiled import COMPILES, kernel
from rater.core.words import head_of, word

if not COMPILES:
    np.seterr(over="ignore")  # unsigned arithmetic wraps on purpose; compiled code does so in silence

U8 = np.uint64
V0, V1 = U8(0x736F6D6570736575), U8(0x646F72616E646F6D)
V2, V3 = U8(0x6C7967656E657261), U8(0x7465646279746573)
MIX_1, MIX_2 = U8(0xBF58476D1CE4E5B9), U8(0x94D049BB133111EB)
GOLDEN = U8(0x9E3779B97F4A7C15)
FIFTY_SIX = U8(56)
THIRTY_TWO = U8(32)

# What an identity is about; kept apart so that a user may be called like a number or a lot.
KIND_TENANT, KIND_CALL, KIND_COMMAND, KIND_LOT, KIND_MISSING_RATE, KIND_USER, KIND_NUMBER, KIND_HOLD = (
    1,
    2,
    3,
    4,
    5,
    6,
    7,
    8,
)


@kernel
def _rotated(value: Any, bits: Any) -> Any:
    return (value << bits) | (value >> (U8(64) - bits))


@kernel
def _round(a: Any, b: Any, c: Any, d: Any) -> Any:
    a += b
    b = _rotated(b, U8(13)) ^ a
    a = _rotated(a, U8(32))
    c += d
    d = _rotated(d, U8(16)) ^ c
    a += d
    d = _rotated(d, U8(21)) ^ a
    c += b
    b = _rotated(b, U8(17)) ^ c
    c = _rotated(c, U8(32))
    return a, b, c, d


@kernel
def identity(key_0: Any, key_1: Any, kind: int, owner: int, buffer: Any, start: int, end: int) -> Any:
    """SipHash-2-4-128 of one word (kind and owning row) followed by `buffer[start:end]`: two 64-bit halves."""
    a, b = V0 ^ key_0, V1 ^ key_1 ^ U8(0xEE)
    c, d = V2 ^ key_0, V3 ^ key_1
    first = (U8(kind) << FIFTY_SIX) | U8(owner)
    d ^= first
    a, b, c, d = _round(a, b, c, d)
    a, b, c, d = _round(a, b, c, d)
    a ^= first
    at = start
    while at + 8 <= end:
        m = word(buffer, at)
        d ^= m
        a, b, c, d = _round(a, b, c, d)
        a, b, c, d = _round(a, b, c, d)
        a ^= m
        at += 8
    m = head_of(word(buffer, at), end - at) | (U8((end - start + 8) & 255) << FIFTY_SIX)
    d ^= m
    a, b, c, d = _round(a, b, c, d)
    a, b, c, d = _round(a, b, c, d)
    a ^= m
    c ^= U8(0xEE)
    for _ in range(4):
        a, b, c, d = _round(a, b, c, d)
    high = a ^ b ^ c ^ d
    b ^= U8(0xDD)
    for _ in range(4):
        a, b, c, d = _round(a, b, c, d)
    return high, a ^ b ^ c ^ d


@kernel
def mixed(value: Any) -> Any:
    """A 64-bit number spread over all its bits (the finaliser of splitmix64)."""
    value ^= value >> U8(30)
    value *= MIX_1
    value ^= value >> U8(27)
    value *= MIX_2
    return value ^ (value >> U8(31))


@kernel
def folded(seed: Any, buffer: Any, start: int, end: int) -> Any:
    """A quick hash of `buffer[start:end]`, continuing from `seed`."""
    value = seed ^ (U8(end - start) * GOLDEN)
    at = start
    while at + 8 <= end:
        value = (value ^ word(buffer, at)) * MIX_1
        value ^= value >> THIRTY_TWO
        at += 8
    if at < end:
        value = (value ^ head_of(word(buffer, at), end - at)) * MIX_1
        value ^= value >> THIRTY_TWO
    return value * MIX_2
