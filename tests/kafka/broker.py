"""A real Apache Kafka for tests and benchmarks: one or three nodes on loopback, killed, paused and restarted at will.

The jars come from the machine's Maven, once, into a cache folder (`RATER_KAFKA_JARS`); a cluster lives in a temporary
folder and dies with the process that started it. By hand: `python -m tests.kafka.broker [--nodes 3]`.
"""

import argparse
import base64
import fcntl
import hashlib
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

POM = Path(__file__).parent / "jars" / "pom.xml"
STARTED = b"Kafka Server started"  # logged when the controller has unfenced the broker: it serves clients
CLIENT = "CLIENT"
START_S = 90.0  # a cold JVM on a busy machine; usually three seconds
STOP_S = 30.0

# Linux kills a child when the *thread* that started it ends, so every child is started by this one, which lives as long as
# the interpreter: a test may call `restart` from a thread of its own.
_starter = ThreadPoolExecutor(max_workers=1, thread_name_prefix="kafka-starter")


class BrokerProblem(Exception):
    """No broker; the text says why."""


def missing() -> str | None:
    """Why no broker can run here, or None."""
    if shutil.which("java") is None:
        return "Java is not installed; a real Apache Kafka 4 needs 17 or newer (Debian: default-jre-headless)"
    if shutil.which("mvn") is None and not _jars_folder().is_dir():
        return f"Maven is not installed and {_jars_folder()} is not there; it brings the jars of Apache Kafka (Debian: maven)"
    return None


