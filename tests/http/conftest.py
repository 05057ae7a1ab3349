from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.http.scene import Scene, scene


@pytest.fixture
def api(tmp_path: Path) -> Iterator[Scene]:
    with scene(tmp_path) as found:
        yield found
