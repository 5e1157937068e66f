"""The life of pods' containers, which runtimed makes and runs: here is what CRI wants of them beyond that.

A container's row comes before the container, and its ID after it. What a SIGKILL leaves in between is removed at the
next start: kubelet has no ID of it, and asks for it again.
"""

import asyncio
import posixpath
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, fields, replace
from pathlib import Path, PurePosixPath
from typing import Final

from crid.containers.members import ALL, RuntimeMembers
from crid.containers.model import Image, Record, container_name, namespaces_of
from crid.containers.spec import check_container, container_spec, resources_of
from crid.containers.store import ContainerStore
from crid.containers.view import State, View, view_of
from crid.handlers import Handlers
from crid.model.config import ContainerConfig, Mount, PodMetadata, Resources
from crid.model.security import NamespaceMode
from crid.sandboxes.model import Sandbox
from crid.sandboxes.sandboxes import Sandboxes
from sampan.cancellation import both, to_the_end
from sampan.engine.create import Creating, create_container, ensure_stack
from sampan.errors import (
    AlreadyExistsError,
    ConflictError,
    ImageMountError,
    InvalidArgumentError,
    NotFoundError,
    NotModifiedError,
    SampanError,
)
from sampan.log import log
from sampan.oci.reference import parse_reference
from sampan.resource.container import ContainerDetails, Status
from sampan.resource.container_spec import ContainerSpec
from sampan.resource.image import ImageDetails
from sampan.resource.listing import NO_FILTERS

_MAX_PATH: Final = 4096

# Kubernetes' cri-api, pkg/errors: kubelet finds this word in the message, and shows it as the pod's reason.
_IMAGE_VOLUME: Final = "ImageVolumeMountFailed"
_FEW: Final = 8


@dataclass(frozen=True, slots=True)
class Selection:
    """Which containers are wanted: all conditions are met."""

    id: str = ""
    sandbox: str = ""
    state: str = ""  # of ``View.state``
    labels: Mapping[str, str] = field(default_factory=dict)


