"""What goes into `decide`, and everything that comes out of it."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from rater.contract.counts import Counts
from rater.contract.records import Records, SourceFault
from rater.core.payers import Rules


@dataclass(frozen=True, slots=True)
class Batch:
    """What one call of `decide` reads. `faults`: places among the calls that a source already refused."""

    partition: int
    commands: Records
    calls: Records
    first_command: int = 0  # offsets where the two inputs stand before this batch
    first_call: int = 0
    faults: dict[int, SourceFault] = field(default_factory=dict)
    home: Callable[[bytes], int] | None = None  # the partition of a tenant, where the log has more than this one


class Forward(NamedTuple):
    """A record that lies in a partition that is not its tenant's: it belongs to `partition`, as it came."""

    partition: int
    key: bytes | None
    value: bytes
    offset: int


@dataclass(slots=True)
class Outcome:
    """Everything a batch says, and in which order its inputs were decided."""

    segments: list[list[int]] = field(default_factory=list)  # [command from, to, call from, to], in order
    # Blocks of lines, each line with its line feed; views where the workspace lends them.
    rated: list[bytes | memoryview] = field(default_factory=list)
    events: list[bytes] = field(default_factory=list)  # lines without line feed
    rejected_cdrs: list[bytes] = field(default_factory=list)
    rejected_commands: list[bytes] = field(default_factory=list)
    rejected_cdr_keys: list[bytes | None] = field(default_factory=list)
    rejected_command_keys: list[bytes | None] = field(default_factory=list)
    forwarded_cdrs: list[Forward] = field(default_factory=list)
    forwarded_commands: list[Forward] = field(default_factory=list)
    calls: Any = None  # the CALL rows and the buffer they point into: keys of the rated lines
    buffer: Any = None
    rated_rows: list[tuple[int, int]] = field(default_factory=list)  # [first, last) of `calls` in each block of `rated`
    activations: list[dict[str, Any]] = field(default_factory=list)  # each `deck.activated` applied
    applied: list[tuple[int, bytes]] = field(default_factory=list)  # (offset, bytes) of each command applied
    requests: list[dict[str, Any]] = field(
        default_factory=list
    )  # data of each recharge requested, with `time`, `subject`
    counts: Counts = field(default_factory=Counts)


# A `deck.activated` command -> the rules it names.
Activate = Callable[[dict[str, Any]], Rules]
# A recharge request, and how many requests this very record has led to so far -> the command that answers it.
Respond = Callable[[dict[str, Any], int], bytes]


def home_of(batch: Batch, tenant: bytes) -> int:
    return batch.partition if batch.home is None else batch.home(tenant)
