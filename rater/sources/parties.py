"""Who called whom, which kind of call it was, who pays: the profile's rules over what one record says of its two sides.

Shared by the families whose records name two numbers and two trunks. A record is asked for its values by name
(`Getter`); which names there are is the family's business. Emergency comes before every other rule.
"""

import re
from collections.abc import Callable
from typing import NamedTuple

from rater.sources.numbers import e164, emergency_callee, is_internal, is_withheld
from rater.sources.profile import SourceProfile
from rater.sources.record import INBOUND_TYPES, NotBilled, Unusable, canonical_call, needs_user, shown

Getter = Callable[[str], str]
Times = tuple[int, int | None, int]  # start, answer, end
Whose = tuple[str, str | None]  # tenant, user
URI = re.compile(r"\s*(?:sips?:([^@;>?:]*)[^@>]*@|tel:([^;>]*))", re.IGNORECASE)
USUAL_URI = re.compile(r"(?:[^<]*<)?sip:(\+[0-9]+)@[^<]*")  # what URI finds in most of them, in a third of the time
Q850 = {
    1: "failed",
    16: "cancelled",
    17: "busy",
    18: "no_answer",
    19: "no_answer",
    20: "no_answer",
    31: "failed",
    34: "congestion",
    38: "congestion",
    41: "congestion",
    42: "congestion",
    44: "congestion",
    46: "congestion",
    47: "congestion",
    102: "no_answer",
}


class Sides(NamedTuple):
    """What one record says: numbers as the switch writes them, the trunks of both sides, a word for the direction.

    `called` is what was called from inside, `reached` what a call from outside reached; `dialled` says whether
    `called` is what a person dialled, access digit and all, and `also_dialled` is a second place to look for an
    emergency number.
    """

    caller: str
    caller_in: str
    called: str
    reached: str
    trunk_in: str = ""
    trunk_out: str = ""
    word: str = ""
    dialled: bool = True
    also_dialled: str = ""


class Settled(NamedTuple):
    call_type: str
    caller: str | None
    callee: str


class Parties:
    """The rules of one profile. `names` is what messages call caller, called and reached number, and the direction."""

    def __init__(self, profile: SourceProfile, names: tuple[str, str, str, str], tenant_column: str = "") -> None:
        self.profile = profile
        self.caller_name, self.called_name, self.reached_name, self.word_name = names
        self.tenant_column = profile.tenants.column or tenant_column
        self.trunks = frozenset(name for name in profile.call_types.trunks if not name.endswith("*"))
        self.trunks_like = tuple(name[:-1] for name in profile.call_types.trunks if name.endswith("*"))

    def settle(self, sides: Sides) -> Settled:
        rules = self.profile.numbers
        kind = self.kind(sides)
        if kind not in INBOUND_TYPES:
            for text in (sides.called, sides.also_dialled):
                emergency = emergency_callee(text, rules) if text and len(text) <= 8 else None
                if emergency is not None:
                    return Settled("emergency", self.caller(sides.caller, required=False), emergency)
        if kind == "skip":
            raise NotBilled("an internal call by [call_types]")
        if not kind:
            raise self.unknown_kind(sides)
        if kind in INBOUND_TYPES:
            callee = self.callee(sides.reached, self.reached_name, dialled=False)
            return Settled(kind, self.caller(sides.caller_in, required=True), callee)
        if is_internal(sides.called, rules):
            raise NotBilled("a call to an extension or a feature code, by [numbers] internal_digits_max")
        callee = self.callee(sides.called, self.called_name, dialled=sides.dialled)
        return Settled(kind, self.caller(sides.caller, required=False), callee)

    def is_trunk(self, name: str) -> bool:
        return name in self.trunks or bool(self.trunks_like and name.startswith(self.trunks_like))

    def kind(self, sides: Sides) -> str:
        """The call type of the profile's rules, `skip`, or nothing when no rule fits."""
        types = self.profile.call_types
        if types.by == "column":
            return types.known.get(sides.word) or types.known.get("*", "")
        if types.by == "trunks":
            comes_in, goes_out = self.is_trunk(sides.trunk_in), self.is_trunk(sides.trunk_out)
        else:
            comes_in = not self.is_owned(sides.caller, dialled=False)
            goes_out = not self.is_owned(sides.called, dialled=sides.dialled)
        if comes_in and goes_out:
            return types.transit
        if comes_in:
            return types.inbound
        return types.outbound if goes_out else types.internal

    def is_owned(self, text: str, *, dialled: bool) -> bool:
        rules = self.profile.numbers
        number = e164(text, rules, dialled=dialled)
        return is_internal(text, rules) or (number is not None and number.startswith(self.profile.call_types.owned))

    def unknown_kind(self, sides: Sides) -> Unusable:
        if self.profile.call_types.by == "column":
            return Unusable("bad_field", f"{self.word_name}: {shown(sides.word)} has no rule under [call_types.map]")
        return Unusable("bad_field", "both sides are outside and [call_types] transit does not say what such a call is")

    def caller(self, text: str, *, required: bool) -> str | None:
        """The caller, or None when withheld. An inbound call's price hangs on it, so there it must be readable."""
        number = e164(text, self.profile.numbers, dialled=False)
        if number is None and required and not is_withheld(text):
            raise Unusable(
                "bad_field",
                f"{self.caller_name}: no rule under [numbers] makes this caller a number with '+' and country",
            )
        return number

    def callee(self, text: str, name: str, *, dialled: bool) -> str:
        if not text:
            raise Unusable("missing_field", f"{name}: holds no number")
        number = e164(text, self.profile.numbers, dialled=dialled)
        if number is None:
            raise Unusable("bad_field", f"{name}: no rule under [numbers] makes this a number with '+' and country")
        return number

    def tenant(self, get: Getter) -> str:
        tenants = self.profile.tenants
        if tenants.every:
            return tenants.every
        code = get(self.tenant_column)
        found = tenants.known.get(code) or (code if tenants.same else "") or ("" if code else tenants.default)
        if found:
            return found
        if code:
            raise Unusable("unknown_tenant", f"{self.tenant_column}: {shown(code)} has no tenant under [tenants.map]")
        raise Unusable("missing_field", f"tenant: {self.tenant_column} is empty and [tenants] has no default")

    def user(self, get: Getter, call_type: str) -> str | None:
        users = self.profile.users
        column = users.column_in or users.column if call_type in INBOUND_TYPES else users.column
        text = get(column)
        found = users.known.get(text) or (text if users.unmapped == "same" else "")
        if not found and needs_user(call_type):
            why = f"{shown(text)} is not under [users.map]" if text else "is empty"
            raise Unusable("missing_field", f"user: {column} {why}")
        return found or None

    def whose(self, get: Getter, call_type: str) -> Whose:
        return self.tenant(get), self.user(get, call_type)

    def call_record(
        self,
        name: str,
        settled: Settled,
        whose: Whose,
        times: Times,
        billable_ms: int,
        disposition: str,
        *,
        switch: str = "",
        **more: str | None,
    ) -> bytes:
        """The call record of what a family found out, checked; `more` is optional text, such as call_id."""
        call_type, caller, callee = settled
        tenant, user = whose
        start_ms, answer_ms, end_ms = times
        return canonical_call(
            record_id=name,
            tenant=tenant,
            call_type=call_type,
            user=user,
            caller=caller,
            callee=callee,
            start_ms=start_ms,
            answer_ms=answer_ms,
            end_ms=end_ms,
            billable_ms=billable_ms,
            disposition=disposition,
            source=self.profile.source,
            switch=switch or self.profile.switch,
            **more,
        )


