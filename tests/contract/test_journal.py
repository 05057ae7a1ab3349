"""The journal's line: what a batch read, what it came to, and digests chained to the batch before."""

import orjson
import pytest

from rater.contract.counts import Counts
from rater.contract.journal import NO_DIGEST, JournalLine, digest_of, encode_journal, state_digest
from rater.core.state import SHELVES, State
from rater.pipeline import Batch, decide, records_of
from tests.schema_check import validate
from tests.workbench import Bench, Rates, call_record


def bench() -> Bench:
    return Bench(Rates(outbound=["1,,US,,0.02,,,,,,"], plans=["MCOPSTN1,US,5,0,"]).book())


OPENED = b'{"command_id":"1","tenant":"t","type":"tenant.opened","at":"2026-01-01T00:00:00Z","country":"US","currency":"USD",' \
         b'"billing_mode":"prepaid"}'  # fmt: skip


def test_a_line_holds_every_field_and_commands_word_for_word():
    counts = Counts(
        read=3, rated=1, rejected=1, duplicates=1, commands=1, charge_micros={"USD": 7}, by_outcome={"charged": 1}
    )
    line = JournalLine(
        4, 0, [[0, 1, 5, 8]], counts, ["abc0123456789abc"], "0123456789abcdef", "n-1", [(0, OPENED)], [6],
        {"rated-cdrs.jsonl": 9}, {"rated-cdrs.jsonl": digest_of(b"x")}, digest_of(b"s"), digest_of(b"p"),
    )  # fmt: skip
    found = orjson.loads(encode_journal(line))
    assert found["batch"] == 4
    assert found["cdrs"] == [0, 5, 8]
    assert found["commands"] == [0, 0, 1]
    assert found["applied"] == [[0, OPENED.decode()]]
    assert found["counts"]["duplicates"] == 1
    assert found["totals"]["charge_micros"] == {"USD": 7}
    assert found["faults"] == [6]


def test_segments_of_a_batch_span_its_ranges():
    line = JournalLine(1, 0, [[0, 2, 0, 3], [2, 4, 3, 9], [4, 5, 9, 9]])
    found = orjson.loads(encode_journal(line))
    assert (found["cdrs"], found["commands"]) == ([0, 0, 9], [0, 0, 5])


def test_digests_are_blake3_of_all_parts_cut_to_128_bits():
    # The authors' vectors (BLAKE3-team/BLAKE3, test_vectors.json: bytes 0, 1, ... 250, 0, ...), and a well-known one.
    counted = bytes(k % 251 for k in range(2_049))
    assert digest_of() == digest_of(b"") == "af1349b9f5f9a1a6a0404dea36dcc949"
    assert digest_of(b"abc") == digest_of(b"a", b"", b"bc") == "6437b3ac38465133ffb63b75273a8db5"
    assert digest_of(counted[:1_024]) == "42214739f095a406f3fc83deb889744a"
    assert digest_of(counted) == digest_of(counted[:7], counted[7:]) == "5f4d72f40d7a5f82b15ca2b2e44b1de3"
    assert len(NO_DIGEST) == len(digest_of(b"x")) == 32


def test_the_digest_of_a_state_tells_every_change_of_a_row_or_id():
    b = bench()
    digests = [NO_DIGEST]
    calls = [orjson.dumps(call_record(f"r{k}", tenant="t")) for k in range(3)]
    for commands, calls_now in (([OPENED], []), ([], calls[:1]), ([], calls[1:2])):
        decide(b.state, b.book.rules, Batch(0, records_of(commands), records_of(calls_now)))
        digests.append(state_digest(digests[-1], b.state))
        b.state.committed()
    assert len(set(digests)) == 4
    assert state_digest(digests[-1], b.state) == state_digest(digests[-1], b.state) != digests[-1]


@pytest.mark.parametrize("name", list(SHELVES))
def test_a_changed_byte_in_any_touched_row_changes_the_digest(name: str):
    b = bench()
    at = {"at": "2026-11-01T00:00:00Z", "tenant": "t"}
    commands = [
        OPENED,
        b.command_bytes("licence.assigned", user="u", plan="MCOPSTN1", country="US", **at),
        b.command_bytes("number.assigned", number="+18005550199", number_type="toll_free", country="US", **at),
        b.command_bytes("funds.added", lot_id="l", amount_micros=5, **at),
        b.command_bytes("call.authorize", call_id="c", call_type="user_in", user="u", callee="+12125550777", **at),
    ]
    late, now = call_record("q", tenant="t", start="2026-10-01T00:00:00Z"), call_record("r", tenant="t")
    decide(b.state, b.book.rules, Batch(0, records_of(commands), records_of([orjson.dumps(late), orjson.dumps(now)])))
    before = state_digest(NO_DIGEST, b.state)
    rows = b.state.rows(name)
    assert rows.size >= 1
    data = rows.view("u1").reshape(-1)
    for place in range(0, data.size, 41):
        data[place] ^= 1
        assert state_digest(NO_DIGEST, b.state) != before
        data[place] ^= 1
    assert state_digest(NO_DIGEST, b.state) == before


def test_two_states_with_the_same_key_and_input_have_the_same_digest():
    def digest() -> str:
        b = bench()
        decide(
            b.state,
            b.book.rules,
            Batch(0, records_of([OPENED]), records_of([orjson.dumps(call_record("r", tenant="t"))])),
        )
        return state_digest(NO_DIGEST, b.state)

    assert digest() == digest()
    assert State.empty(bytes(range(16))).key.tobytes() == bytes(range(16))


def test_a_journal_line_is_what_the_schema_says():
    line = JournalLine(1, 0, [[0, 1, 0, 1]], Counts(read=1, rated=1, by_outcome={"free": 1}), ["0123456789abcdef"],
                       "0123456789abcdef", "n", [(0, OPENED)], [],
                       dict.fromkeys(("rated-cdrs.jsonl", "account-events.jsonl", "rejected-cdrs.jsonl", "rejected-commands.jsonl"), 0),
                       dict.fromkeys(("rated-cdrs.jsonl", "account-events.jsonl", "rejected-cdrs.jsonl", "rejected-commands.jsonl"), NO_DIGEST))  # fmt: skip
    validate("rater-journal", encode_journal(line))
