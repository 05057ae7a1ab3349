"""One answer of the engine in sentences that an auditor and a finance admin understand, one a decision.

Everything is told from the answer, the rated call and the books before and after it. Plans and pools are told in
`pool_sentences`, the deck and the arithmetic in `price_sentences`.
"""

from typing import Any

from rater.core.calls import BOT_OUT, CONFERENCE_IN, CONFERENCE_OUT, DIRECT_ROUTING, EMERGENCY, USER_IN, USER_OUT
from rater.core.numbering import CLASSES, EVERYWHERE, country_text
from rater.core.numbering import EMERGENCY as EMERGENCY_DIGITS
from rater.core.plans import MCOMEETACPEA, MCOMEETADD_DIALOUT_US, PLANS
from rater.doors.files.amounts import exact, grouped, per_minute, plural
from rater.doors.files.pool_sentences import conference_steps, plan_steps
from rater.doors.files.price_sentences import Terms, charge_steps, outbound_terms, prefix_steps
from rater.doors.files.scene import Facts, Scene, country_name

PREMIUM = CLASSES.index("premium")
NUMBER_TEXTS = {"user": "a user's number", "service": "a service number", "toll_free": "a toll-free number"}
FLAG_TEXTS = {
    "no_credit_licence": "the user holds no MCOPSTNC licence, so the gate should have refused a call that credits pay",
    "overdrawn": "the balance was not above 0 before it or is below 0 after it; it took place, so it is charged",
    "late": "the month of its start was closed already; it is charged to that month all the same",
    "no_plan": "the user holds no calling plan",
}
FREE_TEXTS = {
    EMERGENCY: "an emergency call: always allowed, always free",
    DIRECT_ROUTING: "Direct Routing: another carrier bills it, here it is only recorded",
    USER_IN: "a call to a user's own number: free to receive",
}


def tell(scene: Scene, facts: Facts) -> list[str]:
    """Every decision on the way to the price, in the order in which they were made."""
    steps = _expiries(facts)
    if facts.rated["outcome"] == "not_connected":
        return [*steps, _not_connected(scene.call), *_ending(facts)]
    steps.append(_connected(scene.call, facts))
    way = scene.way
    if way in FREE_TEXTS:
        steps.append(f"{scene.call['call_type']} is {FREE_TEXTS[way]}.")
    elif way in (USER_OUT, CONFERENCE_OUT, BOT_OUT):
        steps += _outbound(scene, facts)
    else:
        steps += _inbound(scene, facts)
    return [*steps, *_ending(facts)]


def _expiries(facts: Facts) -> list[str]:
    told = []
    for event in facts.events:
        if event["type"] == "rater.lot.expired":
            lot, lost = event["data"]["lot_id"], exact(event["data"]["forfeited_micros"], facts.currency)
            when = event["data"]["expires_at"]
            told.append(
                f"Lot {lot} expired at {when}, before this call had ended: the {lost} left in it are forfeited."
            )
    return told


def _not_connected(call: dict[str, Any]) -> str:
    why = []
    if call["answer"] is None:
        why.append("it has no instant of answer")
    if call["disposition"] != "answered":
        why.append(f"the switch says '{call['disposition']}'")
    if call["billable_ms"] == 0:
        why.append("nothing was measured (billable_ms is 0)")
    return f"Not connected: {' and '.join(why)}. It is recorded and costs nothing."


def _connected(call: dict[str, Any], facts: Facts) -> str:
    minutes = plural(facts.rated["billed_minutes"], "minute")
    measured = f"{grouped(call['billable_ms'])} ms"
    return f"Connected: answered at {call['answer']}, {measured} measured. Every started minute counts: {minutes}."


# --- outbound --------------------------------------------------------------------------------------------------------


def _outbound(scene: Scene, facts: Facts) -> list[str]:
    if _is_emergency(scene, facts):
        return [f"{scene.digits} is an emergency number in {facts.before['country']}: free, whatever the kind of call."]
    rows, row = scene.book.rules.decks.rows, int(scene.answer.deck_row)
    premium = row >= 0 and int(rows[row].number_class) == PREMIUM
    steps = [_destination(scene, facts), *_deck(scene, facts)]
    if premium:
        steps.append("Class premium: no pool of minutes ever pays for such a number.")
    steps += (conference_steps if scene.way == CONFERENCE_OUT else plan_steps)(scene, facts, premium)
    if facts.rated["capability"] == PLANS[MCOMEETADD_DIALOUT_US]:
        return steps
    terms = outbound_terms(scene.book.rules.decks, row, facts.currency) if row >= 0 else None
    return [*steps, *_rest(scene, facts, terms), *_payers(facts)]


