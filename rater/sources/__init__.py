"""What switches really write, as canonical call records: one module per family, one registry, one profile format.

A source reads a file lazily and in bounded memory. Every record of the file becomes one SourceRecord, good or bad, with
its bytes; nothing in a file can stop it. It asks no clock, opens no file and knows no price.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from rater.sources.acme import Acme
from rater.sources.asterisk import AsteriskCsv
from rater.sources.asterisk_json import AsteriskJson
from rater.sources.ber import ThreeGppBer
from rater.sources.cucm import Cucm
from rater.sources.delimited import Delimited
from rater.sources.freeswitch_csv import FreeswitchCsv
from rater.sources.freeswitch_json import FreeswitchEvent, FreeswitchJson
from rater.sources.freeswitch_xml import FreeswitchXml
from rater.sources.graph import GraphDirectRouting, GraphPstn
from rater.sources.kamailio import Kamailio
from rater.sources.nchf import Nchf
from rater.sources.opensips import OpenSips
from rater.sources.profile import ProfileRefused, SourceProfile, profile_of, read_profile
from rater.sources.record import Assembling, Source, SourceRecord
from rater.sources.sonus import Sonus

SOURCES: Mapping[str, Callable[[SourceProfile], Source]] = MappingProxyType(
    {
        "asterisk-csv": AsteriskCsv,
        "asterisk-json": AsteriskJson,
        "freeswitch-csv": FreeswitchCsv,
        "freeswitch-json": FreeswitchJson,
        "freeswitch-xml": FreeswitchXml,
        "freeswitch-event": FreeswitchEvent,
        "graph-pstn": GraphPstn,
        "graph-direct-routing": GraphDirectRouting,
        "delimited": Delimited,
        "kamailio": Kamailio,
        "opensips": OpenSips,
        "3gpp-json": Nchf,
        "cucm": Cucm,
        "acme": Acme,
        "sonus": Sonus,
        "3gpp-ber": ThreeGppBer,
    }
)


def open_source(name: str, profile: SourceProfile) -> Source:
    """The reader of this family, set up by this profile; refuses a profile that was written for another one."""
    if name not in SOURCES:
        raise profile.refuse("--source", repr(name), "one of " + ", ".join(SOURCES))
    if profile.source != name:
        raise profile.refuse("source", repr(profile.source), repr(name))
    return SOURCES[name](profile)


def load_profile(path: Path) -> SourceProfile:
    """The profile in this TOML file, checked to the last key, so that a fault shows before the first record is read."""
    return checked(read_profile(path, tuple(SOURCES)))


def profile_from(name: str, data: Mapping[str, Any]) -> SourceProfile:
    """The profile of a TOML document that was read already, checked as one in a file; `name` is what messages say."""
    return checked(profile_of(name, data, tuple(SOURCES)))


def checked(profile: SourceProfile) -> SourceProfile:
    open_source(profile.source, profile)
    return profile


__all__ = [
    "SOURCES",
    "Assembling",
    "ProfileRefused",
    "Source",
    "SourceProfile",
    "SourceRecord",
    "load_profile",
    "open_source",
    "profile_from",
]
