"""Invented calls as lines of the delimited files that switches write; quotes, empty fields and widths as in life."""

from benchmarks.mediation_calls import Call, iso, seconds, shown, talked_s
from rater.sources.acme import C640_STOP
from rater.sources.asterisk_layouts import LAYOUTS
from rater.sources.cucm import DOCUMENTED


def asterisk(call: Call) -> bytes:
    unique = f"{seconds(call.start_ms)}.{call.place}"
    values = {
        "accountcode": f"tenant{call.place % 50}",
        "src": call.caller,
        "dst": "900" + call.callee[1:],
        "dcontext": "from-internal",
        "clid": f'"J. Doe" <{call.caller}>',
        "channel": f"PJSIP/{call.user}-{call.place:08x}",
        "dstchannel": f"PJSIP/carrier1-{call.place + 1:08x}",
        "lastapp": "Dial",
        "lastdata": f"PJSIP/{call.callee[1:]}@carrier1,60",
        "start": iso(call.start_ms),
        "answer": iso(call.answer_ms),
        "end": iso(call.end_ms),
        "duration": str(seconds(call.end_ms) - seconds(call.start_ms)),
        "billsec": str(talked_s(call)),
        "disposition": "ANSWERED" if call.answer_ms else "NO ANSWER",
        "amaflags": "DOCUMENTATION",
        "uniqueid": unique,
        "linkedid": unique,
        "sequence": str(call.place),
    }
    bare = ("duration", "billsec", "sequence")
    cells = [
        values.get(name, "") if name in bare else '"' + values.get(name, "").replace('"', '""') + '"'
        for name in LAYOUTS["newcolumns-21"]
    ]
    return ",".join(cells).encode()


def freeswitch_csv(call: Call) -> bytes:
    cells = ("J. Doe", call.caller, call.callee[1:], "default", iso(call.start_ms), iso(call.answer_ms),
             iso(call.end_ms), seconds(call.end_ms) - seconds(call.start_ms), talked_s(call),
             "NORMAL_CLEARING" if call.answer_ms else "NO_ANSWER", call.uuid, call.uuid[::-1].replace("-", "0"),
             f"tenant{call.place % 50}", "PCMU", "PCMU")  # fmt: skip
    return ",".join(f'"{cell}"' for cell in cells).encode()


CUCM_TEXTS = frozenset(
    """callingPartyNumber callingPartyUnicodeLoginUserID originalCalledPartyNumber finalCalledPartyNumber
    finalCalledPartyUnicodeLoginUserID lastRedirectDn pkid originalCalledPartyNumberPartition callingPartyNumberPartition
    finalCalledPartyNumberPartition lastRedirectDnPartition origDeviceName destDeviceName globalCallId_ClusterID comment
    authCodeDescription clientMatterCode authorizationCodeValue outpulsedCallingPartyNumber outpulsedCalledPartyNumber
    origIpv4v6Addr destIpv4v6Addr huntPilotPartition huntPilotDN""".split()
)


def cucm(call: Call) -> bytes:
    values = {
        "cdrRecordType": "1",
        "globalCallID_callManagerId": "2",
        "globalCallID_callId": str(90_000 + call.place),
        "globalCallId_ClusterID": "cluster1",
        "pkid": call.uuid,
        "dateTimeOrigination": str(seconds(call.start_ms)),
        "dateTimeConnect": str(seconds(call.answer_ms)),
        "dateTimeDisconnect": str(seconds(call.end_ms)),
        "duration": str(talked_s(call)),
        "callingPartyNumber": "50" + call.caller[-2:],
        "originalCalledPartyNumber": "900" + call.callee[1:],
        "finalCalledPartyNumber": "900" + call.callee[1:],
        "outpulsedCallingPartyNumber": call.caller,
        "outpulsedCalledPartyNumber": call.callee,
        "origDeviceName": f"SEP02005E{call.place % 4096:06X}",
        "destDeviceName": "SIP-TRUNK-CARRIER1",
        "origCause_value": "16" if call.answer_ms else "19",
        "callingPartyNumberPartition": "PT-Internal",
    }
    return ",".join(
        f'"{values.get(name, "")}"' if name in CUCM_TEXTS else values.get(name, "0") for name in DOCUMENTED
    ).encode()


