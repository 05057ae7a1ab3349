"""What several of the Kafka door's tests ask for."""

import ssl

import pytest

from tests.kafka.signing import Contexts, authority, certificate


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> Contexts:
    folder = tmp_path_factory.mktemp("tls")
    authority(folder, "authority")
    certificate(folder, "broker", "authority", "IP:127.0.0.1")
    theirs = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    theirs.load_cert_chain(folder / "broker.pem")
    return theirs, ssl.create_default_context(cafile=str(folder / "authority.pem"))
