"""The topics of mediation."""

RAW_PREFIX = "raw-cdrs."
CDRS, REJECTED_RAW = "cdrs", "rejected-raw"
