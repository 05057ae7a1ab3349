"""Amounts, instants and names as a reader of a language expects them. Amounts stay integers and `Decimal`, never a float.

Babel is given a `Decimal` that already has the currency's decimals: it places marks and signs and rounds nothing. Instants are
UTC and say so.
"""

import re
from datetime import UTC, date, datetime
from decimal import ROUND_HALF_UP, Context, Decimal, localcontext

from babel import Locale
from babel.core import UnknownLocaleError
from babel.dates import format_date, format_datetime, format_skeleton
from babel.numbers import format_currency, format_decimal, get_currency_precision

# Enough for 2**63 micro-units in a currency of any precision.
_EXACT = Context(prec=60, rounding=ROUND_HALF_UP)
_UNSAFE = re.compile(
    r"[\x00-\x1f\x7f-\x9f\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\ud800-\udfff]+"
)
_NUMBER = re.compile(r"(\+|\b00)[1-9](?:[ ().\-]{0,2}\d){5,}")


def harmless(text: str) -> str:
    """Without whatever ends a line, hides, or turns the direction of writing."""
    return _UNSAFE.sub(" ", text)


def one_line(text: str) -> str:
    """`harmless`, and without the gaps: fit for a header."""
    return re.sub(r" {2,}", " ", harmless(text)).strip()


def without_numbers(text: str) -> str:
    """A full phone number that a free text carries keeps its first digits: `+442079460018` -> `+4420…`."""
    return _NUMBER.sub(lambda match: re.sub(r"[^\d+]", "", match[0])[:5] + "…", text)


def shortened(text: str, longest: int) -> str:
    return text if len(text) <= longest else text[: longest - 1].rstrip() + "…"


def money(micros: int, currency: str, language: str) -> str:
    """50_000_000 USD -> `$50.00`, in French `50,00 $US`; half a cent goes up, away from zero, and -0.00 is 0.00."""
    with localcontext(_EXACT):  # Babel quantizes in the thread's context, which anybody may have changed
        quantum = Decimal(1).scaleb(-get_currency_precision(currency))
        shown = Decimal(micros).scaleb(-6).quantize(quantum)
        return format_currency(abs(shown) if shown == 0 else shown, currency, locale=language)


def number(count: int, language: str) -> str:
    return format_decimal(Decimal(count), locale=language)


def _instant(text: str) -> datetime:
    return datetime.fromisoformat(text.replace("Z", "+00:00")).astimezone(UTC)


def instant(text: str, language: str) -> str:
    """`2026-11-03T13:32:47.250Z` -> `3 November 2026, 13:32 UTC`: minutes, because a reader compares it with a clock."""
    when = _instant(text)
    pattern = "d MMMM y, HH:mm" if language != "fr" else "d MMMM y 'à' HH:mm"
    return f"{format_datetime(when, pattern, locale=language)}\u00a0UTC"  # never at the end of one line and the start of the next


def day(text: str, language: str) -> str:
    """The UTC day of an instant, or of a `2026-11-03`: `3 November 2026`"""
    when = _instant(text).date() if "T" in text else date.fromisoformat(text)
    return format_date(when, "d MMMM y", locale=language)


def month(text: str, language: str) -> str:
    """`2026-11` -> `November 2026`"""
    year, of_year = (int(part) for part in text.split("-"))
    return format_skeleton("yMMMM", date(year, of_year, 1), locale=language)


def country(code: str, language: str) -> str:
    """`GB` -> `United Kingdom`; a code the tables lack stays what it is."""
    try:
        name: str | None = Locale.parse(language).territories.get(code)
    except UnknownLocaleError:
        return code
    return name or code


_SCOPES = {
    "en": {"domestic": "domestic calls", "international": "international calls", "zone-a": "conference dial-out"},
    "fr": {"domestic": "appels nationaux", "international": "appels internationaux",
           "zone-a": "appels sortants de conférence"},
}  # fmt: skip


def pool(name: str, language: str) -> str:
    """`GB/MCOPSTN1/domestic/2026-11` -> `United Kingdom, MCOPSTN1, domestic calls`; what is read otherwise stays as it is."""
    parts = name.split("/")
    if len(parts) < 4 or parts[2] not in _SCOPES[language]:
        return name
    where = [] if parts[0] == "*" else [country(parts[0], language)]
    return ", ".join([*where, parts[1], _SCOPES[language][parts[2]], *parts[4:]])


def pool_month(name: str, language: str) -> str:
    """The month in a pool's name; "" where it has none."""
    parts = name.split("/")
    return month(parts[3], language) if len(parts) > 3 and re.fullmatch(r"\d{4}-\d\d", parts[3]) else ""


_SERVICES = {
    "en": {
        "user_out": "Outgoing calls that no plan minutes cover",
        "user_out_conf": "Calls users add to a conversation",
        "user_out_transfer": "Transfers to outside numbers",
        "user_out_forwarding": "Forwarding to outside numbers",
        "conf_out": "Dial-out from conferences",
        "conf_in": "Toll-free dial-in to conferences",
        "ucap_out": "Outgoing calls of auto attendants and queues",
        "ucap_in": "Toll-free calls to auto attendants and queues",
        "unassigned_in": "Toll-free calls to unassigned numbers",
    },
    "fr": {
        "user_out": "Appels sortants non couverts par un forfait",
        "user_out_conf": "Appels ajoutés à une conversation",
        "user_out_transfer": "Transferts vers l'extérieur",
        "user_out_forwarding": "Renvois vers l'extérieur",
        "conf_out": "Appels sortants depuis les conférences",
        "conf_in": "Numéros gratuits d'accès aux conférences",
        "ucap_out": "Appels sortants des standards et files d'attente",
        "ucap_in": "Numéros gratuits des standards et files d'attente",
        "unassigned_in": "Numéros gratuits non attribués",
    },
}


def service(call_type: str, language: str) -> str:
    return _SERVICES[language].get(call_type, call_type)
