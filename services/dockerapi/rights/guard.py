"""What stands before the handlers of a socket with a scope: every request passes here once, and as it will be handled.

A container is named by its ID from here on, so that what was looked at is what is acted on.
"""

from collections.abc import Iterable, Mapping
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
from sampan.docker.options.binds import parse_volumes_from
from sampan.errors import InvalidArgumentError, NotFoundError, PermissionDeniedError
from sampan.resource.container import ContainerDetails
from sampan.resource.container_spec import ContainerSpec, MountType

# What needs no more of a container than that it is there: none of these runs anything, or hands out a file.
_HARMLESS: Final = frozenset(
    ("container.stop", "container.kill", "container.pause", "container.resize", "container.wait", "container.remove")
)

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
        call, operation = self._call, self._operation
        if operation.noun is Noun.CONTAINER:
            container = await self._container(call.args["id"])
            self._check_use(container)
            call = replace(call, args={**call.args, "id": container.id})
        elif operation.noun is Noun.EXEC:
            self._check_use(await self._container_of_exec(call.args["id"]))
        elif operation.noun is Noun.NETWORK and self._scope.label is not None:
            call = replace(call, args={**call.args, "id": await self._network(call.args["id"])})
        elif operation.noun is Noun.VOLUME:
            await self._volume(call.args["name"])
        match operation.name:
            case "container.create":
                await self._check_create()
            case "exec.create":
                await self._check_exec()
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
            case "network.connect" | "network.disconnect":
                await self._check_connect()
            case "image.pull" if call.text("fromSrc") not in ("", "-"):
                self._refuse(("an archive that the engine would fetch",))
            case "image.pull" if call.text("fromSrc") and self._scope.label is not None:
                raise PermissionDeniedError("this socket shows what has its label: import is not allowed")
        if self._scope.label is not None and operation.name in _FILTERED:
            key, value = self._scope.label
            call = replace(call, only={"label": (key if value is None else f"{key}={value}",)})
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

    async def _container_of_exec(self, name: str) -> ContainerDetails:
        container = await self._call.control.get((await self._call.execs.get(name)).container_id)
        if not self._shows(container.spec.labels):
            raise NotFoundError(f"No such exec instance: {name}")
        return container

    async def _network(self, name: str) -> str:
        network = await self._call.networks.get(name)
        if not self._shows(network.labels):
            raise NotFoundError(f"network {name} not found")
        return network.id

    async def _volume(self, name: str) -> None:
        if self._scope.label is not None and not self._shows((await self._call.volumes.get(name)).labels):
            raise NotFoundError(f"get {name}: no such volume")

    def _check_use(self, container: ContainerDetails) -> None:
        """Refuse what would be done in a container that has the host: made before, or by somebody else."""
        if self._operation.reach is Reach.LOOKS or self._operation.name in _HARMLESS:
            return
        found = host_access.of_container(container.spec, self._scope.binds, made=True)
        self._refuse(f"{container.name} has {what}" for what in found)

    async def _check_create(self) -> None:
        call = self._call
        body = await call.body(required=True)
        spec = create_body.parse(body, call.text("name"), call.version)
        self._refuse(host_access.of_container(spec, self._scope.binds))
        self._check_label(spec.labels)
        others = [parse_volumes_from(text)[0] for text in Fields(body, "").fields("HostConfig").texts("VolumesFrom")]
        linked = [link.partition(":")[0] for endpoint in spec.endpoints for link in endpoint.links]
        for name in (*others, *host_access.joined(spec), *linked):
            self._check_use(await self._container(name))
        await self._check_networks(spec)
        await self._check_volumes(spec)

    async def _check_networks(self, spec: ContainerSpec) -> None:
        named = {endpoint.network for endpoint in spec.endpoints} | {spec.namespaces.network}
        for name in named - _PREDEFINED:
            if name.startswith("container:"):
                continue
            network = await self._call.networks.get(name)
            if not self._shows(network.labels):
                raise NotFoundError(f"network {name} not found")
            if network.driver == "host":
                self._refuse(("the host's network namespace",))

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
            if volume.options or volume.fault:
                self._refuse((f"volume {volume.name}, which has options",))

    async def _check_exec(self) -> None:
        if execs.parse_spec(await self._call.body(required=True)).privileged:
            self._refuse(("privileged",))

    async def _check_connect(self) -> None:
        sent = Fields(await self._call.body(required=True), "")
        if not (name := sent.text("Container")):
            raise InvalidArgumentError("invalid JSON: Container is not there")
        await self._container(name)
        self._refuse(
            host_access.of_endpoint(create_body.endpoint(self._call.args["id"], sent.fields("EndpointConfig")))
        )
