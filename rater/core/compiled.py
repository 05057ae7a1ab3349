"""How a kernel is compiled: one decorator, one cache that cannot go stale.

A kernel is a module-level function over arrays, rows and integers. numba compiles it once and keeps the machine code on
disk. numba's own cache looks only at the file of the function itself, so a change in a helper of another file would be
served as stale code; therefore the folder is named by a hash of every kernel source, the numba version and the CPU.

With `NUMBA_DISABLE_JIT=1` a kernel is the plain Python function it is written as, with the same answers.
"""

import hashlib
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numba
import numpy as np
from llvmlite import binding as llvm
from numba.core.registry import CPUDispatcher

F = TypeVar("F", bound=Callable[..., Any])

_config: Any = numba.config
_types: Any = numba.types
COMPILES = not bool(_config.DISABLE_JIT)
_BUILD: dict[str, Any] = {"cache": True, "nogil": True}
_LOOP: dict[str, Any] = {**_BUILD, "_nrt": False}
_TAKEN_IN: dict[str, Any] = {
    "nopython": True, "nogil": True, "_nrt": False, "no_cpython_wrapper": True, "no_cfunc_wrapper": True,
}  # fmt: skip


def kernel_sources() -> list[Path]:
    """Every file whose text may end up in machine code: the three rooms that hold kernels, and three files more."""
    house = Path(__file__).resolve().parent.parent
    kafka = house / "doors" / "kafka"
    others = (
        *(house / "pipeline").glob("*.py"),
        *(kafka / f"{name}.py" for name in ("record_batches", "checksum", "changelog")),
    )
    return sorted([*(house / "core").glob("*.py"), *(house / "contract").glob("*.py"), *others])


def sources_digest(files: list[Path]) -> str:
    digest = hashlib.sha256()
    for file in files:
        if file.exists():
            digest.update(file.name.encode() + b"\0" + file.read_bytes() + b"\0")
    digest.update(numba.__version__.encode())
    digest.update(llvm.get_host_cpu_name().encode())
    return digest.hexdigest()[:20]


def cache_root() -> Path:
    """`RATER_CACHE_DIR`, else the user's cache folder, else a temporary one of this user: a start must not need a home."""
    chosen = os.environ.get("RATER_CACHE_DIR")
    if chosen:
        return Path(chosen)
    base = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    root = Path(base) / "rater"
    try:
        root.mkdir(parents=True, exist_ok=True)
        if os.access(root, os.W_OK):
            return root
    except OSError:
        pass
    return Path(tempfile.gettempdir()) / f"rater-{os.getuid()}"


CACHE_DIR = cache_root() / "kernels" / sources_digest(kernel_sources())
if COMPILES and "NUMBA_CACHE_DIR" not in os.environ:
    _config.CACHE_DIR = str(CACHE_DIR)


def _warm_mark(what: str) -> Path:
    return Path(str(_config.CACHE_DIR)) / f"complete-{what}-{whereabouts(kernel_sources())}"


def whereabouts(files: list[Path]) -> str:
    """What numba knows machine code by: the path of a source, when it was written, its size.

    The same text in another folder, or installed anew, is compiled again.
    """
    digest = hashlib.sha256()
    for file in files:
        if file.exists():
            known = file.stat()
            digest.update(f"{file}\0{known.st_mtime_ns}\0{known.st_size}\0".encode())
    return digest.hexdigest()[:20]


def is_warm(what: str = "engine") -> bool:
    """Has this very source, where it lies, been compiled on this machine before, to the end? `what`: the engine, or what a door adds."""
    return not COMPILES or _warm_mark(what).exists()


def note_warm(what: str = "engine") -> None:
    """It is all compiled: later starts load it."""
    _warm_mark(what).touch()


def _one_per_type(compiled: Any) -> Any:
    """Compile a kernel once per type of argument, not once per constant it is called with.

    numba gives every integer constant in a call a type of its own, which here would double the time of a cold start.
    """
    if COMPILES:
        template = compiled.get_call_template
        compiled.get_call_template = lambda args, kws: template(
            tuple(_types.unliteral(arg) for arg in args), {k: _types.unliteral(v) for k, v in kws.items()}
        )
    return compiled


def _unsigned(value: Any) -> Any:
    """Kernels hand 64-bit hashes to Python as whole numbers; back in, numba takes every `int` for a signed one."""
    return np.uint64(value) if type(value) is int and value >= 1 << 63 else value


class _Kernel(CPUDispatcher):
    """A kernel with two faces: other kernels take in its code, Python knocks at its door.

    numba gives every compiled function wrappers to be called from Python, and a file in its cache. Of some hundred kernels
    Python calls a dozen, so a kernel gets its door at the first such call; the rest would be half of a cold start.
    """

    _door: Any = None

    def __call__(self, *args: Any) -> Any:
        if self._door is None:
            self._door = _one_per_type(numba.njit(**_LOOP)(self.py_func))
        return self._door(*(_unsigned(arg) for arg in args))


def kernel(function: F) -> F:
    """Compile a function over arrays and rows that allocates nothing.

    Without numba's reference counting (`_nrt=False`) an array is its address and shape and nothing more: a third of the
    code, a third of the time. The arrays belong to whoever calls from Python, for as long as the call lasts.
    """
    if not COMPILES:
        return function
    compiled: F = _one_per_type(_Kernel(py_func=function, targetoptions=_TAKEN_IN))
    return compiled


def building_kernel(function: F) -> F:
    """Compile a function that makes arrays (building a deck or an index); never part of the loop over records."""
    compiled: F = _one_per_type(numba.njit(**_BUILD)(function))
    return compiled
