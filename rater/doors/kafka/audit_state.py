"""The changelog, the snapshot and the group's offsets as an audit sees them: what the replay must agree with."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from rater.contract.journal import row_bytes
from rater.core.state import SHELVES, State
from rater.doors.differences import Difference, owner, row_difference
from rater.doors.kafka.changelog import ChangelogProblem, RowsRead, Watermark
from rater.doors.kafka.log import Place, Reader
from rater.doors.kafka.record_batches import records_from_blocks
from rater.doors.kafka.restore import quiet as nobody_watches
from rater.doors.kafka.restore import read_to_end
from rater.doors.kafka.snapshot import Base


class CannotAudit(Exception):
    """The topics no longer hold what a replay needs; the text says from where on they do."""


@dataclass(slots=True)
class Changelog:
    """The rows of `rater-state`, the newest of each, read up to `offset`; `newest` is the watermark behind them."""

    reader: Reader
    place: Place
    rows: RowsRead
    start: int
    offset: int

    @property
    def newest(self) -> Watermark | None:
        return self.rows.watermark

    async def read_on(self) -> None:
        """Up to the last stable offset of now, which is behind a whole batch."""
        _, end = await self.reader.bounds(self.place)
        self.offset = await read_to_end(self.reader, self.place, self.offset, end, self.rows.take, nobody_watches)

    async def check(self, state: State, expected: Watermark) -> None:
        """Raises `Difference` where the watermark or a row is not the replay's."""
        assert self.newest is not None
        await self._check_watermark(self.newest, expected)
        kept = State.empty(state.key.tobytes())
        try:
            self.rows.into(kept, self.newest)
        except ChangelogProblem as problem:
            raise Difference(str(problem)) from None
        for name, dtype in SHELVES.items():
            await self._check_shelf(name, dtype, kept, state)
        beyond = self.rows.row_beyond(expected)
        if beyond is not None:
            name, row = beyond
            raise Difference(f"{await self._where(name, row)}: the replay has no such row")

    async def _check_watermark(self, found: Watermark, expected: Watermark) -> None:
        for name in Watermark.__dataclass_fields__:
            a, b = getattr(found, name), getattr(expected, name)
            if name == "decks":
                a, b = sorted(a), sorted(b)
            if a != b:
                offset = await self._offset_of(b"meta")
                raise Difference(
                    f"{self.place} offset {offset}, watermark of batch {expected.batch}: {name} is {a}, the replay gives {b}"
                )

    async def _check_shelf(self, name: str, dtype: np.dtype[Any], kept: State, state: State) -> None:
        found, replayed = row_bytes(kept.rows(name)), row_bytes(state.rows(name))
        if found.shape == replayed.shape and np.array_equal(found, replayed):
            return
        row = int(np.flatnonzero((found != replayed).any(axis=1))[0])
        told = row_difference(kept.rows(name)[row], state.rows(name)[row], dtype)
        raise Difference(f"{await self._where(name, row)}{owner(name, state.rows(name), row, state)}{told}")

    async def _where(self, name: str, row: int) -> str:
        return f"{self.place} offset {await self._offset_of(f'{name}/{row}'.encode())}, {name} row {row}"

    async def _offset_of(self, key: bytes) -> int:
        """The newest record of a key; the topic is read once more for it."""
        found, offset = -1, self.start
        while offset < self.offset:
            blocks, following = await self.reader.read(self.place, offset)
            for block in blocks:
                records, _ = records_from_blocks([block], offset)
                for k in range(records.count):
                    if records.offsets[k] < self.offset and records.key(k) == key:
                        found = int(records.offsets[k])
            if following == offset:
                break
            offset = following
        return found


async def open_changelog(reader: Reader, place: Place) -> Changelog:
    start, _ = await reader.bounds(place)
    changelog = Changelog(reader, place, RowsRead(None, str(place)), start, start)
    await changelog.read_on()
    return changelog


def balances(state: State) -> dict[str, int]:
    """What all tenants have left together, by currency: lots less debt, in millionths."""
    accounts = state.rows("accounts")
    totals: dict[str, int] = {}
    for currency in np.unique(accounts.currency).tolist():
        mine = accounts[accounts.currency == currency]
        text = int(currency).to_bytes(3, "big").decode()
        totals[text] = int(mine.lots_micros.sum()) - int(mine.debt_micros.sum())
    return totals


def check_base(base: Base, ids: bytes, where: str) -> None:
    """The ids a snapshot holds are those of the journal, or it is not sound."""
    told = np.frombuffer(ids, np.uint64).reshape(-1, 2)
    kept = base.state.seen_ids()
    if told.shape != kept.shape or not np.array_equal(_sorted(told), _sorted(kept)):
        raise CannotAudit(f"{where}: the snapshot's {len(kept)} ids are not the {len(told)} of the journal")


def _sorted(ids: Any) -> Any:
    return ids[np.lexsort((ids[:, 1], ids[:, 0]))]
