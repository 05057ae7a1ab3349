"""Which records of a partition are done: they are done in any order, and an offset is committed only behind all of them."""


class Acknowledged:
    """The records of one partition that were handed out since it was assigned and are not done, oldest first."""

    def __init__(self) -> None:
        # Only what is not done is kept, in the order it was handed out: one record may wait for days among millions.
        self._open: dict[int, None] = {}
        self._handed_out = -1
        self._position: int | None = None

    def begin(self, offset: int) -> None:
        """A record is handed out; in offset order. What was handed out before counts once."""
        if offset > self._handed_out:
            self._open[offset] = None
            self._handed_out = offset

    def done(self, offset: int) -> None:
        """Its effect is done and published; saying so twice is as good as once."""
        self._open.pop(offset, None)

    def read_to(self, position: int) -> None:
        """Everything before `position` has been handed out; records of aborted transactions and markers never are."""
        self._position = position

    def outstanding(self) -> int:
        """Handed out and not done."""
        return len(self._open)

    def committable(self) -> int | None:
        """The offset a successor has to begin at; None before anything is known."""
        return next(iter(self._open), self._position)
