"""Fetching for a member: a pump that keeps one request under way at each broker, and a bounded buffer for each place.

It asks for all places at once that run and have room, so a place that is slow to be emptied holds up no other. Nothing is
asked for, or handed out, for a place that is paused, has not been told where to begin, or is no longer ours.

All topics of a broker are asked for in one request, also those that are more urgent than others: who opens an account and then sends
its first call must not see the call arrive first, and between the places of one answer there are microseconds.
"""

import asyncio
import logging
from collections import defaultdict, deque
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from aiokafka import errors
from aiokafka.client import AIOKafkaClient

from rater.doors.kafka.client_connection import BACKOFF_S, problem_text
from rater.doors.kafka.client_fetch import WAIT_MS, Answer, fetch
from rater.doors.kafka.log import Block, LogProblem, Place

# Where records trickle in, every one of them would be an answer, and a request: both ends would do nothing else. A short
# rest after a small answer costs a few milliseconds of latency and saves most of the requests.
CRUMBS_BYTES, CRUMBS_S = 1 << 18, 0.008
URGENT_CRUMBS_S = 0.002  # after records that somebody waits for: more of them are on their way
IDLE_WAIT_MS = 100  # where every place is asked for anyway, a longer wait delays only one that is resumed

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much is asked for and kept for one place, in bytes."""

    place_bytes: int = 2 << 20
    buffer_bytes: int = 4 << 20


@dataclass(slots=True)
class Held:
    """What we know of a place that is ours."""

    paused: bool = True
    position: int | None = None  # of what is handed out next; None until told where to begin
    ahead: int = 0  # to ask the broker for next
    stable_end: int | None = None
    blocks: deque[Block] = field(default_factory=deque)
    buffered: int = 0
    problem: LogProblem | None = None

    @property
    def running(self) -> bool:
        return not self.paused and self.position is not None

    def begin_at(self, offset: int) -> None:
        self.position = self.ahead = offset
        self.blocks.clear()
        self.buffered, self.problem = 0, None

    def take_in(self, answer: Answer) -> None:
        self.blocks.extend(answer.blocks)
        self.buffered += sum(len(block.body) for block in answer.blocks)
        self.ahead = answer.next_offset
        self.problem = answer.problem
        self.stable_end = answer.stable_end if answer.stable_end is not None else self.stable_end
        if not self.blocks:
            self.position = self.ahead

    def hand_out(self) -> Block:
        block = self.blocks.popleft()
        self.buffered -= len(block.body)
        self.position = block.next_offset if self.blocks else self.ahead
        return block


class Pump:
    """The places of a member. `news` is called whenever there may be something to take."""

    def __init__(
        self, client: AIOKafkaClient, sizes: Sizes, news: Callable[[], None], urgent_topics: Collection[str] = ()
    ) -> None:
        self.held: dict[Place, Held] = {}
        self._client, self._sizes, self._news = client, sizes, news
        self._urgent_topics = frozenset(urgent_topics)
        self._wanted = asyncio.get_running_loop().create_future()
        self._rounds = 0

    def hold(self, places: Iterable[Place]) -> None:
        """These are ours now, paused, and no others; what was buffered is gone."""
        self.held = {place: Held() for place in places}
        self._news()

    def take(self, places: Sequence[Place], max_bytes: int) -> dict[Place, list[Block]]:
        """A block of each place in turn, so that a full place does not starve another of the same task."""
        found: dict[Place, list[Block]] = {}
        room = max_bytes
        ready = [(place, held) for place in places if (held := self.held.get(place)) is not None and held.running]
        for _, held in ready:
            if held.problem is not None and not held.blocks:
                raise held.problem
        while room > 0 and ready:
            ready = [(place, held) for place, held in ready if held.blocks]
            for place, held in ready:
                if room <= 0:
                    break
                block = held.hand_out()
                found.setdefault(place, []).append(block)
                room -= len(block.body)
        if found:
            self.want()
        return found

    def want(self) -> None:
        if not self._wanted.done():
            self._wanted.set_result(None)

    async def run(self) -> None:
        under_way: dict[int, asyncio.Task[None]] = {}
        try:
            while True:
                self._wanted = asyncio.get_running_loop().create_future()
                leaderless = self._send(under_way)
                await asyncio.wait(
                    [self._wanted, *under_way.values()],
                    timeout=BACKOFF_S if leaderless else None,
                    return_when=asyncio.FIRST_COMPLETED,
                )
                for node, task in list(under_way.items()):
                    if task.done():
                        del under_way[node]
                        task.result()
        except BaseException:
            self._news()
            raise
        finally:
            for task in under_way.values():
                task.cancel()

    def _send(self, under_way: dict[int, asyncio.Task[None]]) -> bool:
        """Ask every broker that has no question open. Whether a place has no leader to ask."""
        running = {place: held for place, held in self.held.items() if held.running}
        short = {place: held for place, held in running.items() if self._has_room(held)}
        by_leader: defaultdict[int | None, dict[Place, Held]] = defaultdict(dict)
        for place, held in short.items():
            by_leader[self._client.cluster.leader_for_partition(place)][place] = held
        leaderless = bool(by_leader.pop(None, None)) | bool(by_leader.pop(-1, None))
        if leaderless:
            self._client.force_metadata_update()
        wait_ms = IDLE_WAIT_MS if len(short) == len(running) else WAIT_MS
        for node, asked in by_leader.items():
            if node is not None and node not in under_way:
                under_way[node] = asyncio.create_task(self._ask(node, asked, wait_ms))
        return leaderless

    def _has_room(self, held: Held) -> bool:
        return held.buffered < self._sizes.buffer_bytes and held.problem is None

    async def _ask(self, node: int, places: Mapping[Place, Held], wait_ms: int) -> None:
        self._rounds += 1  # a broker fills its answer from the first place on: each gets its turn
        turn = self._rounds % len(places)
        turned = [*places.items()][turn:] + [*places.items()][:turn]
        asked = {place: held.ahead for place, held in turned}
        try:
            answers = await fetch(self._client, node, asked, self._sizes.place_bytes, wait_ms)
        except (errors.KafkaError, OSError) as problem:
            log.warning("fetching from broker %s: %s", node, problem_text(problem))
            self._client.force_metadata_update()
            await asyncio.sleep(BACKOFF_S)
            return
        for place, answer in answers.items():
            # revoked, assigned anew or told to begin elsewhere meanwhile
            held = places[place]
            if self.held.get(place) is held and held.ahead == asked[place]:
                held.take_in(answer)
        self._news()
        if any(answer.moved for answer in answers.values()):
            self._client.force_metadata_update()
            await asyncio.sleep(BACKOFF_S)
        elif rest_s := self._rest_s(answers):
            await asyncio.sleep(rest_s)

    def _rest_s(self, answers: Mapping[Place, Answer]) -> float:
        size = sum(len(block.body) for answer in answers.values() for block in answer.blocks)
        if not 0 < size < CRUMBS_BYTES:
            return 0.0
        urgent = any(answer.blocks for place, answer in answers.items() if place.topic in self._urgent_topics)
        return URGENT_CRUMBS_S if urgent else CRUMBS_S
