"""`rater mediate --watch`: a folder that switches push files into; each is read once and moved."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path

from rater.doors.files.file_marks import is_finished_name
from rater.doors.files.following import POLL_S, STOP
from rater.doors.files.inputs import InputProblem
from rater.doors.files.mediate import MediateRequest, Tally, mediate, replace_durably


def settled_files(folder: Path, known: dict[str, tuple[int, int]]) -> Iterator[Path]:
    """Files of a drop folder whose size and time have not moved since the last look; the rest are looked at again."""
    seen: dict[str, tuple[int, int]] = {}
    for path in sorted(folder.iterdir()):
        if not path.is_file() or not is_finished_name(path):
            continue
        found = path.stat()
        mark = (found.st_size, found.st_mtime_ns)
        seen[path.name] = mark
        if known.get(path.name) == mark:
            yield path
    known.clear()
    known.update(seen)


def watch(request: MediateRequest, folder: Path, say: Callable[[str], None]) -> Tally:
    """Each file of a drop folder once, moved to `done/` when it is done, to `bad/` with its reasons when nothing of it was good."""
    total, known = Tally(), dict[str, tuple[int, int]]()
    for name in ("done", "bad"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    while not STOP.is_set:
        for path in list(settled_files(folder, known)):
            one = MediateRequest([str(path)], request.source, request.profile, request.profile_text, request.out)
            try:
                tally = mediate(one, lambda _phase, _count: None)
                reasons = dict(tally.rejected_by_reason) if tally.rejected and not tally.written else {}
            except InputProblem as problem:
                tally, reasons = Tally(files=1), {str(problem): 1}
            place = set_aside(path, folder / ("bad" if reasons else "done"), reasons)
            say(f"{path.name}: {tally.written} calls, {tally.rejected} rejected -> {place.parent.name}/{place.name}")
            add(total, tally)
        time.sleep(POLL_S)
    return total


def set_aside(path: Path, folder: Path, reasons: dict[str, int]) -> Path:
    """Move a file out of the drop folder; a second one of the same name gets a number."""
    target, number = folder / path.name, 1
    while target.exists():
        target, number = folder / f"{path.name}.{number}", number + 1
    if reasons:
        text = "".join(f"{reason}: {count}\n" for reason, count in sorted(reasons.items()))
        replace_durably(folder / f"{target.name}.reasons", text.encode())
    path.replace(target)
    return target


def add(total: Tally, more: Tally) -> None:
    for name in Tally.__dataclass_fields__:
        setattr(total, name, getattr(total, name) + getattr(more, name))
