"""SipHash-2-4 with 128 bits against its authors' vectors, and the quick hash of content."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rater.core.hashing import folded, identity, mixed
from rater.core.words import as_buffer

# Aumasson and Bernstein, vectors_sip128: key 00 01 .. 0f, message 00 01 .. (n - 1), from n = 8 on. Our messages begin with
# one word, (kind << 56 | owner) in little-endian, so these are the lengths our function can say.
VECTORS = """
3b62a9ba6258f5610f83e264f31497b4 264499060ad9baabc47f8b02bb6d71ed 00110dc378146956c95447d3f3d0fbba
0151c568386b6677a2b4dc6f81e5dc18 d626b266905ef35882634df68532c125 9869e247e9c08b10d029934fc4b952f7
31fcefac66d7de9c7ec7485fe4494902 5493e99933b0a8117e08ec0f97cfc3d9 6ee2a4ca67b054bbfd3315bf85230577
473d06e8738db89854c066c47ae47740 a426e5e423bf4885294da481feaef723 78017731cf65fab074d5208952512eb1
9e25fc833f2290733e9344a5e83839eb 568e495abe525a218a2214cd3e071d12 4a29b54552d16b9a469c10528eff0aae
""".split()
KEY = np.frombuffer(bytes(range(16)), np.uint64)
MASK = (1 << 64) - 1


def siphash_128(key: bytes, message: bytes) -> bytes:
    """SipHash-2-4-128 as the paper and its reference describe it, in Python's own integers."""
    k0, k1 = int.from_bytes(key[:8], "little"), int.from_bytes(key[8:], "little")
    v = [k0 ^ 0x736F6D6570736575, k1 ^ 0x646F72616E646F6D ^ 0xEE, k0 ^ 0x6C7967656E657261, k1 ^ 0x7465646279746573]

    def rotated(value: int, bits: int) -> int:
        return (value << bits | value >> (64 - bits)) & MASK

    def rounds(count: int) -> None:
        for _ in range(count):
            v[0] = (v[0] + v[1]) & MASK
            v[2] = (v[2] + v[3]) & MASK
            v[1], v[3] = rotated(v[1], 13) ^ v[0], rotated(v[3], 16) ^ v[2]
            v[0] = rotated(v[0], 32)
            v[2] = (v[2] + v[1]) & MASK
            v[0] = (v[0] + v[3]) & MASK
            v[1], v[3] = rotated(v[1], 17) ^ v[2], rotated(v[3], 21) ^ v[0]
            v[2] = rotated(v[2], 32)

    padded = message + bytes(7 - len(message) % 8) + bytes([len(message) & 255])
    for at in range(0, len(padded), 8):
        word = int.from_bytes(padded[at : at + 8], "little")
        v[3] ^= word
        rounds(2)
        v[0] ^= word
    halves = b""
    for place, mark in ((2, 0xEE), (1, 0xDD)):
        v[place] ^= mark
        rounds(4)
        halves += (v[0] ^ v[1] ^ v[2] ^ v[3]).to_bytes(8, "little")
    return halves


def ours(message: bytes, key: np.ndarray = KEY) -> bytes:
    first = int.from_bytes(message[:8], "little")
    data = message[8:]
    high, low = identity(key[0], key[1], first >> 56, first & ((1 << 56) - 1), as_buffer(data), 0, len(data))
    return int(high).to_bytes(8, "little") + int(low).to_bytes(8, "little")


@pytest.mark.parametrize("length", range(8, 8 + len(VECTORS)))
def test_identities_are_siphash_by_its_authors_vectors(length: int):
    assert ours(bytes(range(length))).hex() == VECTORS[length - 8]
    assert siphash_128(bytes(range(16)), bytes(range(length))).hex() == VECTORS[length - 8]


@given(st.binary(min_size=16, max_size=16), st.integers(0, 7), st.integers(0, 2**31 - 1), st.binary(max_size=300))
def test_identities_are_siphash_for_any_key_and_name(key: bytes, kind: int, owner: int, name: bytes):
    message = (kind << 56 | owner).to_bytes(8, "little") + name
    assert ours(message, np.frombuffer(key, np.uint64)) == siphash_128(key, message)


def test_an_identity_does_not_look_beyond_its_name():
    noise = as_buffer(b"xxabcdefghijyy")
    clean = as_buffer(b"abcdefghij")
    assert identity(KEY[0], KEY[1], 2, 3, noise, 2, 12) == identity(KEY[0], KEY[1], 2, 3, clean, 0, 10)
    assert identity(KEY[0], KEY[1], 2, 3, clean, 0, 9) != identity(KEY[0], KEY[1], 2, 3, clean, 0, 10)


@pytest.mark.parametrize(("kind", "owner"), [(1, 0), (2, 0), (2, 1), (3, 1), (2, 256)])
def test_kind_and_owner_keep_equal_names_apart(kind: int, owner: int):
    name = as_buffer(b"same")
    others = [(1, 0), (2, 0), (2, 1), (3, 1), (2, 256)]
    found = {identity(KEY[0], KEY[1], k, o, name, 0, 4) for k, o in others}
    assert len(found) == len(others)


@given(st.binary(max_size=40), st.integers(0, 7))
def test_the_quick_hash_depends_on_the_bytes_and_not_on_their_place(data: bytes, shift: int):
    moved = as_buffer(b"#" * shift + data + b"#")
    assert folded(np.uint64(9), moved, shift, shift + len(data)) == folded(np.uint64(9), as_buffer(data), 0, len(data))


@given(st.binary(min_size=1, max_size=40), st.data())
def test_the_quick_hash_notices_one_changed_bit(data: bytes, draw: st.DataObject):
    bit = draw.draw(st.integers(0, 8 * len(data) - 1))
    other = (int.from_bytes(data, "little") ^ 1 << bit).to_bytes(len(data), "little")
    a, b = (folded(np.uint64(0), as_buffer(text), 0, len(text)) for text in (data, other))
    assert a != b


def test_lengths_count_so_that_trailing_zeros_do():
    hashes = {int(folded(np.uint64(0), as_buffer(bytes(n)), 0, n)) for n in range(40)}
    assert len(hashes) == 40


def test_mixing_loses_nothing():
    values = [int(mixed(np.uint64(k))) for k in range(2000)]
    assert len(set(values)) == 2000
