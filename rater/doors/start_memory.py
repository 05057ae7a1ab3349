"""What the start of a process that runs for long leaves in memory."""

import gc


def keep_start() -> None:
    """Never look through it again: a full collection of it takes a tenth of a second, and calls and switches wait meanwhile."""
    gc.collect()
    gc.freeze()
