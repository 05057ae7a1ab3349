"""A profile that cannot be used is refused before the first record, naming file, key, found and expected."""

from pathlib import Path

import pytest

from rater.sources import SOURCES, ProfileRefused, load_profile, open_source
from tests.sources.support import ASTERISK, GRAPH, profile


def refusal(folder: Path, text: str) -> ProfileRefused:
    with pytest.raises(ProfileRefused) as caught:
        profile(folder, text)
    assert caught.value.file == str(folder / "profile.toml")
    assert str(caught.value) == (
        f"{caught.value.file}: {caught.value.key}: found {caught.value.found}; expected {caught.value.expected}"
    )
    return caught.value


def test_an_asterisk_profile_without_a_zone_is_refused(tmp_path: Path) -> None:
    fault = refusal(tmp_path, ASTERISK.replace('zone = "UTC"', ""))
    assert (fault.key, fault.found) == ("zone", "nothing")
    assert "IANA zone" in fault.expected


@pytest.mark.parametrize(
    ("old", "new", "key"),
    [
        ("zone =", "zones = 1\nzone =", "zones"),
        ('"UTC"', '"Europe/Londn"', "zone"),
        ('"UTC"', "5", "zone"),
        ('"asterisk-csv"', '"asterix"', "source"),
        ('switch = "pbx1"', "", "switch"),
        ('"pbx1"', '"p:x"', "switch"),
        ('tenant = "acme"', "", "tenant"),
        ('tenant = "acme"', 'tenant = "a b"', "tenant"),
        ('tenant = "acme"', 'tenant = "acme"\n[tenants]\nsame = true', "[tenants]"),
        ('tenant = "acme"', '[tenants]\nsame = "yes"', "[tenants] same"),
        ('tenant = "acme"', '[tenants.map]\nacme = "a b"', "[tenants.map] acme"),
        ('tenant = "acme"', '[tenants]\ncolumn = "account"\nsame = true', "[asterisk] layout"),
        ('column = "channel-peer"', "", "[users] column"),
        ("channel-peer", "cnum", "[asterisk] layout"),
        ("[users]", '[users]\nunmaped = "same"', "[users] unmaped"),
        ('bare = "e164"', 'bare = "guess"', "[numbers] bare"),
        ('bare = "e164"', 'bare = "national"', "[numbers] country_code"),
        ('bare = "e164"', 'bare = "national"\ncountry_code = "44"', "[numbers] national_digits"),
        ('bare = "e164"', 'national = "0"', "[numbers] country_code"),
        ('bare = "e164"', 'country_code = "+44"', "[numbers] country_code"),
        ('bare = "e164"', 'access = "9"', "[numbers] access"),
        ('bare = "e164"', 'emergency = ["15"]', "[numbers] country_code"),
        ('bare = "e164"', "internal_digits_max = true", "[numbers] internal_digits_max"),
        ('bare = "e164"', 'national_digits = ["10"]', "[numbers] national_digits"),
        ('bare = "e164"', '[numbers.extensions]\n1001 = "442079460018"', "[numbers.extensions] 1001"),
        ('by = "dcontext"', "", "[call_types] by"),
        ('by = "dcontext"', 'by = "trunks"', "[call_types] trunks"),
        ('by = "dcontext"', 'by = "numbers"', "[call_types] owned"),
        ('by = "dcontext"', 'by = "dcontext"\nowned = ["44"]', "[call_types] owned"),
        ('by = "dcontext"', 'by = "dcontext"\ninbound = "in"', "[call_types] inbound"),
        ('"user_out"', '"outgoing"', "[call_types.map] from-internal"),
        ('"master-18"', '"master-15"', "[asterisk] layout"),
        ('layout = "master-18"', "", "[asterisk] layout"),
        ('"master-18"', '"master-18"\ncolumns = ["src"]', "[asterisk] columns"),
        ('layout = "master-18"', 'columns = ["src", "bilsec"]', "[asterisk] columns"),
        ('layout = "master-18"', 'columns = ["src", "src"]', "[asterisk] columns"),
        ('layout = "master-18"', 'columns = ["src", "dst", "start", "billsec"]', "[asterisk] layout"),
        ('"master-18"', '"master-18"\nlinkedid_policy = "longest"', "[asterisk] linkedid_policy"),
        ('"master-18"', '"master-18"\nlinkedid_policy = "first"', "[asterisk] layout"),
        ('"master-18"', '"master-18"\ndelimiter = ",,"', "[asterisk] delimiter"),
        ('"master-18"', '"master-18"\n[graph]\nmasked_callee = "cut"', "graph"),
        ("[users]", "users = 5\n[users2]", "users"),
    ],
)
def test_faults_are_named(tmp_path: Path, old: str, new: str, key: str) -> None:
    assert old in ASTERISK
    assert refusal(tmp_path, ASTERISK.replace(old, new)).key == key


def test_a_file_that_is_no_toml_or_not_there(tmp_path: Path) -> None:
    assert "fault in its TOML" in refusal(tmp_path, "source = ").found
    with pytest.raises(ProfileRefused, match="can be read"):
        load_profile(tmp_path / "none.toml")
    (tmp_path / "latin.toml").write_bytes(b"source = '\xe9'")
    with pytest.raises(ProfileRefused, match="UTF-8"):
        load_profile(tmp_path / "latin.toml")


def test_a_profile_opens_only_its_own_source(tmp_path: Path) -> None:
    prof = profile(tmp_path, GRAPH)
    for name in ("graph-direct-routing", "canonical"):
        with pytest.raises(ProfileRefused):
            open_source(name, prof)
    assert {"asterisk-csv", "graph-pstn", "graph-direct-routing"} <= set(SOURCES)