class Containers:
    """All containers of pods. For one event loop."""

    def __init__(
        self,
        engine: Creating,
        store: ContainerStore,
        sandboxes: Sandboxes,
        members: RuntimeMembers,
        handlers: Handlers,
        now_ns: Callable[[], int],
    ) -> None:
        self._engine = engine
        self._store = store
        self._sandboxes = sandboxes
        self._members = members
        self._handlers = handlers
        self._now_ns = now_ns

    def record(self, id: str) -> Record:
        """Return a container's record, by its ID or the beginning of it. Raises NotFoundError."""
        return self._store.get(id)

    # What is done

    async def create(self, sandbox_id: str, config: ContainerConfig, said: PodMetadata | None) -> str:
        """Make a container in a sandbox and return its ID; asked twice for the same one, it is the same.

        ``said`` is whose config kubelet sends along. Cancelled or failed, nothing is left of it.

        Raises:
            NotFoundError: the sandbox or the image is not there.
            InvalidArgumentError: something cannot be meant.
            ImageMountError: an image volume has no such path, or a link leads out of it.
            ConflictError: the sandbox is not ready.
            AlreadyExistsError: another container has this name and attempt.
        """
        check_container(config)
        sandbox_id = self._sandboxes.get(sandbox_id).id
        async with self._sandboxes.locked(sandbox_id):
            sandbox = self._sandboxes.get(sandbox_id)
            if said is not None and said != sandbox.config.metadata:
                raise InvalidArgumentError(f"sandbox_config is of {said.name!r}, not of pod sandbox {sandbox_id}")
            if not sandbox.ready:
                raise ConflictError(f"pod sandbox {sandbox_id} is not ready")
            self._check_target(sandbox, config)
            name = container_name(sandbox, config)
            config = await self._with_images_found(config)
            if (known := self._store.named(name)) is not None:
                return await self._same(known, sandbox, config)
            found = await self._engine.images.get(config.image.image)
            image = _image(config, found)
            log_path = _log_path(sandbox, config)
            record = Record(name, sandbox_id, self._now_ns(), config, image, log_path)
            try:
                spec, stack = await both(self._describe(sandbox, record), ensure_stack(self._engine.layers, found))
                with _naming_volumes():
                    created = await self._members.make(
                        name, lambda: create_container(self._engine, spec, "", found, stack)
                    )
                record = replace(record, id=created.id)
                await self._store.made(record)
            except BaseException:
                await to_the_end(self._take_back(record))
                raise
            for warning in created.warnings:
                log.warning("container was made with a warning", container=created.id, warning=warning)
            return created.id

    async def _describe(self, sandbox: Sandbox, record: Record) -> ContainerSpec:
        """Record a container that is to be made, have a place for its log, and return what runtimed is asked."""

        def describe() -> ContainerSpec:
            places = self._sandboxes.places(sandbox)
            spec = container_spec(sandbox, places, record.config, record.image, record.log_path)
            if record.log_path:
                _make_parent(record.log_path)
            return replace(spec, runtime=self._handlers.runtimes.get(sandbox.handler, ""))

        spec = await asyncio.to_thread(describe)
        await self._store.put(record)
        return spec

    async def _with_images_found(self, config: ContainerConfig) -> ContainerConfig:
        """Return a config whose mounts of images say which images those are. Raises NotFoundError."""

        async def found(mount: Mount) -> Mount:
            if mount.image is None or not mount.image.image:
                return mount
            try:
                image = await self._engine.images.get(mount.image.image)
            except NotFoundError as error:
                raise NotFoundError(f"{_IMAGE_VOLUME}: {error}") from None
            return replace(mount, image=replace(mount.image, image_ref=str(image.id)))

        return replace(config, mounts=tuple([await found(mount) for mount in config.mounts]))

    async def _same(self, known: Record, sandbox: Sandbox, config: ContainerConfig) -> str:
        if known.id and known.sandbox == sandbox.id and known.config == config:
            with suppress(NotFoundError):
                if (await self._engine.containers.get(known.id)).state.status is Status.CREATED:
                    return known.id
        raise AlreadyExistsError(f"container {known.id} has the name {known.name}: remove it, or take another attempt")

    def _check_target(self, sandbox: Sandbox, config: ContainerConfig) -> None:
        options = namespaces_of(sandbox, config)
        if options.pid is NamespaceMode.TARGET and options.target_id:
            try:
                target = self._store.get(options.target_id)
            except NotFoundError as error:
                raise InvalidArgumentError(f"namespace_options.target_id: {error}") from None
            if target.sandbox != sandbox.id:
                raise InvalidArgumentError(f"namespace_options.target_id: container {target.id} is of another pod")

    async def _take_back(self, record: Record) -> None:
        """Undo a container that was not made; what fails is tried again when its sandbox goes, or at the next start."""
        try:
            found = [record.id] if record.id else [each.id for each in await self._members.named([record.name])]
            await self._members.discard(found)
            await self._store.drop(record)
        except SampanError as error:
            log.warning("container is not taken back yet", name=record.name, error=str(error))

    async def start(self, id: str) -> None:
        """Start it; one that runs is no error.

        Raises:
            NotFoundError: it is not there.
            ConflictError: it has run already, or its sandbox is not ready.
            StartError: it cannot be started.
        """
        record = self._store.get(id)
        if not self._sandboxes.get(record.sandbox).ready:
            raise ConflictError(f"pod sandbox {record.sandbox} is not ready")
        if not self._store.is_new(record):
            state = (await self._engine.containers.get(record.id)).state
            if state.status is Status.EXITED or state.finished_at is not None:
                raise ConflictError(f"container {record.id} has run already: another one is made for another attempt")
        with suppress(NotModifiedError), _naming_volumes():
            await both(self._engine.containers.start(record.id), self._store.starting(record))

    async def stop(self, id: str, timeout_s: float) -> None:
        """Signal, wait that long, kill; one that is not there or has ended is no error."""
        if timeout_s < 0:
            raise InvalidArgumentError(f"timeout is {timeout_s:.0f} seconds")
        with suppress(NotFoundError, NotModifiedError):
            await self._engine.containers.stop(self._store.get(id).id, timeout_s)

    async def remove(self, id: str) -> None:
        """Remove it, by force if it runs; one that is not there is no error."""
        with suppress(NotFoundError):
            record = self._store.get(id)
            await self._members.discard([record.id])
            await self._store.drop(record)

    async def update(self, id: str, asked: Resources, annotations: Mapping[str, str]) -> None:
        """Change limits; what is 0 stays as it is.

        Raises:
            NotFoundError: it is not there.
            ConflictError: it has ended.
            InvalidArgumentError: a limit cannot be meant; annotations say nothing to this runtime.
        """
        if annotations:
            log.debug("annotations of an update have no effect", container=id, keys=sorted(annotations))
        record = self._store.get(id)
        if (await self._engine.containers.get(record.id)).state.status not in (Status.CREATED, Status.RUNNING):
            raise ConflictError(f"container {record.id} has ended")
        await self._engine.containers.update(record.id, resources_of(asked))
        linux = replace(record.config.linux, resources=merged(record.config.linux.resources, asked))
        await self._store.change(record, replace(record.config, linux=linux))

    async def reopen_log(self, id: str) -> None:
        """Have its log's file opened anew. Raises NotFoundError; ConflictError: it does not run."""
        await self._engine.containers.reopen_log(self._store.get(id).id)

    # What there is

    async def running_container(self, id: str) -> str:
        """Return the whole ID of one that runs. NotFoundError; ConflictError: it does not."""
        view, _ = await self.view(id)
        if view.state is not State.RUNNING:
            raise ConflictError(f"container {view.record.id} is not running")
        return view.record.id

    async def ready_sandbox(self, id: str) -> str:
        """Return the whole ID of a sandbox that is ready. NotFoundError; ConflictError: it is not."""
        await self._sandboxes.network_of(id)
        return self._sandboxes.get(id).id

    async def view(self, id: str) -> tuple[View, ContainerDetails]:
        """Return one container as it is, and all that runtimed knows of it. Raises NotFoundError."""
        record = self._store.get(id)
        try:
            found = await self._engine.containers.get(record.id)
        except NotFoundError:  # removed by other ways than kubelet's
            await self._store.drop(record)
            raise
        return view_of(record, found), found

    async def select(self, selection: Selection) -> list[View]:
        """Return those that are wanted, newest first."""
        records = {
            record.id: record
            for record in self._store.all()
            if record.id.startswith(selection.id or "")
            and record.id
            and record.sandbox.startswith(selection.sandbox)
            and selection.labels.items() <= record.config.labels.items()
        }
        if not records:
            return []
        # Those of a pod are few, and looked up by their IDs.
        filters = {"id": tuple(records)} if len(records) <= _FEW else NO_FILTERS
        found = await self._engine.containers.list(ALL, filters)
        views = [view_of(records[each.id], each) for each in found if each.id in records]
        return [view for view in views if selection.state in ("", view.state.name)]

    # After a crash

    async def recover(self, *, thorough: bool = True) -> None:
        """Forget what is gone, and remove what nobody was told of; unless ``thorough``, not what nothing is known of.

        Raises:
            SampanError: runtimed does not answer.
        """
        found = {each.id: each.name for each in await self._engine.containers.list(ALL)}
        by_name = {name: number for number, name in found.items()}
        for record in self._store.all():
            if not record.id:
                await self._members.discard([by_name[record.name]] if record.name in by_name else [])
                await self._store.drop(record)
            elif record.id not in found:
                await self._store.drop(record)
        if thorough:
            await self._discard_strangers(found)

    async def _discard_strangers(self, found: Mapping[str, str]) -> None:
        """Remove containers of pods that no pod has, as when crid's rows were lost."""
        known: Collection[str] = {
            *(record.id for record in self._store.all()),
            *(sandbox.infra for sandbox in self._sandboxes.everything()),
        }
        strangers = [each for each in found if each not in known]
        if strangers:
            log.warning("containers of pods that there are not were removed", count=len(strangers))
            await self._members.discard(strangers)


