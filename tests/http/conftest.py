from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.http.scene import Scene, scene
from tests.kafka.conftest import broker_possible, kafka, pytest_collection_modifyitems  # noqa: F401


@pytest.fixture
def api(tmp_path: Path) -> Iterator[Scene]:
    with scene(tmp_path) as found:
        yield found
