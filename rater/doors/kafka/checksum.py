"""CRC-32C, the checksum of record batches, with the processor's own instruction where it has one (x86-64 with SSE 4.2).

A batch of rated calls is megabytes, and summing them in software is a good tenth of the work on a call.
"""

from typing import Any

import numba
import numpy as np
from aiokafka.record.util import calc_crc32c
from llvmlite import binding as llvm
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from rater.core.compiled import COMPILES, kernel
from rater.core.words import word

U8 = np.uint64
ALL = 0xFFFFFFFF
KERNEL_BYTES_MIN = 8_192  # less is summed sooner than a kernel is called

_config: Any = numba.config
_function: Any = cgutils.get_or_insert_function
# numba compiles for this very processor unless it is told of another
HAS_INSTRUCTION = bool(
    COMPILES
    and llvm.get_process_triple().startswith("x86_64")
    and llvm.get_host_cpu_features().get("sse4.2")
    and not (_config.CPU_NAME or _config.CPU_FEATURES)
)


def polynomial_table() -> np.ndarray[Any, Any]:
    """The sum of each single byte (Castagnoli's polynomial, bits reversed)."""
    table = np.arange(256, dtype=np.uint64)
    for _ in range(8):
        table = (table >> U8(1)) ^ (U8(0x82F63B78) * (table & U8(1)))
    return table


TABLE = polynomial_table()


@intrinsic
def _sum_word(typingctx: Any, total: Any, value: Any) -> Any:
    """Eight bytes more: one instruction."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        number = ir.IntType(64)
        shape = ir.FunctionType(number, [number, number])
        return builder.call(_function(builder.module, shape, "llvm.x86.sse42.crc32.64.64"), args)

    return types.uint64(types.uint64, types.uint64), code


sum_word: Any = _sum_word


@kernel
def summed(buffer: Any, total: Any) -> Any:
    """The running sum after all bytes of an array."""
    at, end = 0, buffer.size
    running = U8(total)
    while at + 8 <= end:
        running = sum_word(running, word(buffer, at))
        at += 8
    while at < end:
        running = TABLE[(running ^ U8(buffer[U8(at)])) & U8(255)] ^ (running >> U8(8))
        at += 1
    return running


def crc32c(head: bytes, body: bytes | memoryview) -> int:
    """Of `head` and `body`, one behind the other."""
    if not HAS_INSTRUCTION or len(body) < KERNEL_BYTES_MIN:
        return int(calc_crc32c(head + bytes(body)))
    running = int(calc_crc32c(head)) ^ ALL
    array = np.frombuffer(memoryview(body).toreadonly(), np.uint8)
    return int(summed(array, running)) ^ ALL
