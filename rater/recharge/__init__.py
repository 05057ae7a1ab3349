"""Auto-recharge as decisions: what a request asks for, whether it may be asked, what an answer of a payment provider means.

No clock, no socket, no file: `doors/service/` asks providers and keeps payments, `doors/files/` answers at once; both decide here.
"""
