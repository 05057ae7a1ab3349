"""Invented calls as the JSON that switches, servers and web interfaces write."""

from typing import Any

import orjson

from benchmarks.mediation_calls import Call, iso, seconds, shown, talked_s


def moments(call: Call) -> dict[str, str]:
    """The variables in which FreeSWITCH writes when and for how long."""
    answer_ms = call.answer_ms or 0
    return {
        "start_uepoch": f"{call.start_ms}000",
        "answer_uepoch": f"{answer_ms}000" if answer_ms else "0",
        "end_uepoch": f"{call.end_ms}000",
        "start_epoch": str(seconds(call.start_ms)),
        "answer_epoch": str(seconds(answer_ms)),
        "end_epoch": str(seconds(call.end_ms)),
        "start_stamp": iso(call.start_ms).replace(" ", "%20"),
        "end_stamp": iso(call.end_ms).replace(" ", "%20"),
        "duration": str(seconds(call.end_ms) - seconds(call.start_ms)),
        "billsec": str(talked_s(call)),
        "billmsec": str(call.talked_ms),
        "billusec": f"{call.talked_ms}000",
    }


def freeswitch_json(call: Call) -> bytes:
    """A record of mod_json_cdr with 150 channel variables: about 15 kB, pretty-printed as the switch does it."""
    variables = {
        "direction": "inbound",
        "uuid": call.uuid,
        "call_uuid": call.uuid,
        "accountcode": f"tenant{call.place % 50}",
        "sip_call_id": f"{call.uuid}%40198.51.100.7",
        **{f"sip_h_X-Detail-{index:03d}": f"sip%3A{call.uuid}%40198.51.100.{index}" for index in range(125)},
        **moments(call),
        "hangup_cause": "NORMAL_CLEARING" if call.answer_ms else "NO_ANSWER",
        "bleg_uuid": call.uuid[::-1],
    }
    caller = {
        "username": f"1{call.caller[-3:]}",
        "dialplan": "XML",
        "caller_id_name": 'J. Doe, "Sales"',
        "ani": call.caller,
        "caller_id_number": call.caller,
        "network_addr": "198.51.100.7",
        "rdnis": "",
        "destination_number": "900" + call.callee[1:],
        "uuid": call.uuid,
        "source": "mod_sofia",
        "context": "default",
        "chan_name": f"sofia/internal/{call.user}@198.51.100.7",
    }
    log = [{"app_name": "set", "app_data": f"detail_{index}=true", "app_stamp": f"{call.start_ms}{index:03d}"} for index in range(20)]  # fmt: skip
    record = {
        "core-uuid": "0d0a2c1e-7a39-4f6b-9f0f-2d7c9d7f5f10",
        "switchname": "sw1",
        "channel_data": {"state": "CS_REPORTING", "direction": "inbound", "flags": "0=1;1=1"},
        "variables": variables,
        "app_log": {"applications": log},
        "callflow": [
            {
                "dialplan": "XML",
                "profile_index": "1",
                "caller_profile": caller,
                "times": {"created_time": f"{call.start_ms}000"},
            }
        ],
    }
    return orjson.dumps(record, option=orjson.OPT_INDENT_2)


def freeswitch_event(call: Call) -> bytes:
    event = {
        "Event-Name": "CHANNEL_HANGUP_COMPLETE",
        "Core-UUID": "0d0a2c1e-7a39-4f6b-9f0f-2d7c9d7f5f10",
        "FreeSWITCH-Switchname": "sw1",
        "Unique-ID": call.uuid,
        "Caller-Username": f"1{call.caller[-3:]}",
        "Caller-Caller-ID-Number": call.caller,
        "Caller-Destination-Number": "900" + call.callee[1:],
        "Caller-Context": "default",
        "variable_uuid": call.uuid,
        "variable_accountcode": f"tenant{call.place % 50}",
        "variable_hangup_cause": "NORMAL_CLEARING" if call.answer_ms else "NO_ANSWER",
        **{f"variable_sip_h_X-Detail-{index:03d}": f"sip:{call.uuid}@198.51.100.{index}" for index in range(60)},
        **{"variable_" + name: value.replace("%20", " ") for name, value in moments(call).items()},
    }
    return orjson.dumps(event)


def kamailio(call: Call) -> bytes:
    """INVITE and BYE, or the one INVITE that was refused: one line each."""
    row: dict[str, Any] = {
        "method": "INVITE",
        "from_tag": f"a{call.place}",
        "to_tag": f"b{call.place}",
        "callid": f"{call.uuid}@198.51.100.7",
        "sip_code": "200" if call.answer_ms else "486",
        "sip_reason": "OK" if call.answer_ms else "Busy Here",
        "time": f"{(call.answer_ms or call.end_ms) / 1000:.3f}",
        "src_user": call.caller,
        "dst_user": call.callee,
        "account": "acme",
    }
    if call.answer_ms is None:
        return orjson.dumps(row)
    bye = row | {"method": "BYE", "time": f"{call.end_ms / 1000:.3f}"}
    return orjson.dumps(row) + b"\n" + orjson.dumps(bye)


def opensips(call: Call) -> bytes:
    """E_ACC_CDR of an answered call, E_ACC_EVENT of the other ones."""
    params: dict[str, Any] = {
        "method": "INVITE",
        "from_tag": f"a{call.place}",
        "to_tag": f"b{call.place}",
        "callid": f"{call.uuid}@198.51.100.7",
        "sip_code": "200" if call.answer_ms else "486",
        "sip_reason": "OK" if call.answer_ms else "Busy Here",
        "time": seconds(call.answer_ms or call.end_ms),
        "caller": call.caller,
        "callee": call.callee,
        "account": f"tenant{call.place % 50}",
    }
    if call.answer_ms is not None:
        measured = {"duration": -(-call.talked_ms // 1000), "ms_duration": call.talked_ms, "setuptime": 4}
        params |= {**measured, "created": seconds(call.start_ms)}
    event = "E_ACC_EVENT" if call.answer_ms is None else "E_ACC_CDR"
    return orjson.dumps({"jsonrpc": "2.0", "method": event, "params": params})


def graph_pstn(call: Call) -> bytes:
    begin_ms = call.answer_ms or call.end_ms
    row = {
        "id": call.uuid,
        "callId": call.uuid[::-1],
        "userId": call.uuid,
        "userPrincipalName": f"{call.user}@contoso.example",
        "userDisplayName": "J. Doe",
        "startDateTime": shown(begin_ms, f"%Y-%m-%dT%H:%M:%S.{begin_ms % 1000:03d}0935Z"),
        "endDateTime": shown(call.end_ms, f"%Y-%m-%dT%H:%M:%S.{call.end_ms % 1000:03d}0935Z"),
        "duration": talked_s(call),
        "charge": 0.1,
        "callType": "user_out",
        "currency": "USD",
        "calleeNumber": call.callee,
        "usageCountryCode": "GB",
        "tenantCountryCode": "GB",
        "connectionCharge": 0,
        "callerNumber": call.caller,
        "destinationContext": "International",
        "destinationName": "United States",
        "conferenceId": None,
        "licenseCapability": "MCOPSTN2",
        "inventoryType": "User",
        "operator": "operator",
        "callDurationSource": "operator",
    }
    return orjson.dumps(row)
