"""Bytes, eight at a time: the machine instructions a fast scanner and writer need and numba does not offer by name.

`word` is one unaligned load, `trailing_zeros` one bit scan, `copy_bytes` one memory copy. All have a plain Python twin, used without compilation.
The caller guarantees that `start + 8` lies inside the buffer: every input buffer is padded by `PADDING` zero bytes.
"""

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from rater.core.compiled import COMPILES, kernel

PADDING = 64
_raw_memcpy: Any = cgutils.raw_memcpy
_function: Any = cgutils.get_or_insert_function

ONES = np.uint64(0x0101010101010101)
HIGHS = np.uint64(0x8080808080808080)
QUOTES = np.uint64(0x2222222222222222)
BACKSLASHES = np.uint64(0x5C5C5C5C5C5C5C5C)
SPACES = np.uint64(0x2020202020202020)
EIGHT = np.uint64(8)
SIXTY_FOUR = np.uint64(64)


def _word_plain(buffer: Any, start: int) -> Any:
    return np.uint64(int.from_bytes(bytes(buffer[start : start + 8]), "little"))


def _trailing_zeros_plain(value: Any) -> int:
    number = int(value)
    return 64 if number == 0 else (number & -number).bit_length() - 1


def _copy_plain(target: Any, at: int, source: Any, start: int, count: int) -> None:
    target[at : at + count] = source[start : start + count]


@intrinsic
def _copy(typingctx: Any, target: Any, at: Any, source: Any, start: Any, count: Any) -> Any:
    """Copy `count` bytes of one byte array into another: one memory copy, a few moves where the count is constant."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        to_type, at_type, from_type, start_type, count_type = signature.args
        to_array = context.make_array(to_type)(context, builder, args[0])
        from_array = context.make_array(from_type)(context, builder, args[2])
        to = builder.gep(to_array.data, [context.cast(builder, args[1], at_type, types.intp)])
        source_at = builder.gep(from_array.data, [context.cast(builder, args[3], start_type, types.intp)])
        _raw_memcpy(builder, to, source_at, context.cast(builder, args[4], count_type, types.intp), 1)
        return context.get_dummy_value()

    return types.none(target, at, source, start, count), code


@intrinsic
def _word(typingctx: Any, buffer: Any, start: Any) -> Any:
    """Eight bytes of the buffer from `start`, little-endian, as one unsigned number."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        array = context.make_array(signature.args[0])(context, builder, args[0])
        at = context.cast(builder, args[1], signature.args[1], types.intp)
        address = builder.gep(array.data, [at])
        loaded = builder.load(builder.bitcast(address, ir.IntType(64).as_pointer()))
        loaded.align = 1
        return loaded

    return types.uint64(buffer, start), code


@intrinsic
def _trailing_zeros(typingctx: Any, value: Any) -> Any:
    """How many low bits are 0: divided by 8, the place of the first marked byte of a word."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.cttz(args[0], cgutils.false_bit)

    return types.int64(types.uint64), code


def _prefetch_plain(array: Any, place: int, offset: int) -> None:
    """Plain Python has nothing to fetch ahead."""


@intrinsic
def _prefetch(typingctx: Any, array: Any, place: Any, offset: Any) -> Any:
    """Ask for the cache line `offset` bytes into one entry of an array. Nobody waits, and no place does harm."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        array_type, place_type, offset_type = signature.args
        data = context.make_array(array_type)(context, builder, args[0]).data
        size = context.get_constant(types.intp, context.get_abi_sizeof(context.get_data_type(array_type.dtype)))
        at = builder.mul(context.cast(builder, args[1], place_type, types.intp), size)
        at = builder.add(at, context.cast(builder, args[2], offset_type, types.intp))
        byte, number = ir.IntType(8).as_pointer(), ir.IntType(32)
        shape = ir.FunctionType(ir.VoidType(), [byte, number, number, number])
        fetch = _function(builder.module, shape, "llvm.prefetch.p0i8")
        builder.call(fetch, [builder.gep(builder.bitcast(data, byte), [at]), number(0), number(3), number(1)])
        return context.get_dummy_value()

    return types.none(array, place, offset), code


# numba types these by their arguments; to a type checker they are functions of anything.
copy_bytes: Any = _copy if COMPILES else _copy_plain
word: Any = _word if COMPILES else _word_plain
prefetch: Any = _prefetch if COMPILES else _prefetch_plain
trailing_zeros: Any = _trailing_zeros if COMPILES else _trailing_zeros_plain


@kernel
def special_bytes(value: Any) -> Any:
    """Mark (high bit) the bytes of a word that end or trouble a JSON string: quote, backslash, below space, above '~'.

    Only the lowest mark is exact (a borrow may mark a byte above a true one), which is all a scanner needs.
    """
    quote = value ^ QUOTES
    backslash = value ^ BACKSLASHES
    marks = (quote - ONES) & ~quote
    marks |= (backslash - ONES) & ~backslash
    marks |= (value - SPACES) & ~value
    marks |= value + ONES
    marks |= value
    return marks & HIGHS


@kernel
def head_of(value: Any, length: int) -> Any:
    """The first `length` bytes (0 to 8) of a word, the rest cleared."""
    if length >= 8:
        return value
    return value & ((np.uint64(1) << (np.uint64(length) * EIGHT)) - np.uint64(1))


def text_words(text: bytes, count: int) -> list[int]:
    """A short text as `count` little-endian words, padded with zeros: for tables of names a kernel compares."""
    padded = text.ljust(8 * count, b"\0")
    return [int.from_bytes(padded[8 * k : 8 * k + 8], "little") for k in range(count)]


def as_buffer(data: bytes) -> np.ndarray[Any, Any]:
    """Bytes as the padded, writable array that kernels read."""
    buffer = np.zeros(len(data) + PADDING, np.uint8)
    buffer[: len(data)] = np.frombuffer(data, np.uint8)
    return buffer
