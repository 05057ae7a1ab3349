"""One call as a row: what the scanner found in a call record, in the units the rules use.

Places (`*_at`, `*_end`) are byte positions in the batch's buffer, so a text is never copied. `answer_ms` is `NEVER_MS`
where the call was never answered; a text that is absent or null has `*_at` -1.
"""

import numpy as np

CALL_TYPES = (
    "user_out", "user_out_conf", "user_out_transfer", "user_out_forwarding", "user_in", "conf_out", "conf_in",
    "ucap_out", "ucap_in", "unassigned_in", "emergency",
    "dr_in", "dr_out", "dr_out_user_conf", "dr_out_user_forwarding", "dr_out_user_transfer", "dr_emergency_out",
    "dr_unassigned_in", "dr_in_bot", "dr_in_ucap", "dr_out_bot", "dr_out_ucap",
)  # fmt: skip
DISPOSITIONS = ("answered", "no_answer", "busy", "cancelled", "congestion", "failed", "unknown")
ANSWERED = 0

# Who may have to pay: the call types that the rules treat alike.
USER_OUT, CONFERENCE_OUT, BOT_OUT, USER_IN, CONFERENCE_IN, BOT_IN, UNASSIGNED_IN, EMERGENCY, DIRECT_ROUTING = range(9)
WAYS = np.array([USER_OUT] * 4 + [USER_IN, CONFERENCE_OUT, CONFERENCE_IN, BOT_OUT, BOT_IN, UNASSIGNED_IN, EMERGENCY]
                + [DIRECT_ROUTING] * 11, np.int64)  # fmt: skip
# The call types that only credits can pay once a balance is gone: what the gate refuses then.
REFUSED_WITHOUT_CREDIT = (*CALL_TYPES[:4], "conf_out", "conf_in", "ucap_out", "ucap_in", "unassigned_in")

CALL = np.dtype(
    [
        ("content", np.uint64),
        ("start_ms", np.int64),
        ("answer_ms", np.int64),
        ("end_ms", np.int64),
        ("billable_ms", np.int64),
        ("record_at", np.int64),
        ("record_end", np.int64),
        ("tenant_at", np.int64),
        ("tenant_end", np.int64),
        ("user_at", np.int64),
        ("user_end", np.int64),
        ("caller_at", np.int64),
        ("caller_end", np.int64),
        ("callee_at", np.int64),
        ("callee_end", np.int64),
        ("call_id_at", np.int64),
        ("call_id_end", np.int64),
        ("call_type", np.int64),
        ("disposition", np.int64),
        ("reason", np.int64),
        ("field", np.int64),
        ("unknown_fields", np.int64),
        ("line_end", np.int64),  # where its rated line ends in the block it was written to; 0: it has none
        # Looked up for a block of calls at once (`core.ahead`), before they are decided one by one:
        ("account", np.int64),  # row, or -1
        ("user", np.int64),  # row, or -1
        ("entry", np.uint64),  # of the ids seen
        ("check", np.uint64),
        ("user_high", np.uint64),
        ("user_low", np.uint64),
    ],
    align=True,
)