def _is_emergency(scene: Scene, facts: Facts) -> bool:
    return scene.digits in EVERYWHERE or scene.digits in EMERGENCY_DIGITS.get(facts.before["country"], [])


def _destination(scene: Scene, facts: Facts) -> str:
    ours = scene.country_by_table(scene.digits)
    if ours:
        return f"The called number, {scene.digits}, belongs to {country_name(ours)} (our numbering table)."
    deck_says = facts.rated["destination_country"]
    if deck_says:
        return f"Our numbering table knows no country for {scene.digits}; the deck's row says {deck_says}."
    return f"Neither our numbering table nor the deck knows a country for {scene.digits}: it counts as international."


def _deck(scene: Scene, facts: Facts) -> list[str]:
    rated, head = facts.rated, int(scene.answer.head)
    if head < 0:
        return [f"No deck in {facts.currency} is in force at the start of the call, and amounts are never converted."]
    named = f"{rated['deck']}, version {rated['deck_version']}"
    deck = f"The deck is {named}: the one in {facts.currency} in force at the start of the call."
    row = int(scene.answer.deck_row)
    return [deck, *prefix_steps(scene.book.rules.decks, head, scene.digits, scene.start_ms, row, facts.currency)]


# --- inbound ---------------------------------------------------------------------------------------------------------


def _inbound(scene: Scene, facts: Facts) -> list[str]:
    number = next((n for n in facts.before["numbers"] if n["number"] == scene.call["callee"]), None)
    kind = number["number_type"] if number else "service"
    country = number["country"] if number else country_text(scene.country_by_table(scene.digits))
    whose = f"{NUMBER_TEXTS[kind]} of {country or 'an unknown country'}"
    steps = [
        f"{scene.digits} is {whose}." if number else f"{scene.digits} is assigned to nobody: it counts as {whose}."
    ]
    by_minute = scene.way == CONFERENCE_IN and scene.organiser_pays_by_the_minute()
    if by_minute:
        steps.append(f"The organiser, {scene.call['user']}, pays conferences by the minute ({PLANS[MCOMEETACPEA]}).")
    elif kind == "toll_free":
        steps.append("The owner of a toll-free number pays for the calls to it.")
    else:
        return [*steps, "Calls to it are free to receive."]
    steps += _inbound_rate(scene, facts, whose)
    return [*steps, *_rest(scene, facts, _inbound_terms(scene, facts)), *_payers(facts)]


def _inbound_rate(scene: Scene, facts: Facts, number: str) -> list[str]:
    rated, caller = facts.rated, scene.call["caller"]
    if rated["deck"] is None:
        return [f"No deck in {facts.currency} is in force at the start of the call, and amounts are never converted."]
    origin = country_name(scene.country_by_table(caller[1:])) if caller else ""
    called_from = f"from {origin}" if origin else "from a withheld number"
    deck = f"Deck {rated['deck']}, version {rated['deck_version']}"
    if rated["outcome"] == "freecall":
        return [f"{deck}, has no rate for calls {called_from} to {number}, and none for calls from anywhere."]
    price = per_minute(rated["rate_nanos_per_minute"], facts.currency)
    return [f"{deck}: a call {called_from} to {number} costs {price}."]


def _inbound_terms(scene: Scene, facts: Facts) -> Terms | None:
    if facts.rated["outcome"] == "freecall":
        return None
    head = scene.book.rules.decks.heads[int(scene.answer.head)]
    rate, fee = facts.rated["rate_nanos_per_minute"], facts.rated["connection_fee_micros"]
    return Terms(facts.currency, rate, fee, 0, int(head.initial_s), int(head.step_s))


# --- money -----------------------------------------------------------------------------------------------------------


def _rest(scene: Scene, facts: Facts, terms: Terms | None) -> list[str]:
    """What no pool gave, and its price."""
    pooled, rest = facts.rated["pool_minutes"], facts.rated["billed_minutes"] - facts.rated["pool_minutes"]
    if rest == 0:
        return ["No minute is left to pay, so no connection fee is due either."]
    other = "the other " if pooled else ""
    if terms is None:
        wanting = f"{'The other ' if pooled else ''}{plural(rest, 'minute')}"
        return [f"{wanting} would have to be paid, but there is no rate: the call is let go free (FREECALL)."]
    paid = f"Credits are asked for {other}{plural(rest, 'minute')}."
    return [paid, *charge_steps(terms, scene.call["billable_ms"], pooled, facts.rated["charge_micros"])]


