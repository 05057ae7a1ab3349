"""An assembly that knows where each part came from, for a door that may let go of an input only when its parts are decided.

The door says what it is reading (`origin`) before it reads, and asks with each outcome which inputs that settled. A part
that stays open holds its origin; one that is answered at once (a whole call, a repeat, a correction) belongs to what is
being read and is not remembered.
"""

from typing import Any, Protocol

from rater.sources.assembly import Assembly
from rater.sources.parts import OpenCall, Part
from rater.sources.record import SourceRecord


class Origin(Protocol):
    """An input, held once for each of its parts that is not decided; whoever takes an outcome lets go of its origins."""

    def hold(self) -> None: ...

    def release(self) -> None: ...


class OriginAssembly(Assembly):
    """Made of another one before its first part; see above."""

    def __init__(self, plain: Assembly) -> None:
        super().__init__(plain.family, plain.limits, plain.name)
        self.origin: Origin | None = None
        self._waiting_from: dict[int, tuple[Part, Origin]] = {}  # by identity: equal parts may come from two inputs
        self._settled: list[tuple[SourceRecord, list[Origin]]] = []

    @property
    def parts_waiting(self) -> int:
        return len(self._waiting_from)

    def add(self, part: Part, *more: Any) -> list[SourceRecord]:
        origin = self.origin
        if origin is None:
            raise ValueError("a part without an origin")
        self._waiting_from[id(part)] = (part, origin)
        origin.hold()
        found = super().add(part, *more)
        if id(part) in self._waiting_from and not self._keeps(part):
            del self._waiting_from[id(part)]
            origin.release()
        return found

    def _keeps(self, part: Part) -> bool:
        call = self.waiting.get(part.key) or self.settling.get(part.key)
        return call is not None and any(one is part for one in (*call.parts.values(), *call.contested))

    def ended(self, key: str, call: OpenCall, *told: Any, **more: Any) -> SourceRecord:
        record = super().ended(key, call, *told, **more)
        parts = (*call.parts.values(), *call.contested)
        self._settled.append((record, [self._waiting_from.pop(id(part))[1] for part in parts]))
        return record

    def origins_of(self, record: SourceRecord) -> list[Origin]:
        """The origin of each part of this outcome, still held; empty for an outcome of what is being read alone."""
        for place, (made, origins) in enumerate(self._settled):
            if made is record:
                del self._settled[place]
                return origins
        return []

    def unclaimed(self) -> list[SourceRecord]:
        """Outcomes that nobody has asked about yet: none, when everything that was read has been taken."""
        return [record for record, _ in self._settled]
