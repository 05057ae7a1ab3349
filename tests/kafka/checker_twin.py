"""The slow twin at a partition of the log: it takes decks from the log, knows its own tenants, and forwards the others."""

import re
from dataclasses import dataclass, field

from tests.kafka.checker_model import Record, Row, RuleBook, RuleSet, UnknownRules, home_of, rule_set
from tests.kafka.checker_rows import Rows
from tests.twin import (
    ZONE_A_MINUTES,
    Refused,
    Twin,
    balance,
    check_command,
    check_field,
    check_key,
    content,
    read_object,
    rejection,
)

VERSION = re.compile(r"[0-9a-f]{16,64}")
LARGEST_SET = 64


@dataclass
class Expected:
    """What one batch must have come to, by input offset."""

    rated: dict[int, Row] = field(default_factory=dict)  # without `call`: its bytes are compared, not its fields
    events: list[Row] = field(default_factory=list)
    rejected_cdrs: dict[int, Row] = field(default_factory=dict)
    rejected_commands: dict[int, Row] = field(default_factory=dict)
    applied: list[tuple[int, bytes]] = field(default_factory=list)
    duplicate_cdrs: set[int] = field(default_factory=set)
    duplicate_commands: set[int] = field(default_factory=set)
    forwarded_cdrs: dict[int, int] = field(default_factory=dict)  # offset -> the partition it belongs to
    forwarded_commands: dict[int, int] = field(default_factory=dict)
    unknown_fields: int = 0
    ids: int = 0  # record, command and lot ids, and missing rates, seen for the first time
    balances: dict[str, tuple[str, int]] = field(default_factory=dict)  # tenants touched: currency, balance after