def _jars_folder() -> Path:
    """Named after what the pom says, so another version of Kafka is another folder."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    root = Path(os.environ.get("RATER_KAFKA_JARS") or cache / "rater" / "kafka-jars")
    return root / hashlib.sha256(POM.read_bytes()).hexdigest()[:16]


def jars() -> Path:
    """The folder with the jars, filled on first use; a second process that asks meanwhile waits for the first."""
    folder = _jars_folder()
    if folder.is_dir():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with (folder.parent / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.is_dir():
            _copy_jars(folder)
    return folder


def _copy_jars(folder: Path) -> None:
    """Into a folder beside it and then renamed: a folder with the name is a complete one."""
    partial = Path(tempfile.mkdtemp(dir=folder.parent, prefix=".partial-"))
    command = ["mvn", "-q", "-B", "-f", str(POM), "dependency:copy-dependencies", "-DincludeScope=runtime",
               f"-DoutputDirectory={partial}"]  # fmt: skip
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
        if done.returncode != 0:
            raise BrokerProblem(f"Maven could not copy the jars named in {POM}:\n{done.stdout}{done.stderr}")
        partial.rename(folder)
    except FileNotFoundError:
        raise BrokerProblem("Maven is not installed; it brings the jars of Apache Kafka (Debian: maven)") from None
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def free_ports(count: int) -> list[int]:
    """Loopback ports nobody listens on, below the range the kernel gives to outgoing connections.

    From that range another connection could take the port of a broker that is down, even the client's own: a connect from
    port N to port N of the same machine succeeds with nobody listening.
    """
    first_outgoing = 32768
    limits = Path("/proc/sys/net/ipv4/ip_local_port_range")
    if limits.exists():
        first_outgoing = int(limits.read_text().split()[0])
    candidates = range(10_000, first_outgoing) if first_outgoing > 11_000 else range(61_000, 65_500)
    found: list[int] = []
    for port in random.sample(candidates, len(candidates)):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        found.append(port)
        if len(found) == count:
            return found
    raise BrokerProblem(f"no {count} free ports among {candidates}")


FOR_A_MOMENT = ("-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")
# What Kafka's own start script says.
FOR_HOURS = (
    "-server", "-XX:+UseG1GC", "-XX:MaxGCPauseMillis=20", "-XX:InitiatingHeapOccupancyPercent=35",
    "-XX:+ExplicitGCInvokesConcurrent",
)  # fmt: skip


def _java(heap: str, options: Sequence[str], main: str, *arguments: str) -> list[str]:
    """A command line of a JVM that is killed when this process dies, however it dies."""
    guard = shutil.which("setpriv")
    return [*([guard, "--pdeathsig", "KILL"] if guard else []), "java", f"-Xmx{heap}",
            "-Dorg.slf4j.simpleLogger.showDateTime=true", "-Dorg.slf4j.simpleLogger.dateTimeFormat=HH:mm:ss.SSS",
            *options, "-cp", f"{jars()}/*", main, *arguments]  # fmt: skip


def run_tool(main: str, *arguments: str, stdin: str = "", timeout_s: float = 60.0) -> str:
    """One of Kafka's own tools, by its class; what it prints. The first start of a JVM takes about a second."""
    command = _java("256m", [*FOR_A_MOMENT, "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn"], main, *arguments)
    done = _starter.submit(
        subprocess.run, command, input=stdin, capture_output=True, text=True, check=False, timeout=timeout_s
    ).result()
    if done.returncode != 0:
        raise BrokerProblem(f"{main} {' '.join(arguments)}: exit status {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout


@dataclass
class Node:
    """One broker that is also a controller: its folder, its ports by listener, its process when it runs."""

    id: int
    folder: Path
    ports: dict[str, int]
    process: subprocess.Popen[bytes] | None = None

    @property
    def properties_file(self) -> Path:
        return self.folder / "server.properties"

    @property
    def log_file(self) -> Path:
        return self.folder / "server.log"

    def log_tail(self, lines: int = 30) -> str:
        if not self.log_file.exists():
            return ""
        return "\n".join(self.log_file.read_text(errors="replace").splitlines()[-lines:])


@dataclass
class KafkaCluster:
    """One or three nodes; `with KafkaCluster() as kafka: ... kafka.bootstrap`.

    `listeners` gives clients more doors than the plain one: name -> PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL. Brokers
    talk to each other on INTERNAL and CONTROLLER, always plain. `properties` are added to every node's file, last.
    `advertise[i]` is the address that clients of the first listener are told for node i: that of a proxy.
    `format_options` go to `kafka-storage format`, to create SCRAM users for example.
    """

    nodes: int = 1
    properties: Mapping[str, str] = field(default_factory=dict)
    listeners: Mapping[str, str] = field(default_factory=lambda: {CLIENT: "PLAINTEXT"})
    advertise: Sequence[str] = ()
    format_options: Sequence[str] = ()
    transaction_version: int = 2
    heap: str = "512m"
    for_long: bool = False  # the JVM is set up for hours of load, at twice the cost of a start: for measurements
    inside: Path | None = None  # where the folder is made; None for the system's place of temporary files

    def __post_init__(self) -> None:
        if self.nodes not in (1, 3):
            raise BrokerProblem(f"nodes is {self.nodes}; expected 1 or 3")
        why = missing()
        if why is not None:
            raise BrokerProblem(why)
        self.folder = Path(tempfile.mkdtemp(prefix="rater-kafka-", dir=self.inside))
        names = [*self.listeners, "INTERNAL", "CONTROLLER"]
        ports = free_ports(self.nodes * len(names))
        self._nodes = [
            Node(index + 1, self.folder / f"node{index + 1}", dict(zip(names, ports[index :: self.nodes], strict=True)))
            for index in range(self.nodes)
        ]

    def __enter__(self) -> "KafkaCluster":
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def bootstrap(self) -> str:
        return self.bootstrap_of(next(iter(self.listeners)))

    def bootstrap_of(self, listener: str) -> str:
        """host:port,... of a listener; of INTERNAL, which is plain whatever the others ask for, too."""
        return ",".join(f"127.0.0.1:{node.ports[listener]}" for node in self._nodes)

    def node(self, index: int = 0) -> Node:
        return self._nodes[index]

    def start(self) -> None:
        """Format the folders and start all nodes; returns when every one serves clients."""
        cluster_id = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        for index, node in enumerate(self._nodes):
            node.folder.mkdir(parents=True)
            node.properties_file.write_text(self._properties_text(index))
        for node in self._nodes:
            run_tool("kafka.tools.StorageTool", "format", f"--cluster-id={cluster_id}", "--config", str(node.properties_file),
                     "--feature", f"transaction.version={self.transaction_version}", *self.format_options)  # fmt: skip
        logged = [self._launch(node) for node in self._nodes]
        for node, offset in zip(self._nodes, logged, strict=True):
            self._wait_started(node, offset)

    def kill(self, index: int = 0) -> None:
        """SIGKILL: nothing is flushed or said goodbye to; the page cache survives, so this is not a loss of power."""
        process = self._nodes[index].process
        if process is not None:
            process.kill()
            process.wait()
            self._nodes[index].process = None

    def stop(self, index: int = 0) -> None:
        """SIGTERM: leaders move away, logs are closed. Killed when it takes longer than `STOP_S`."""
        process = self._nodes[index].process
        if process is None:
            return
        process.send_signal(signal.SIGCONT)
        process.terminate()
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self.kill(index)
        self._nodes[index].process = None

    def pause(self, index: int = 0) -> None:
        """SIGSTOP: connections stay open and nothing is answered. Returns when the process stands still."""
        process = self._running(index)
        process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)

    def resume(self, index: int = 0) -> None:
        self._running(index).send_signal(signal.SIGCONT)

    def restart(self, index: int = 0) -> None:
        """Start a node again on its folder and ports; one that runs is stopped first. Returns when it serves clients.

        After `kill` the controller waits for the dead one's session to end (three seconds) before it lets it in again.
        """
        self.stop(index)
        node = self._nodes[index]
        self._wait_started(node, self._launch(node))

    def close(self) -> None:
        """Kill what runs and remove the folder."""
        for index in range(len(self._nodes)):
            self.kill(index)
        shutil.rmtree(self.folder, ignore_errors=True)

    def _running(self, index: int) -> subprocess.Popen[bytes]:
        process = self._nodes[index].process
        if process is None:
            raise BrokerProblem(f"node {index} does not run; call restart({index})")
        return process

    def _launch(self, node: Node) -> int:
        """Start the JVM; where its log goes on, so that the word of an earlier start is not taken for this one's."""
        offset = node.log_file.stat().st_size if node.log_file.exists() else 0
        with node.log_file.open("ab") as log:
            options = [f"-Xms{self.heap}", *FOR_HOURS] if self.for_long else FOR_A_MOMENT
            command = _java(self.heap, options, "kafka.Kafka", str(node.properties_file))
            # A session of its own: Ctrl-C in a terminal is for the test, which then closes the cluster.
            node.process = _starter.submit(
                subprocess.Popen, command, cwd=node.folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                start_new_session=True,
            ).result()  # fmt: skip
        return offset

    def _wait_started(self, node: Node, offset: int) -> None:
        give_up = time.monotonic() + START_S
        while time.monotonic() < give_up:
            with node.log_file.open("rb") as log:
                log.seek(offset)
                if STARTED in log.read():
                    return
            if node.process is None or node.process.poll() is not None:
                raise BrokerProblem(f"node {node.id} ended while starting:\n{node.log_tail()}")
            time.sleep(0.05)
        raise BrokerProblem(f"node {node.id} did not serve within {START_S:.0f} s:\n{node.log_tail()}")

    def _properties_text(self, index: int) -> str:
        return "".join(f"{key}={value}\n" for key, value in self._properties(index).items())

    def _properties(self, index: int) -> dict[str, str]:
        node = self._nodes[index]
        addresses = {name: f"127.0.0.1:{port}" for name, port in node.ports.items()}
        advertised = {name: address for name, address in addresses.items() if name != "CONTROLLER"}
        if self.advertise:
            advertised[next(iter(self.listeners))] = self.advertise[index]
        protocols = {**self.listeners, "INTERNAL": "PLAINTEXT", "CONTROLLER": "PLAINTEXT"}
        return {
            "process.roles": "broker,controller",
            "node.id": str(node.id),
            "controller.quorum.voters": ",".join(f"{n.id}@127.0.0.1:{n.ports['CONTROLLER']}" for n in self._nodes),
            "listeners": ",".join(f"{name}://{address}" for name, address in addresses.items()),
            "advertised.listeners": ",".join(f"{name}://{address}" for name, address in advertised.items()),
            "listener.security.protocol.map": ",".join(f"{name}:{protocol}" for name, protocol in protocols.items()),
            "controller.listener.names": "CONTROLLER",
            "inter.broker.listener.name": "INTERNAL",
            "log.dirs": str(node.folder / "data"),
            **_replication(self.nodes),
            **QUICK,
            **self.properties,
        }


