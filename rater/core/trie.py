"""A digit trie in arrays: built once, walked by `prefixes`.

A node is eleven numbers: the children of the digits 0 to 9 (0 is none; node 0 is a dummy) and the first row of the prefix
that ends here (-1 is none). Prefixes are entered in ascending order, so a number's path lies mostly side by side in memory.
"""

from typing import Any

import numpy as np

from rater.core.compiled import building_kernel

NODE_WIDTH = 11
ROW_AT = 10


@building_kernel
def build_trie(digits: Any, ends: Any) -> Any:
    """(nodes, next row of the same prefix) of prefixes laid end to end; the root is node 1.

    Rows of one prefix are chained in their order.
    """
    count = ends.size
    nodes = np.zeros((digits.size + 2, NODE_WIDTH), np.int32)
    following = np.full(count, -1, np.int32)
    nodes[0, ROW_AT] = -1
    nodes[1, ROW_AT] = -1
    latest = np.full(
        digits.size + 2, -1, np.int32
    )  # per node the end of its chain: ten thousand rows of one prefix are one walk
    used = 2
    start = 0
    for row in range(count):
        node = 1
        for at in range(start, ends[row]):
            digit = np.int64(digits[at]) - 48
            child = nodes[node, digit]
            if child == 0:
                child = used
                nodes[node, digit] = child
                nodes[child, ROW_AT] = -1
                used += 1
            node = child
        start = ends[row]
        if nodes[node, ROW_AT] < 0:
            nodes[node, ROW_AT] = row
        else:
            following[latest[node]] = row
        latest[node] = row
    return nodes[:used].copy(), following
