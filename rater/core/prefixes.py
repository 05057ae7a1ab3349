"""Digits to a rate row, longest prefix first, among the rows in force (the trie itself: `trie`)."""

from typing import Any

import numpy as np

from rater.core.compiled import kernel


@kernel
def row_in_force(nodes: Any, rows: Any, node: Any, at_ms: Any) -> Any:
    """The first row of this very prefix that is in force, or -1.

    Half-open on purpose: a row valid until 1 March rates no call that starts at the first instant of March. Rows are
    published back to back, and a closed end would give that instant two prices.
    """
    row = nodes[node, 10]
    while row >= 0:
        if rows[row].valid_from_ms <= at_ms and at_ms < rows[row].valid_to_ms:
            return row
        row = rows[row].next_row
    return row


@kernel
def longest_prefix(nodes: Any, rows: Any, root: Any, buffer: Any, start: Any, end: Any, start_ms: Any) -> Any:
    """The row of the longest prefix of the digits `buffer[start:end]` among the rows in force; -1 when none is."""
    node = np.int64(root)
    found = np.int64(-1)
    for at in range(start, end):
        node = np.int64(nodes[node, np.int64(buffer[at]) - 48])
        if node == 0:
            break
        if nodes[node, 10] >= 0:
            row = np.int64(row_in_force(nodes, rows, node, start_ms))
            if row >= 0:
                found = row
    return found


@kernel
def inbound_rate(
    inbound: Any, first: Any, last: Any, number_country: Any, number_type: Any, origin_country: Any
) -> Any:
    """The inbound row of a number's country and type for calls from this country, else from any; -1 when there is none."""
    wanted = (np.int64(number_country) << 24) | (np.int64(number_type) << 16)
    found = find_key(inbound, first, last, wanted | np.int64(origin_country))
    return found if found >= 0 else find_key(inbound, first, last, wanted)


@kernel
def find_key(inbound: Any, first: Any, last: Any, key: Any) -> Any:
    """The place of a key among ascending ones, or -1."""
    low, high = np.int64(first), np.int64(last)
    while low < high:
        middle = (low + high) // 2
        if inbound[middle].key < key:
            low = middle + 1
        else:
            high = middle
    return low if low < last and inbound[low].key == key else np.int64(-1)


@kernel
def deck_for(heads: Any, currency: Any, start_ms: Any) -> Any:
    """The deck of this currency in force at an instant: the latest that is valid by then; -1 when there is none."""
    found = -1
    for k in range(heads.size):
        if heads[k].currency == currency and heads[k].valid_from_ms <= start_ms:
            if found < 0 or heads[k].valid_from_ms >= heads[found].valid_from_ms:
                found = k
    return found


@kernel
def parent_rows(nodes: Any, digits: Any, ends: Any, parents: Any) -> None:
    """For each prefix the first row of the longest shorter prefix, or -1: for linters."""
    start = 0
    for k in range(ends.size):
        node, found = 1, -1
        for at in range(start, ends[k] - 1):
            node = nodes[node, np.int64(digits[at]) - 48]
            if node == 0:
                break
            if nodes[node, 10] >= 0:
                found = nodes[node, 10]
        parents[k] = found
        start = ends[k]
