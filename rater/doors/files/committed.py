"""How much of an output folder counts: what its state file has committed, also while a run is under way."""

from pathlib import Path

from rater.doors.files.store import StateProblem, Store


def committed_lengths(state: Path, out: Path) -> dict[str, int]:
    """File name -> bytes. Raises `StateProblem` for a state that never wrote to this folder."""
    store = Store(state, read_only=True)
    try:
        here, known = out.resolve(), store.out_paths()
        for number, path in known.items():
            if path == here or len(known) == 1:  # its only folder may have been moved
                return store.lengths(number)
    finally:
        store.close()
    raise StateProblem(f"{state}: no run of this state wrote to {out}; name the state of that folder (--state)")