def _replication(nodes: int) -> dict[str, str]:
    """Internal topics as in production: as many replicas as there are nodes, one of three may be away."""
    replicas, in_sync = str(nodes), str(1 if nodes == 1 else 2)
    return {
        "default.replication.factor": replicas,
        "min.insync.replicas": in_sync,
        "offsets.topic.replication.factor": replicas,
        "transaction.state.log.replication.factor": replicas,
        "transaction.state.log.min.isr": in_sync,
        "share.coordinator.state.topic.replication.factor": replicas,
        "share.coordinator.state.topic.min.isr": in_sync,
    }


# Small and quick: few internal partitions, waits of seconds instead of minutes.
QUICK = {
    "auto.create.topics.enable": "false",  # a misspelt topic is an error, not an empty topic
    "num.partitions": "4",
    "offsets.topic.num.partitions": "4",
    "transaction.state.log.num.partitions": "4",
    "share.coordinator.state.topic.num.partitions": "1",
    "group.initial.rebalance.delay.ms": "0",
    "group.min.session.timeout.ms": "1000",
    "broker.heartbeat.interval.ms": "500",
    "broker.session.timeout.ms": "3000",
    "transaction.abort.timed.out.transaction.cleanup.interval.ms": "1000",
    "message.max.bytes": str(17 * 1024 * 1024),
    "replica.fetch.max.bytes": str(17 * 1024 * 1024),
    "log.cleaner.backoff.ms": "500",
    "log.cleaner.dedupe.buffer.size": str(16 * 1024 * 1024),
    "log.initial.task.delay.ms": "500",
    "log.retention.check.interval.ms": "1000",
    "num.network.threads": "2",
    "num.io.threads": "4",
    "background.threads": "2",
}


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.kafka.broker", description="A real Apache Kafka on loopback."
    )
    parser.add_argument("--nodes", type=int, choices=(1, 3), default=1)
    parser.add_argument("--heap", default="512m", help="of each node, as java -Xmx has it (default %(default)s)")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="a property of every node; repeatable"
    )
    asked = parser.parse_args(arguments)
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        properties = dict(pair.split("=", 1) for pair in asked.set)
        with KafkaCluster(asked.nodes, properties, heap=asked.heap, for_long=True) as kafka:
            print(kafka.bootstrap, flush=True)
            print(f"files and logs: {kafka.folder}; Ctrl-C stops and removes them", file=sys.stderr, flush=True)
            signal.pause()
    except KeyboardInterrupt:
        return 0
    except BrokerProblem as problem:
        print(f"no broker: {problem}", file=sys.stderr)
        return 1
    return 0


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
