"""Buffers of the loops, and why a loop comes back before its end."""

from typing import Any

import numpy as np
import orjson

from rater.contract.events import Shown, event_of, plain, read_news
from rater.contract.scanner import scan_scratch
from rater.core.charging import ANSWER
from rater.core.payers import Rules
from rater.core.state import State
from rater.core.thresholds import NEWS
from rater.pipeline.batch import Outcome

Array = np.ndarray[Any, Any]

# Why a loop came back: the end; no more room in a buffer; somebody asked for a recharge; other rules are in force.
DONE, OUT_FULL, NEWS_FULL, DRAW_FULL, ASKED, ACTIVATED = range(6)
OUT_BYTES = 1 << 20  # of a buffer for rated lines: some 1,150 of them


class Workspace:
    """Buffers that live from batch to batch, so that a batch allocates next to nothing.

    One that `lends` hands out rated lines where they lie, good until its next batch, for those who write them elsewhere at
    once: a copy is memory that the system gives anew each time.
    """

    def __init__(self, lends: bool = False) -> None:
        self._lends = lends
        self.scan_scratch = scan_scratch()
        self._outs = [np.zeros(OUT_BYTES, np.uint8)]  # each is filled once in a batch
        self._filled = 0
        self.answer = np.zeros(1, ANSWER).view(np.recarray)
        self.news = np.zeros(1024, NEWS).view(np.recarray)
        self.news_tally = np.zeros(2, np.int64)
        self.draw_rows = np.zeros(64, np.int64)
        self.draw_micros = np.zeros(64, np.int64)
        self._decks: Any = None
        self._text_room = 0

    @property
    def out(self) -> Array:
        """The buffer for rated lines that is being filled."""
        return self._outs[self._filled]

    def begin(self) -> None:
        """A batch begins: whatever was lent before is no longer needed."""
        self._filled = 0

    def lines(self, size: int) -> bytes | memoryview:
        """The first bytes of `out`, which may be filled again from now on."""
        if not self._lends:
            return self.out[:size].tobytes()
        lines = self.out[:size].data
        self._filled += 1
        if self._filled == len(self._outs):
            self._outs.append(np.zeros(OUT_BYTES, np.uint8))
        return lines

    def text_room(self, rules: Rules) -> int:
        """`text_room_of`, looked up once for a deck set: it reads every row."""
        if self._decks is not rules.decks:
            self._decks, self._text_room = rules.decks, text_room_of(rules)
        return self._text_room

    def grow_out(self, least: int) -> None:
        self._outs[self._filled] = np.zeros(max(2 * self.out.size, least), np.uint8)

    def grow_news(self, least: int) -> None:
        news = np.zeros(max(2 * self.news.size, least), NEWS).view(np.recarray)
        news[: self.news_tally[0]] = self.news[: self.news_tally[0]]
        self.news = news

    def grow_draws(self, least: int) -> None:
        size = max(2 * self.draw_rows.size, least)
        self.draw_rows, self.draw_micros = np.zeros(size, np.int64), np.zeros(size, np.int64)


def text_room_of(rules: Rules) -> int:
    """The longest texts a deck can add to a rated call."""
    longest = 0
    for rows in (rules.decks.rows, rules.decks.heads):
        if rows.size:
            longest += int(rows.text_length.max())
    return longest + 4 * 260


def tell(state: State, workspace: Workspace, causes: Any, outcome: Outcome) -> None:
    """Write the news of this round as events and clear them."""
    count = int(workspace.news_tally[0])
    if count:
        shelves = state.shelves
        shown = Shown(plain(shelves["accounts"].rows), shelves["pools"].rows, shelves["users"].rows)
        for news in read_news(workspace.news[:count]):
            event = event_of(news, shown, causes(news.record))
            outcome.events.append(orjson.dumps(event))
            kind = event["type"]
            outcome.counts.events_by_type[kind] = outcome.counts.events_by_type.get(kind, 0) + 1
            if kind == "rater.recharge.requested":
                outcome.requests.append(event["data"] | {"time": event["time"], "tenant": event["subject"]})
        outcome.counts.events += count
    workspace.news_tally[:] = 0
