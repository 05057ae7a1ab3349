"""Which inputs an outcome settles: an input is held until everything that was read of it is decided, in every family."""

import io
import random
from pathlib import Path

import pytest

from rater.sources import SOURCES, Assembling, SourceProfile, SourceRecord, load_profile, open_source
from rater.sources.assembly import AssembledSource
from rater.sources.origins import OriginAssembly
from tests.sources.test_ber import PARTS, ims, moc

DOCS = Path(__file__).resolve().parents[2] / "docs" / "sources"
SONUS = b"START,sbc1,0x%d,88213040,GMT,01/15/2026,13:30:00.2"
SONUS_STOP = (
    b"STOP,sbc1,0x%d,88213040,GMT,01/15/2026,13:30:00.2,1,92,1250,01/15/2026,13:32:47.2,88229745,15455,16,IP-TO-IP,IP-TO-IP,DEFAULT,,"
    b"+442079460018,+12125550123"
)


class Input:
    """Counts how often it is held."""

    def __init__(self, name: int) -> None:
        self.name, self.held = name, 0

    def hold(self) -> None:
        self.held += 1

    def release(self) -> None:
        self.held -= 1


def acc(method: str, call: int, at: int) -> bytes:
    tags = ("a", "b") if method == "INVITE" else ("b", "a")
    return (
        b'{"method": "%s", "from_tag": "%s", "to_tag": "%s", "callid": "%d@x", "sip_code": "200", "time": "%d", '
        b'"src_user": "+442079460018", "dst_user": "+12125550123", "account": "acme"}'
    ) % (method.encode(), tags[0].encode(), tags[1].encode(), call, at)


def nchf(call: int, number: int, operation: str) -> bytes:
    return (
        b'{"op": "%s", "body": {"subscriberIdentifier": "msisdn-442079460018", "invocationTimeStamp": "2026-01-15T13:3%d:12Z", '
        b'"invocationSequenceNumber": %d, "multipleUnitUsage": [{"ratingGroup": 100, "usedUnitContainer": [{"localSequenceNumber": %d, '
        b'"time": %d}]}], "iMSChargingInformation": {"iMSChargingIdentifier": "ici%d", "roleOfNode": "MO", "calledPartyAddress": '
        b'"+12125550123"}}}'
    ) % (operation.encode(), number, number, number, 60 if number else 0, call)


VALUES = {
    "kamailio": [acc("INVITE", call, 1768483812 + call) for call in range(6)] + [acc("BYE", call, 1768483967 + call) for call in range(5)],
    "sonus": [SONUS % call for call in range(6)] + [SONUS_STOP % call for call in range(5)],
    "3gpp-json": [nchf(call, number, ("create", "update", "release")[number]) for call in range(4) for number in range(3)][:-1],
    "3gpp-ber": [ims(), moc(), *PARTS, PARTS[0]],
}  # fmt: skip


def read_all(
    profile: SourceProfile, values: list[bytes]
) -> tuple[list[tuple[SourceRecord, set[int]]], list[Input], OriginAssembly]:
    """Outcomes with the inputs they settle, the inputs, and the assembly, after every value was read as one input."""
    source = open_source(profile.source, profile)
    assert isinstance(source, AssembledSource)
    source.assembly = assembly = OriginAssembly(source.assembly)
    found, inputs = [], [Input(number) for number in range(len(values))]
    for one, value in zip(inputs, values, strict=True):
        assembly.origin = one
        for record in source.read(io.BytesIO(value)):
            origins = assembly.origins_of(record)
            for origin in origins:
                origin.release()
            found.append((record, {origin.name for origin in origins} if origins else {one.name}))  # type: ignore[attr-defined]
        assert assembly.unclaimed() == []
    return found, inputs, assembly


def test_every_family_with_open_calls_is_here() -> None:
    examples = {name: load_profile(DOCS / f"{name}.toml") for name in SOURCES if (DOCS / f"{name}.toml").exists()}
    assembling = {name for name, profile in examples.items() if isinstance(open_source(name, profile), Assembling)}
    assert assembling == {*VALUES, "acme", "opensips"}  # acme is written as sonus is, opensips as kamailio


@pytest.mark.parametrize("name", VALUES)
@pytest.mark.parametrize("seed", range(8))
def test_an_input_is_held_exactly_while_a_part_of_it_waits(name: str, seed: int) -> None:
    values = list(VALUES[name])
    if seed:
        random.Random(seed).shuffle(values)
    profile = load_profile(DOCS / f"{name}.toml")
    found, inputs, assembly = read_all(profile, values)
    waiting = {one.name for one in inputs if one.held}
    settled = set().union(*(names for _, names in found)) if found else set()
    assert waiting | settled == {one.name for one in inputs}
    assert sum(one.held for one in inputs) == assembly.parts_waiting == assembly.open_parts
    for record, names in found:
        for number in names:
            assert values[number].strip() in record.raw, (name, seed)
    plain = open_source(profile.source, profile)
    assert [record for value in values for record in plain.read(io.BytesIO(value))] == [record for record, _ in found]


def test_an_outcome_of_three_inputs_names_all_three() -> None:
    found, inputs, _ = read_all(load_profile(DOCS / "3gpp-json.toml"), VALUES["3gpp-json"])
    assert [names for record, names in found if record.canonical is not None] == [{0, 1, 2}, {3, 4, 5}, {6, 7, 8}]
    assert [one.held for one in inputs[9:]] == [1, 1]


def test_several_records_in_one_input_hold_it_until_the_last_is_decided() -> None:
    profile = load_profile(DOCS / "kamailio.toml")
    whole = b"\n".join(acc("INVITE", call, 1768483812) for call in range(3))
    values = [whole, *(acc("BYE", call, 1768483967) for call in range(3))]
    source = open_source(profile.source, profile)
    assert isinstance(source, AssembledSource)
    source.assembly = assembly = OriginAssembly(source.assembly)
    first, held = Input(0), []
    for number, value in enumerate(values):
        assembly.origin = Input(number) if number else first
        for record in source.read(io.BytesIO(value)):
            for origin in assembly.origins_of(record):
                origin.release()
        held.append(first.held)
    assert held == [3, 2, 1, 0]


def test_what_is_crowded_out_lets_go_of_its_inputs(tmp_path: Path) -> None:
    file = tmp_path / "kamailio.toml"
    file.write_text(
        (DOCS / "kamailio.toml")
        .read_text("utf-8")
        .replace("close_after_s = 90000", "close_after_s = 90000\nopen_calls_max = 2"),
        "utf-8",
    )
    found, inputs, assembly = read_all(load_profile(file), [acc("INVITE", call, 1768483812) for call in range(5)])
    assert [(record.kind, names) for record, names in found] == [
        ("incomplete", {0}),
        ("incomplete", {1}),
        ("incomplete", {2}),
    ]
    assert [one.held for one in inputs] == [0, 0, 0, 1, 1]
    assert assembly.parts_waiting == 2
