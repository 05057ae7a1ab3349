"""What the mediation agent is told, beside what every agent is: the folder of profiles, one for each raw topic."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from rater.doors.service.mediation_names import RAW_PREFIX
from rater.doors.settings import values
from rater.doors.settings.agent import AgentSettings, load_agent_settings
from rater.doors.settings.values import Parse, SettingsRefused
from rater.sources import ProfileRefused, SourceProfile, load_profile

TOPIC_PART = re.compile(r"[A-Za-z0-9._-]{1,100}")
KEYS: Mapping[str, Parse] = {"mediation_profiles": values.existing_folder}


@dataclass(frozen=True, slots=True, kw_only=True)
class MediationSettings:
    """Everything `rater mediation-agent` is told, checked."""

    surroundings: AgentSettings
    profiles: Mapping[str, SourceProfile]  # by raw topic, without the prefix of the deployment


def load_mediation_settings(
    config: Path | None = None, environment: Mapping[str, str] | None = None, **given: str | None
) -> MediationSettings:
    """Raises `SettingsRefused`, also for a profile that cannot be used."""
    surroundings, found = load_agent_settings("mediation", KEYS, frozenset(), config, environment, **given)
    if "mediation_profiles" not in found:
        raise SettingsRefused(
            "RATER_MEDIATION_PROFILES is not set; expected a folder of source profiles: kamailio.toml is for the topic raw-cdrs.kamailio"
        )
    return MediationSettings(surroundings=surroundings, profiles=profiles_in(found["mediation_profiles"]))


def profiles_in(folder: Path) -> Mapping[str, SourceProfile]:
    """`edge1.toml` is the profile of the topic `raw-cdrs.edge1`, whatever its source; no two have one switch."""
    profiles: dict[str, SourceProfile] = {}
    for file in sorted(folder.glob("*.toml")):
        if not TOPIC_PART.fullmatch(file.stem):
            raise SettingsRefused(
                f"{file}: expected a name of letters, digits, '.', '_', '-': it is a part of the topic's name"
            )
        try:
            profiles[RAW_PREFIX + file.stem] = load_profile(file)
        except ProfileRefused as refused:
            raise SettingsRefused(str(refused)) from None
    if not profiles:
        raise SettingsRefused(
            f"{folder}: holds no profile; expected for example kamailio.toml for the topic raw-cdrs.kamailio"
        )
    return profiles
