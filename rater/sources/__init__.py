"""What switches really write, as canonical call records: one module per family, one registry, one profile format.

A source reads a file lazily and in bounded memory. Every record of the file becomes one SourceRecord, good or bad, with
its bytes; nothing in a file can stop it. It asks no clock, opens no file and knows no price.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType

from rater.sources.asterisk import AsteriskCsv
from rater.sources.graph import GraphDirectRouting, GraphPstn
from rater.sources.profile import ProfileRefused, SourceProfile, read_profile
from rater.sources.record import Source, SourceRecord

SOURCES: Mapping[str, Callable[[SourceProfile], Source]] = MappingProxyType(
    {
        "asterisk-csv": AsteriskCsv,
        "graph-pstn": GraphPstn,
        "graph-direct-routing": GraphDirectRouting,
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
    profile = read_profile(path, tuple(SOURCES))
    open_source(profile.source, profile)
    return profile


__all__ = ["SOURCES", "ProfileRefused", "Source", "SourceProfile", "SourceRecord", "load_profile", "open_source"]