def cucm_head() -> bytes:
    names = ",".join(f'"{name}"' for name in DOCUMENTED)
    types = ",".join("VARCHAR(50)" if name in CUCM_TEXTS else "INTEGER" for name in DOCUMENTED)
    return f"{names}\n{types}\n".encode()


def acme_stamp(at_ms: int | None) -> str:
    if at_ms is None:
        return '""'
    return '"' + shown(at_ms, f"%H:%M:%S.{at_ms % 1000:03d} UTC %b %d %Y").upper() + '"'


def acme_stop(call: Call) -> bytes:
    values = [""] * 175
    named = {
        "nas_address": "198.51.100.7",
        "session_id": f'"SDq9c0901-{call.uuid}@198.51.100.7"',
        "ingress_call_id": f'"{call.uuid}@198.51.100.7"',
        "egress_call_id": f'"SDq9c0902-{call.uuid}@198.51.100.7"',
        "calling": f'"<sip:{call.caller}@198.51.100.7;user=phone>;tag=as{call.place}"',
        "called": f'"<sip:{call.callee}@203.0.113.9>;tag=gK0a11"',
        "terminate_cause": "1",
        "session_time": str(talked_s(call)),
        "setup": acme_stamp(call.start_ms),
        "connect": acme_stamp(call.answer_ms),
        "disconnect": acme_stamp(call.end_ms),
        "egress_realm": "carrier1",
        "ingress_realm": f"tenant{call.place % 50}",
        "disposition": "3" if call.answer_ms else "2",
        "sip_status": "200" if call.answer_ms else "480",
    }
    values[0] = "2"
    for name, value in named.items():
        values[C640_STOP[name] - 1] = value
    return ",".join(values).encode()


def acme_start(call: Call) -> bytes:
    values = ["1", "198.51.100.7", "5060", f'"SDq9c0901-{call.uuid}@198.51.100.7"', "", "", "", "", ""]
    values += [f'"<sip:{call.caller}@198.51.100.7;user=phone>"', f'"<sip:{call.callee}@203.0.113.9>"']
    return ",".join([*values, acme_stamp(call.start_ms), acme_stamp(call.answer_ms), *[""] * 109]).encode()


def sonus_date(at_ms: int) -> str:
    return shown(at_ms, "%m/%d/%Y")


def sonus_time(at_ms: int) -> str:
    return shown(at_ms, f"%H:%M:%S.{at_ms % 1000 // 100}")


def sonus_head(call: Call, kind: str) -> list[str]:
    begun = [sonus_date(call.start_ms), sonus_time(call.start_ms)]
    return [
        kind,
        "sbc1",
        f"0x{call.uuid[-12:]}{call.place:08X}",
        str(88_213_040 + call.place),
        "GMT",
        *begun,
        "1",
        "92",
    ]


SONUS_REST = ["0x0a", "IP", "", "2", "16", '"SIP,1-2@198.51.100.7,<sip:a@198.51.100.7>;tag=1,,,200"', *["0"] * 60]


def sonus(call: Call) -> bytes:
    """A STOP, or the ATTEMPT of a call that nobody answered, of some eighty fields."""
    rest = ["IP-TO-IP", "IP-TO-IP", "DEFAULT", "", call.caller, call.callee, *SONUS_REST]
    if call.answer_ms is None:
        return ",".join([*sonus_head(call, "ATTEMPT"), sonus_time(call.end_ms), "12", "19", *rest]).encode()
    ringing, talked = (call.answer_ms - call.start_ms) // 10, call.talked_ms // 10
    ends = [sonus_date(call.end_ms), sonus_time(call.end_ms), "88229745", str(talked), "16"]
    return ",".join([*sonus_head(call, "STOP"), str(ringing), *ends, *rest]).encode()


def sonus_start(call: Call) -> bytes:
    rest = ["1250", "IP-TO-IP", "IP-TO-IP", "DEFAULT", "", call.caller, call.callee, *SONUS_REST]
    return ",".join([*sonus_head(call, "START"), *rest]).encode()


def delimited(call: Call) -> bytes:
    status = "OK" if call.answer_ms else "BUSY"
    cells = (iso(call.start_ms), iso(call.answer_ms), iso(call.end_ms), call.caller, "00" + call.callee[1:],
             talked_s(call), status, "carrier1", "acme", call.uuid)  # fmt: skip
    return ";".join(map(str, cells)).encode()