@contextmanager
def _naming_volumes() -> Iterator[None]:
    """Put kubelet's word for an image volume that cannot be mounted before the sentence that says why."""
    try:
        yield
    except ImageMountError as error:
        raise ImageMountError(f"{_IMAGE_VOLUME}: {error}") from error


def merged(known: Resources, asked: Resources) -> Resources:
    """Return limits after a change: what is 0 or empty stays."""
    said = {one.name: value for one in fields(Resources) if (value := getattr(asked, one.name))}
    return replace(known, **said)


def _image(config: ContainerConfig, image: ImageDetails) -> Image:
    """Return the names of an image by which kubelet finds it among those that it is shown."""
    names, digests = ([str(parse_reference(name)) for name in names] for names in (image.repo_tags, image.repo_digests))
    return Image(str(image.id), names[0] if names else config.image.image, digests[0] if digests else str(image.id))


def _make_parent(log_path: str) -> None:
    """Make the directory of a log. Raises InvalidArgumentError: something is in the way."""
    try:
        Path(log_path).parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InvalidArgumentError(f"log_path {log_path}: {error.filename}: {error.strerror}") from None
    if Path(log_path).is_dir():
        raise InvalidArgumentError(f"log_path {log_path} is a directory")
    if Path(log_path).is_fifo() or Path(log_path).is_socket():
        raise InvalidArgumentError(f"log_path {log_path} is a pipe or a socket: opening it could take for ever")


def _log_path(sandbox: Sandbox, config: ContainerConfig) -> str:
    """Return where a container's log is. Raises InvalidArgumentError: not below the pod's directory."""
    if not config.log_path:
        return ""
    directory = sandbox.config.log_directory
    path = PurePosixPath(config.log_path)
    if path.is_absolute() or ".." in path.parts or "\0" in config.log_path or not path.parts:
        raise InvalidArgumentError(f"log_path is {config.log_path!r}: expected a path within log_directory")
    if not directory:
        return ""  # as kubelet's own: without a directory nothing is kept
    joined = posixpath.join(directory, str(path))
    if len(joined) > _MAX_PATH:
        raise InvalidArgumentError("log_path is too long")
    return joined