def check_rules(profile: SourceProfile, kinds: tuple[str, ...], tenant_column: str = "") -> None:
    """Refuse a profile that leaves open what these families cannot know: switch, tenant, user, kind of call."""
    types = profile.call_types
    if not profile.switch:
        raise profile.refuse("switch", "nothing", "the name of this switch; two switches may give the same id")
    if types.by not in kinds:
        raise profile.refuse("[call_types] by", repr(types.by) if types.by else "nothing", "one of " + ", ".join(kinds))
    if types.by == "column" and not types.known:
        raise profile.refuse("[call_types.map]", "nothing", "a call type for each value, '*' for any other")
    if types.by == "trunks" and not types.trunks:
        raise profile.refuse("[call_types] trunks", "nothing", "the trunks' names, for example ['carrier1']")
    if types.by == "numbers" and not types.owned:
        raise profile.refuse("[call_types] owned", "nothing", "the tenants' own numbers, for example ['+4420794600']")
    if not profile.users.column:
        raise profile.refuse("[users] column", "nothing", "the column that names the user")
    tenants = profile.tenants
    if not (tenants.every or tenants.same or tenants.default or tenants.known):
        raise profile.refuse("tenant", "nothing", "tenant = '...', or a [tenants] table that maps the account codes")
    if not (tenants.every or tenants.column or tenant_column):
        raise profile.refuse("[tenants] column", "nothing", "the column that names the account")


def uri_number(text: str) -> str:
    """The number inside a SIP or TEL URI, with or without a display name; any other text as it is.

    "J. Doe" <sip:+442079460018@198.51.100.7;user=phone>;tag=as7f01 -> +442079460018

    A URI without a user (sip:198.51.100.7) names no one: empty, since an address could be taken for a number.
    """
    if ":" not in text:
        return text
    usual = USUAL_URI.fullmatch(text)
    if usual is not None:
        return usual[1]
    inside = text[text.rfind("<") + 1 :]
    found = URI.match(inside)
    if found is not None:
        return found[1] if found[1] is not None else found[2]
    return "" if inside.lstrip()[:4].lower() in ("sip:", "sips") else text


def disposition_of(cause: int) -> str:
    """What a call without an answer was, by its Q.850 cause; 0 says nothing."""
    if cause == 0:
        return "unknown"
    return Q850.get(cause, "failed" if cause < 128 else "unknown")