class PartitionTwin(Twin):
    """A twin whose decks change and whose tenants are those of one partition of `partitions`."""

    def __init__(self, partition: int, partitions: int, book: RuleBook) -> None:
        some_deck = next(iter(book.decks.values()))
        super().__init__(some_deck, "plan,country\n", book.country_of, book.is_emergency)
        self.partition, self.partitions, self.book = partition, partitions, book
        self.in_force = RuleSet()
        self.activations: dict[str, object] = {}  # command id -> content
        self.rows = Rows()

    # ---- one batch

    def batch(self, commands: list[Record], calls: list[Record]) -> Expected:
        """Commands first, then calls, each in offset order."""
        answer = Expected()
        ids_before = self.ids()
        for record in commands:
            named = self.one_command(record, answer)
            if named is not None:
                self.activate(named)
        for record in calls:
            self.one_call(record, answer)
        answer.ids = self.ids() - ids_before + len(answer.rated) + len(answer.applied)
        answer.events, self.events = self.events, []
        for tenant in self.touched(answer):
            account = self.accounts[tenant]
            answer.balances[tenant] = (account["currency"], balance(account))
        return answer

    def ids(self) -> int:
        """Ids kept beside those of calls and commands. Only tenants that exist have any, so few are counted."""
        return sum(len(account["lot_ids"]) + len(account["missing"]) for account in self.accounts.values())

    def touched(self, answer: Expected) -> set[str]:
        told = {row["tenant"] for row in answer.rated.values()}
        told |= {read_object(raw).get("tenant", "") for _, raw in answer.applied}
        return told & self.accounts.keys()

    # ---- rules from the log

    def activate(self, named: Row) -> None:
        """A set of rules comes into force for what is behind it; plans that are not named stay."""
        plans = named.get("plans") or self.in_force.plans_version
        self.take(rule_set(self.book, named["decks"], plans))

    def take(self, rules: RuleSet) -> None:
        self.in_force = rules
        if rules.plans is not None:
            self.plans = rules.plans

    def rate(self, account: Row, call: Row) -> Row:
        """With the deck of the account's currency, else with any: the currencies differ, and it is a freecall."""
        decks = self.in_force.decks
        if not decks:
            raise UnknownRules("a call was decided before any deck was activated")
        self.deck_version, self.deck = decks.get(account["currency"]) or next(iter(decks.values()))
        return super().rate(account, call)

    # ---- one record

    def one_call(self, record: Record, answer: Expected) -> None:
        raw, offset = record.value or b"", record.offset
        unknown = self.unknown_fields
        self.call(raw, offset, record.key)
        if self.rejected_cdrs:
            refused = self.rejected_cdrs.pop()
            home = self.partition
            if refused["reason"] == "unknown_tenant":
                home = home_of(read_object(raw)["tenant"], self.partitions)
            if home != self.partition:
                answer.forwarded_cdrs[offset] = home
            else:
                answer.rejected_cdrs[offset] = self.placed(refused)
        elif self.rated:
            rated = self.rated.pop()
            self.rows.called(self.accounts[rated["tenant"]], rated.pop("call"), rated, self.allotment_of)
            rated["input"][0] = self.now["input"][0] = self.partition
            answer.rated[offset] = rated
        else:
            answer.duplicate_cdrs.add(offset)
        answer.unknown_fields += self.unknown_fields - unknown

    def one_command(self, record: Record, answer: Expected) -> Row | None:
        """The command, where it is an activation that was applied."""
        raw, offset = record.value or b"", record.offset
        try:
            command = read_object(raw)
        except Refused:
            command = {}
        if command.get("type") == "deck.activated":
            return self.one_activation(command, raw, offset, answer)
        home = self.home_of_command(command, record.key)
        if home != self.partition:
            answer.forwarded_commands[offset] = home
            return None
        duplicates = self.duplicates["commands"]
        self.now = {}
        self.command(raw, offset, record.key)
        if self.rejected_commands:
            answer.rejected_commands[offset] = self.placed(self.rejected_commands.pop())
        elif self.duplicates["commands"] > duplicates:
            answer.duplicate_commands.add(offset)
        else:
            self.now["input"][0] = self.partition
            answer.applied.append((offset, raw))
            self.rows.applied(self.accounts[command["tenant"]], command, self.allotment_of)
        return None

    def allotment_of(self, pool: str, start_ms: int) -> int:
        """Minutes that each licence gives a pool to a call that begins now."""
        country, plan, scope, *_ = pool.split("/")
        return ZONE_A_MINUTES if country == "*" else self.plans.allotment(plan, country, scope, start_ms)

    def home_of_command(self, command: Row, key: bytes | None) -> int:
        """Only a command that can be read, under its own key, is somebody's: any other is rejected where it lies."""
        try:
            check_command(command)
            check_key(command, key)
        except Refused:
            return self.partition
        return home_of(command["tenant"], self.partitions)

    def one_activation(self, command: Row, raw: bytes, offset: int, answer: Expected) -> Row | None:
        try:
            check_activation(command)
            known = self.activations.get(command["command_id"])
            if known is not None and known != content(command):
                raise Refused("conflict", command["command_id"])
        except Refused as wrong:
            answer.rejected_commands[offset] = self.placed(rejection(wrong, raw, offset))
            return None
        if known is not None:
            answer.duplicate_commands.add(offset)
            return None
        self.activations[command["command_id"]] = content(command)
        answer.applied.append((offset, raw))
        return command

    def placed(self, refused: Row) -> Row:
        refused["input"][0] = self.partition
        return refused


def check_activation(command: Row) -> None:
    """`deck.activated` has no tenant, and any key."""
    check_field(command, "command_id", required=True)
    decks = command.get("decks")
    if decks is None:
        raise Refused("missing_field", "decks")
    good = isinstance(decks, list) and 0 < len(decks) <= LARGEST_SET and all(map(is_version, decks))
    if not good:
        raise Refused("bad_field", "decks")
    if command.get("plans") is not None and not is_version(command["plans"]):
        raise Refused("bad_field", "plans")
    check_field(command, "at", required=True)
    check_field(command, "by", required=False)


def is_version(value: object) -> bool:
    return type(value) is str and VERSION.fullmatch(value) is not None
