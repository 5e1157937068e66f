"""What stands before the handlers of a socket with a scope: every request passes here once, and as it will be handled.

Containers, and networks that could be others later, are named by their IDs from here on: what was looked at is what is
acted on, although somebody renames or removes what bears a name, so that it means what has an ID that begins so.
"""

import re
from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import replace
from typing import Final

from dockerapi import networks, volumes
from dockerapi.container import create_body, execs, host_config
from dockerapi.http.call import Call
from dockerapi.http.fields import Fields
from dockerapi.http.routing import Route
from dockerapi.rights import host_access
from dockerapi.rights.operations import Noun, Operation, Reach, operation_of
from dockerapi.rights.scope import Scope
from sampan.docker.options.namespaces import CONTAINER
from sampan.docker.options.networks import link_of
from sampan.engine.create import with_volumes_of
from sampan.errors import InvalidArgumentError, NotFoundError, PermissionDeniedError
from sampan.resource.container import ContainerDetails
from sampan.resource.container_spec import ContainerSpec, MountType, Namespaces
from sampan.resource.exec import Exec
from sampan.resource.network import Network
from sampan.resource.volume import Volume

# What needs no more of a container than that it is there: none of these runs anything, or hands out a file.
_HARMLESS: Final = frozenset(
    ("container.stop", "container.kill", "container.pause", "container.resize", "container.wait", "container.remove")
)

# A name of this kind may as well be what a network's ID begins with.
_ID: Final = re.compile(r"[0-9a-f]{1,64}")

# What the engine says of itself where containers get the profile that is known to confine them.
_BUILTIN: Final = "name=seccomp,profile=builtin"

# Networks that every engine has: nobody's, and of no use but to be on one's own.
_PREDEFINED: Final = frozenset(("", "default", "bridge", "none"))

_FILTERED: Final = frozenset(
    ("container.list", "container.prune", "network.list", "network.prune", "volume.list", "volume.prune",
     "system.events")
)  # fmt: skip


async def admit(call: Call, route: Route, scope: Scope) -> Call:
    """Return the call as it may be handled.

    Raises:
        PermissionDeniedError: it may not; the sentence says what of it.
        NotFoundError: it is about something that this socket does not show, in the words for what is not there.
        InvalidArgumentError: its body cannot be read.
    """
    operation = operation_of(route.method, route.path)
    scope.check_operation(operation)
    assert operation is not None
    if not (scope.no_host or scope.label is not None):
        return call
    return await _Admission(call, operation, scope).result()


