"""What a rule did with a value, in words of the profile, told from what went into it and what came out."""

from typing import Any

from rater.sources.profile import SourceProfile
from rater.sources.record import INBOUND_TYPES, instant_text
from rater.sources.trace import Ruled


def told(one: Ruled, profile: SourceProfile) -> str:
    """One sentence, or nothing where the rule says nothing that a reader of the profile wants to know."""
    teller = TELLERS.get(one.rule)
    return teller(one, profile) if teller is not None else ""


def of_number(one: Ruled, profile: SourceProfile) -> str:
    text, rules = one.given["text"], profile.numbers
    if not text:
        return ""
    if text in rules.extensions:
        return f"{text} stands under [numbers.extensions]: {one.answer}"
    if one.answer is None:
        return f"no rule under [numbers] explains {text}"
    number, steps = text, []
    for inner in one.inner:
        if inner.rule == "without_access" and inner.answer != inner.given["digits"]:
            access = len(inner.given["digits"]) - len(inner.answer)
            steps.append(f"access digit {inner.given['digits'][:access]} taken off")
            number = inner.answer
        if inner.rule == "national_number":
            taken = number[: len(number) - len(inner.given["digits"])]
            steps.append(
                f"national prefix {taken} became +{rules.country_code}"
                if taken
                else f"national: behind +{rules.country_code}"
            )
    if not steps or (len(steps) == 1 and steps[0].startswith("access")):
        steps.append(international(number, one.answer, profile))
    return f"{text}: {', '.join(filter(None, steps))}: {one.answer}"


def international(number: str, answer: str, profile: SourceProfile) -> str:
    digits = answer[1:]
    if number.startswith("+"):
        return "a full number" if number == answer else "a full number, its separators taken off"
    for prefix in profile.numbers.international:
        if number.endswith(digits) and number.startswith(prefix) and number != digits:
            return f"international prefix {prefix} became +"
    return 'bare = "e164": + before it'


def of_emergency(one: Ruled, _: SourceProfile) -> str:
    return f"{one.given['text']} is an emergency number: {one.answer}" if one.answer else ""


def of_kind(one: Ruled, profile: SourceProfile) -> str:
    types = profile.call_types
    if one.rule == "call_type":
        return f"the record's own word: {one.answer}" if one.answer else "a word without a rule under [call_types.map]"
    how = f'[call_types] by = "{types.by}"'
    if not one.answer:
        return f"{how}: no rule fits"
    return f"{how}: {one.answer}" if one.answer != "skip" else f"{how}: not billed (skip)"


def of_tenant(one: Ruled, profile: SourceProfile) -> str:
    tenants = profile.tenants
    if tenants.every:
        return "tenant of the profile"
    if one.answer is None:
        return "no tenant under [tenants]"
    if one.answer in tenants.known.values():
        return "by [tenants.map]"
    return "the code itself, [tenants] same = true" if tenants.same else "[tenants] default, the code is empty"


def of_user(one: Ruled, profile: SourceProfile) -> str:
    users = profile.users
    which = "column_in" if users.column_in and one.given.get("call_type") in INBOUND_TYPES else "column"
    if one.answer is None:
        return f"no user by [users] {which}"
    return f"by [users.map] ([users] {which})" if one.answer in users.known.values() else f"as written, [users] {which}"


def of_stamp(one: Ruled, profile: SourceProfile) -> str:
    answers = one.answer if isinstance(one.answer, tuple) else (one.answer,)
    instants = [instant_text(at_ms) for at_ms in answers if type(at_ms) is int and 0 <= at_ms < 253_402_300_800_000]
    text = next(
        (value for key, value in one.given.items() if isinstance(value, str) and key not in ("name", "fraction")), ""
    )
    if any(inner.answer == one.answer for inner in one.inner):
        return ""  # said there
    if "clock" in one.given:
        text = f"{one.given['date']} {one.given['clock']}"
    elif one.reads:
        text = one.reads[-1].text
    if not instants:
        return f"{text} says never" if text and isinstance(one.answer, tuple) else ""
    if len(instants) > 1:
        return f"{text} comes twice in {profile.zone}: {' or '.join(instants)}"
    zone = f", clock of {profile.zone}" if profile.zone and not text.replace(".", "").isdigit() else ""
    return f"{text}{zone}: {instants[0]}"


def of_settling(one: Ruled, _: SourceProfile) -> str:
    if "starts" not in one.given or one.answer is None:
        return ""
    many = max(len(one.given[name]) for name in ("starts", "answers", "ends"))
    return "of two readings the one that agrees with the record's other figures" if many > 1 else ""


def of_span(one: Ruled, _: SourceProfile) -> str:
    given = one.given
    if one.answer is None:
        return ""
    text = given.get("text", given.get("duration_s", ""))
    return f"{text} {given.get('unit', 's')}: {one.answer} ms" if text != "" else ""


def of_sum(one: Ruled, _: SourceProfile) -> str:
    if isinstance(one.answer, tuple):
        return f"{one.answer[0]} ms in {one.answer[1]} containers"
    return ""


def of_billable(one: Ruled, _: SourceProfile) -> str:
    return f"{one.answer} ms are billed" if type(one.answer) is int and not one.inner else ""


def of_disposition(one: Ruled, _: SourceProfile) -> str:
    return f"means {one.answer}" if one.answer else ""


def of_id(one: Ruled, _: SourceProfile) -> str:
    parts = [part for part in one.given.get("parts", ()) if isinstance(part, str)]
    return f"switch {one.given['switch']} and {', '.join(part or '(empty)' for part in parts)}" if parts else ""


def of_unwrapping(one: Ruled, _: SourceProfile) -> str:
    given = next((value for value in one.given.values()), "")
    shown = given.hex() if isinstance(given, bytes) else str(given)
    return f"{shown}: the number inside is {one.answer}" if one.answer and str(one.answer) != shown else ""


TELLERS: dict[str, Any] = {
    "e164": of_number,
    "unmasked": of_unwrapping,
    "emergency_callee": of_emergency,
    "kind": of_kind,
    "call_type": of_kind,
    "tenant": of_tenant,
    "user": of_user,
    **dict.fromkeys(("instants", "instant", "epoch", "instant_ms", "instant_needed", "stamp_ms", "epoch_ms"), of_stamp),
    "settle": of_settling,
    **dict.fromkeys(("span_ms", "seconds_ms", "billable"), of_span),
    "used_ms": of_sum,
    "billable_ms": of_billable,
    **dict.fromkeys(("disposition", "cs_disposition", "sip_disposition", "disposition_of"), of_disposition),
    "record_id": of_id,
    **dict.fromkeys(("uri_number", "address", "party", "directory_number", "peer"), of_unwrapping),
}