def _payers(facts: Facts) -> list[str]:
    """Lots in the order they were added, then debt or invoice."""
    rated, currency = facts.rated, facts.currency
    left = {lot["lot_id"]: lot["left_micros"] for lot in facts.before["lots"]}
    steps = []
    for lot, amount in rated["lots"]:
        rest = left[lot] - amount
        keeps = f"keeps {exact(rest, currency)}" if rest else "is empty"
        steps.append(f"Lot {lot} had {exact(left[lot], currency)}, pays {exact(amount, currency)} and {keeps}.")
    if len(rated["lots"]) > 1:
        steps.append("Lots are drawn first in, first out.")
    if rated["debt_micros"]:
        debt = exact(rated["debt_micros"], currency)
        steps.append(f"No lot is left for {debt}: it becomes debt, which the next funds repay first.")
    if rated["invoice_micros"]:
        part, total = exact(rated["invoice_micros"], currency), exact(facts.after["invoice_micros"], currency)
        steps.append(f"{part} goes to the invoice (post-usage): {total} since the tenant was opened.")
    return steps


# --- the end ---------------------------------------------------------------------------------------------------------


def _ending(facts: Facts) -> list[str]:
    rated, currency = facts.rated, facts.currency
    capability = f", capability {rated['capability']}" if rated["capability"] else ""
    steps = [f"Outcome: {rated['outcome']}{capability}, charge {exact(rated['charge_micros'], currency)}."]
    before, after = exact(facts.before["balance_micros"], currency), exact(rated["balance_micros"], currency)
    moved = f"goes from {before} to {after}" if before != after else f"stays {after}"
    steps.append(f"The balance {moved}; the account is then at version {rated['account_version']}.")
    steps += [f"Flag {flag}: {FLAG_TEXTS[flag]}." for flag in rated["flags"]]
    steps += [
        f"It would announce {event['type']}: {event_text(event['type'], event['data'])}." for event in facts.events
    ]
    return steps


def event_text(kind: str, data: dict[str, Any]) -> str:
    """What an event says, in one line."""
    money = {key: exact(data[key], data["currency"]) for key in data if key.endswith("_micros")}
    balance = money.get("balance_micros", "")
    match kind.removeprefix("rater."):
        case "pool.reached":
            return (
                f"{data['percent']} % of {data['pool']}, {grouped(data['used'])} of {grouped(data['capacity'])} minutes"
            )
        case "recharge.requested":
            why = f"the balance, {balance}, is below {money['trigger_micros']}"
            return f"{money['amount_micros']} as {data['recharge_id']}: {why}"
        case "recharge.succeeded":
            return f"{money['amount_micros']} as {data['recharge_id']}; balance {balance}"
        case "recharge.failed":
            wait = f"{plural(data['failures'], 'time')} in a row, not before {data['next_attempt_after']} again"
            return f"{data['recharge_id']}: {data['reason']} ({wait})"
        case "lot.expired":
            return f"lot {data['lot_id']}, {money['forfeited_micros']} forfeited; balance {balance}"
        case "lot.expiring":
            return f"lot {data['lot_id']}, {money['left_micros']} left until {data['expires_at']}"
        case "month.closed":
            minutes = f"{grouped(data['pool_minutes'])} minutes of pools, {grouped(data['credit_minutes'])} of credits"
            return f"{data['month']}: {plural(data['calls'], 'call')}, {minutes}, {money['charge_micros']} charged"
        case "call.authorized":
            held = f"{money['amount_micros']} and {plural(data['pool_minutes'], 'minute')} held"
            return f"call {data['call_id']}, at most {grouped(data['seconds'])} s, paid by {data['payer']}; {held}"
        case "call.refused":
            return f"call {data['call_id']}: {data['reason']}; balance {balance}, held {money['held_micros']}"
        case "authorization.expired":
            return f"call {data['call_id']}: no record came; {money['amount_micros']} no longer held"
        case "contacts.set":
            return f"{plural(len(data['contacts']), 'contact')}"
        case "rate.missing":
            return (
                f"no rate for numbers that begin with {data['digits']}, first on {data['day']} in {data['record_id']}"
            )
        case "service.blocked":
            return f"calls that credits would pay are refused; balance {balance}"
        case "service.restored":
            return f"calls that credits pay are allowed again; balance {balance}"
        case _:
            return f"balance {balance}"