class _Admission:
    """One call, its limits and what is looked up for them."""

    def __init__(self, call: Call, operation: Operation, scope: Scope) -> None:
        self._call = call
        self._operation = operation
        self._scope = scope

    async def result(self) -> Call:
        call, operation = await self._looked_up(), self._operation
        match operation.name:
            case "container.create":
                call = replace(call, judged=await self._created())
            case "exec.create":
                if execs.parse_spec(await call.body(required=True), call.version).privileged:
                    self._refuse(("privileged",))
            case "container.update":
                resources = host_config.resources(Fields(await call.body(required=True), ""))
                self._refuse(host_access.of_resources(resources))
            case "volume.create":
                request = volumes.parse_request(await call.body())
                self._refuse(host_access.of_volume(request))
                self._check_label(request.labels)
            case "network.create":
                wanted = networks.parse_request(await call.body(required=True), call.version)
                self._refuse(host_access.of_network(wanted))
                self._check_label(wanted.labels)
            case "image.commit" if name := call.text("container"):  # what it holds can be had of the image
                call = replace(call, args={**call.args, "container": (await self._used(name)).id})
            case "network.connect" | "network.disconnect":
                call = replace(call, args={**call.args, "container": await self._connected()})
            case "image.pull" if call.text("fromSrc") not in ("", "-"):
                self._refuse(("an archive that the engine would fetch",))
            case "image.pull" if call.text("fromSrc") and self._scope.label is not None:
                raise PermissionDeniedError("this socket shows what has its label: import is not allowed")
        if self._scope.label is not None and operation.name in _FILTERED:
            key, value = self._scope.label
            call = replace(call, only={"label": (key if value is None else f"{key}={value}",)})
        return call

    async def _looked_up(self) -> Call:
        """Return the call with what its path names by ID, which may be used and is shown here."""
        call = self._call
        match self._operation.noun:
            case Noun.CONTAINER:
                name, link = call.args["id"], ""
                if self._operation.name == "container.remove" and call.flag("link"):
                    name, alias = link_of(name)
                    link = f"/{alias}"
                container = await self._container(name)
                await self._check_use(container)
                return replace(call, args={**call.args, "id": f"{container.id}{link}"})
            case Noun.EXEC:
                found = await call.execs.get(call.args["id"])
                await self._check_use(await self._container_of_exec(found))
                if self._operation.name == "exec.start" and found.spec.privileged:
                    self._refuse(("privileged",))
                return replace(call, args={**call.args, "id": found.id})
            case Noun.NETWORK:
                return replace(call, args={**call.args, "id": (await self._network(call.args["id"])).id})
            case Noun.VOLUME if self._scope.label is not None:
                await self._volume(call.args["name"])
        return call

    def _refuse(self, found: Iterable[str]) -> None:
        if self._scope.no_host and (reasons := list(found)):
            raise PermissionDeniedError(
                f"this socket gives nobody the host: {self._operation.name} is not allowed: {', '.join(reasons)}"
            )

    def _check_label(self, labels: Mapping[str, str]) -> None:
        if not self._shows(labels):
            assert self._scope.label is not None
            key, value = self._scope.label
            wanted = key if value is None else f"{key}={value}"
            raise PermissionDeniedError(f"this socket makes nothing without the label {wanted}")

    def _shows(self, labels: Mapping[str, str]) -> bool:
        if self._scope.label is None:
            return True
        key, value = self._scope.label
        return key in labels and value in (None, labels[key])

    async def _container(self, name: str) -> ContainerDetails:
        container = await self._call.control.get(name)
        if not self._shows(container.spec.labels):
            raise NotFoundError(f"No such container: {name}")
        return container

    async def _container_of_exec(self, found: Exec) -> ContainerDetails:
        container = await self._call.control.get(found.container_id)
        if not self._shows(container.spec.labels):
            raise NotFoundError(f"No such exec instance: {found.id}")
        return container

    async def _network(self, name: str) -> Network:
        network = await self._call.networks.get(name)
        if not self._shows(network.labels):
            raise NotFoundError(f"network {name} not found")
        return network

    async def _volume(self, name: str) -> Volume:
        volume = await self._call.volumes.get(name)
        if not self._shows(volume.labels):
            raise NotFoundError(f"get {name}: no such volume")
        return volume

    async def _check_use(self, container: ContainerDetails) -> None:
        """Refuse what would be done in a container that has the host: made before, or by somebody else."""
        if not self._scope.no_host or self._operation.reach is Reach.LOOKS or self._operation.name in _HARMLESS:
            return
        self._refuse([f"{container.name} has {what}" async for what in self._held(container)])

    async def _held(self, container: ContainerDetails) -> AsyncIterator[str]:
        """Yield what of the host a container has: itself, by its volumes, by containers whose namespaces it shares."""
        for what in host_access.of_container(await self._as_asked(container.spec), self._scope.binds):
            yield what
        for point in container.mounts:
            if point.type is MountType.VOLUME:
                for what in host_access.of_made_volume(await self._call.volumes.get(point.name)):
                    yield what
        for _, name in host_access.joins(container.spec.namespaces):
            try:
                joined = await self._call.control.get(name)
            except NotFoundError:  # its namespaces are there as long as somebody is in them
                yield "namespaces of a container that is gone"
                continue
            async for what in self._held(joined):
                yield f"namespaces of {joined.name}, which has {what}"

    async def _as_asked(self, spec: ContainerSpec) -> ContainerSpec:
        """Return a spec without what the engine has filled in, as its configuration says."""
        spec = host_access.without_defaults(spec)
        if (
            any(host_access.of_profile(spec.security))
            and _BUILTIN not in (await self._call.host.info()).security_options
        ):
            return host_access.without_profile(spec)
        return spec

    async def _created(self) -> ContainerSpec:
        """Return what a create asks for, if it may be, with what it names looked up."""
        call = self._call
        body = await call.body(required=True)
        spec = create_body.parse(body, call.text("name"), call.version)
        self._refuse(host_access.of_container(spec, self._scope.binds))
        self._check_label(spec.labels)
        try:
            return await self._resolved(spec, create_body.volumes_from(body))
        except NotFoundError as error:  # clients take "not found" for a missing image, and pull it
            raise InvalidArgumentError(str(error)) from error

    async def _resolved(self, spec: ContainerSpec, volumes_from: Iterable[str]) -> ContainerSpec:
        spec = replace(spec, namespaces=await self._joining(spec.namespaces))
        sources = []
        for text in volumes_from:
            name, colon, mode = text.partition(":")
            sources.append((await self._used(name)).id + colon + mode)
        spec = await self._on_networks(spec)
        await self._check_volumes(spec)
        return await with_volumes_of(self._call.control, spec, sources)

    async def _used(self, name: str) -> ContainerDetails:
        container = await self._container(name)
        await self._check_use(container)
        return container

    async def _joining(self, given: Namespaces) -> Namespaces:
        ids = {kind: f"{CONTAINER}{(await self._used(name)).id}" for kind, name in host_access.joins(given)}
        return replace(
            given,
            network=ids.get("network", given.network),
            pid=ids.get("pid", given.pid),
            ipc=ids.get("ipc", given.ipc),
        )

    async def _on_networks(self, spec: ContainerSpec) -> ContainerSpec:
        """Return the spec with its links, and its networks where a name could be another's ID, by IDs."""
        mode = spec.namespaces.network
        named = {endpoint.network for endpoint in spec.endpoints} | {mode}
        ids = {}
        for name in named - _PREDEFINED:
            if name.startswith(CONTAINER):
                continue
            network = await self._network(name)
            if network.driver == "host":
                self._refuse(("the host's network namespace",))
            ids[name] = network.id if _ID.fullmatch(name) else name
        endpoints = []
        for endpoint in spec.endpoints:
            links = [await self._link(link, by_id=mode in _PREDEFINED) for link in endpoint.links]
            endpoints.append(replace(endpoint, network=ids.get(endpoint.network, endpoint.network), links=tuple(links)))
        namespaces = replace(spec.namespaces, network=ids.get(mode, mode))
        return replace(spec, endpoints=tuple(endpoints), namespaces=namespaces)

    async def _link(self, link: str, *, by_id: bool) -> str:
        """Return a link to a container that may be used. On users' networks it is a name and nothing else."""
        name, _, alias = link.partition(":")
        container = await self._used(name)
        return f"{container.id}:{alias or name.lstrip('/')}" if by_id else link

    async def _check_volumes(self, spec: ContainerSpec) -> None:
        for mount in spec.mounts:
            if mount.type is not MountType.VOLUME or not mount.source:
                continue
            try:
                volume = await self._call.volumes.get(mount.source)
            except NotFoundError:
                self._check_label(mount.volume_labels)  # it is made with the container
                continue
            if not self._shows(volume.labels):
                raise NotFoundError(f"get {mount.source}: no such volume")
            self._refuse(host_access.of_made_volume(volume))

    async def _connected(self) -> str:
        """Return the ID of the container that is to be connected to a network, or disconnected."""
        sent = Fields(await self._call.body(required=True), "")
        if not (name := sent.text("Container")):
            raise InvalidArgumentError("invalid JSON: Container is not there")
        self._refuse(
            host_access.of_endpoint(create_body.endpoint(self._call.args["id"], sent.fields("EndpointConfig")))
        )
        return (await self._container(name)).id
