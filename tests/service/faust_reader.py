"""A Faust agent that prints what it gets and never acknowledges `held`: `python -m tests.service.faust_reader BROKER TOPIC GROUP FOLDER`."""

import sys
from typing import Any, cast

import faust


def main(bootstrap: str, topic: str, group: str, folder: str) -> None:
    app = faust.App(
        group, broker=f"kafka://{bootstrap}", datadir=folder, web_enabled=False, autodiscover=False, broker_commit_interval=0.2,
        topic_allow_declare=False, topic_disable_leader=True, loghandlers=[],
    )  # fmt: skip
    held = []

    @app.agent(app.topic(topic, value_serializer="raw", key_serializer="raw"))
    async def read(stream: Any) -> None:
        async for event in stream.noack().events():
            print(f"got {event.value.decode()}", flush=True)
            if event.value == b"held":
                held.append(event)
            else:
                event.ack()

    cast(Any, faust.Worker(app, loglevel="WARN", redirect_stdouts=False)).execute_from_commandline()


if __name__ == "__main__":
    main(*sys.argv[1:])
