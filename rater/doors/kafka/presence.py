"""Before an agent begins: the brokers answer and its topics are there; a sentence now, not a stack trace later."""

from collections.abc import Sequence

from rater.doors.kafka.admin import open_admin
from rater.doors.kafka.topics import TopicsWrong
from rater.doors.settings.connection import Connection


async def require_topics(connection: Connection, names: Sequence[str]) -> None:
    """Raises `TopicsWrong` with those that are not there (no topic is ever made by asking), `Refused` and `LogTimeout` with
    the reason of every bootstrap server. It needs DESCRIBE on these topics alone."""
    async with open_admin(connection) as admin:
        found = await admin.topics(names)
    missing = [name for name in names if name not in found]
    if missing:
        raise TopicsWrong([f"{name} is not there" for name in missing], ["rater topics create --help"])
