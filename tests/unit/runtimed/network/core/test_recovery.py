"""What a start of the engine makes of records that a kill has parted."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import pytest

from runtimed.network.core.model import Attached, Sandbox
from runtimed.network.core.recovery import undo_unrecorded
from runtimed.network.core.stack import NetworkStack
from sampan.resource.container import NetworkSettings, PublishedPort
from sampan.resource.container_spec import ContainerSpec
from tests.unit.runtimed.network_values import attached, container, sandbox

FIRST, SECOND = attached("front"), attached("back", "172.18.0.2")
PORT = PublishedPort(80, "tcp", "127.0.0.1", 8080)


def recovered(before: Sandbox, *recorded: Attached) -> Sandbox:
    """Return the sandbox of a container whose record knows ``recorded``."""
    web = replace(
        container(ContainerSpec(name="web")), network=NetworkSettings(endpoints=tuple(a.state for a in recorded))
    )
    before = replace(before, container_id=web.id)
    stack: Any = SimpleNamespace(sandboxes={web.id: before})
    stack.leads_out = lambda kept: bool(kept.gateway_endpoint)
    stack.keep = lambda kept: stack.sandboxes.update({kept.container_id: kept})
    undo_unrecorded(cast("NetworkStack", stack), web)
    after: Sandbox = stack.sandboxes[web.id]
    return replace(after, container_id="")


def test_a_connect_that_was_not_recorded_is_undone_and_the_rest_stays() -> None:
    before = replace(sandbox(FIRST, SECOND), ports=(PORT,))
    after = recovered(before, FIRST)
    assert (after.endpoints, after.gateway_endpoint, after.ports) == ((FIRST,), FIRST.state.endpoint_id, (PORT,))


def test_without_the_network_that_led_out_no_port_leads_anywhere() -> None:
    after = recovered(replace(sandbox(SECOND), ports=(PORT,)))
    assert (after.endpoints, after.gateway_endpoint, after.ports) == ((), "", ())


@pytest.mark.parametrize("recorded", [(FIRST, SECOND), (SECOND, FIRST)])
def test_what_is_recorded_is_left_as_it_is(recorded: tuple[Attached, ...]) -> None:
    before = replace(sandbox(FIRST, SECOND), container_id="")
    assert recovered(before, *recorded) == before
