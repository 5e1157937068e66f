"""A whole run: an engine, its clients, the killer, and the comparisons when all is quiet."""

import contextlib
import functools
import random
import shutil
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.chaos.run.answers import Ways
from tests.chaos.run.comparison.compare import ALWAYS, compare, compare_collected
from tests.chaos.run.disturbances import Disturbances
from tests.chaos.run.kills import Killer, NotBackError
from tests.chaos.run.ledger import Ledger, Verdict
from tests.chaos.run.operations.client import Client
from tests.chaos.run.operations.images import Source
from tests.chaos.run.operations.session import AbandonedError, Session
from tests.support.disk import archive_of
from tests.support.docker_client import DockerClient
from tests.support.engine import Engine, run_engine
from tests.support.images import Entry, Image, layer, push, tar
from tests.support.registry import Registry, run_registry
from tests.support.trees import BUSYBOX_CONFIG, busybox_image, busybox_tar

IMAGE: Final = "chaos-base:1"
_FILES: Final = 300  # of each layer that is pulled: a worker is at it for some time


@dataclass(frozen=True, slots=True)
class Plan:
    """What a run is to be. The same plan makes the same choices; how they fall together is the machine's affair."""

    seed: int
    minutes: float
    operations: int = 0  # stop after so many, if that comes first; 0: never
    clients: int = 6
    between: tuple[int, int] = (15, 70)  # operations from one kill to the next
    logs: Path | None = None  # where the services' logs are kept
    builds: bool = True  # whether clients build images, too


def run(plan: Plan) -> Ledger:
    """Carry it out and return what happened. Leaves nothing behind, or says so as a fault."""
    ledger, disturbances = Ledger(), Disturbances()
    with contextlib.ExitStack() as stack:
        registry = stack.enter_context(_registry())
        engine = stack.enter_context(run_engine({"imaged": "retry_base_s = 0.05\n"}))
        if plan.logs is not None:
            stack.callback(_keep_logs, engine, plan.logs)
        load_base(engine)
        ways = Ways(engine)
        clients = []
        for number in range(plan.clients):
            name = f"c{number}"
            session = Session(name, random.Random(f"{plan.seed}/{name}"), ways, ledger, disturbances)
            clients.append(Client(session, IMAGE, _sources(registry, name), plan.builds))
        for client in clients:
            client.begin()
        killer = Killer(engine, random.Random(f"{plan.seed}/kills"), ways, ledger, disturbances, plan.between)
        threads = [_thread(ledger, killer.run, "killer")]
        threads += [
            _thread(ledger, functools.partial(_until_stopped, client), client.session.name) for client in clients
        ]
        _until_over(plan, ledger, threads)
        try:
            _hold_to_account(engine, ledger, clients)
        except (AbandonedError, AssertionError):  # what is known by then is told all the same
            ledger.fault(Verdict.WRONG, f"the engine cannot be held to account:\n{traceback.format_exc()}")
    return ledger


def _until_over(plan: Plan, ledger: Ledger, threads: list[threading.Thread]) -> None:
    for thread in threads:
        thread.start()
    end = time.monotonic() + plan.minutes * 60
    while not ledger.stopping and time.monotonic() < end:
        if plan.operations and ledger.begun >= plan.operations:
            break
        ledger.rest(1.0)
    ledger.stop()
    for thread in threads:
        thread.join()


def _until_stopped(client: Client) -> None:
    while not client.session.ledger.stopping:
        client.step()


def _thread(ledger: Ledger, work: Callable[[], None], name: str) -> threading.Thread:
    def guarded() -> None:
        try:
            work()
        except NotBackError:
            ledger.stop()
        except Exception:  # noqa: BLE001  # a client that fails is not to be taken for one that found nothing
            ledger.fault(Verdict.WRONG, f"{name} failed:\n{traceback.format_exc()}")
            ledger.stop()

    return threading.Thread(target=guarded, name=name)


def _hold_to_account(engine: Engine, ledger: Ledger, clients: list[Client]) -> None:
    """Compare, with everything there; then remove it all, and compare again."""
    for client in clients:
        client.end()
    engine.sampan("system", "gc", timeout=180)  # what a killed snapshotter left waits for the next pass
    for finding in compare(engine, ALWAYS):
        ledger.fault(Verdict.LEAKED, finding)
    for client in clients:
        with contextlib.suppress(AbandonedError):
            client.clear()
    docker = DockerClient(engine.host, engine.config)
    for identity in docker("ps", "--all", "--format", "{{.ID}} {{.Names}} {{.Status}}").lines:
        ledger.fault(Verdict.LEAKED, f"container of no client: {identity}")
        docker.fails("rm", "--force", identity.split()[0])
    docker("image", "prune", "--force")  # a commit whose answer was lost and that was made again has no name now
    docker("builder", "prune", "--all", "--force", timeout=180)
    listed = set(docker("images", "--format", "{{.Repository}}:{{.Tag}}").lines) - {IMAGE}
    for image in sorted(listed):
        ledger.fault(Verdict.LEAKED, f"image of no client: {image}")
    for finding in compare_collected(engine):
        ledger.fault(Verdict.LEAKED, finding)
    check = engine.sampan_fails("system", "check", timeout=180)
    if check.code != 0:
        ledger.fault(Verdict.WRONG, f"system check: {check.stdout[-1500:]}{check.stderr[-500:]}")


def load_base(engine: Engine) -> None:
    """Load the image that containers are made of."""
    with tempfile.NamedTemporaryFile(suffix=".tar") as file:
        Path(file.name).write_bytes(archive_of({IMAGE: busybox_image()}))
        DockerClient(engine.host, engine.config)("load", "--quiet", "--input", file.name)


def _sources(registry: Registry, client: str) -> tuple[Source, ...]:
    """Images of a client's own: their layers are shared with others' in part."""
    found = []
    for number in range(3):
        mark = f"{client}-image-{number}"
        files = [Entry(f"files/{number}-{each}", f"{mark} {each}".encode() * 50) for each in range(_FILES)]
        layers = [layer(busybox_tar()), layer(tar(*files[: _FILES // 2], Entry("mark", mark.encode())))]
        image = Image([*layers, layer(tar(*files[_FILES // 2 :]))], BUSYBOX_CONFIG)
        if number == 0:
            found.append(Source(f"{mark}:1", mark, archive_of({f"{mark}:1": image})))
        else:
            push(registry, mark, "1", image)
            found.append(Source(f"{registry.address}/{mark}:1", mark))
    return tuple(found)


@contextlib.contextmanager
def _registry() -> Iterator[Registry]:
    with tempfile.TemporaryDirectory(prefix="sp-registry-") as directory, run_registry(Path(directory)) as registry:
        yield registry


def _keep_logs(engine: Engine, where: Path) -> None:
    where.mkdir(parents=True, exist_ok=True)
    shutil.copytree(engine.layout.run_root / "logs", where / "services", dirs_exist_ok=True)
    shutil.copy(engine.log, where / "supervisor.log")
