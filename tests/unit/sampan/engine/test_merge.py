"""How a container's spec is completed from its image: Docker's rules, one by one."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from sampan.engine.create import merge
from sampan.errors import InvalidArgumentError
from sampan.oci import image_config
from sampan.oci.descriptor import Descriptor
from sampan.oci.digest import Digest
from sampan.resource.container_spec import ContainerSpec, HealthCheck, ImageManifest, Process
from sampan.resource.image import ImageDetails
from tests.fakes.image_values import image_value


def image(**config: Any) -> ImageDetails:
    given = {name: tuple(value) if isinstance(value, list) else value for name, value in config.items()}
    return image_value(Digest.of(b"config"), **given)


def spec(
    *, health_check: HealthCheck | None = None, labels: Mapping[str, str] | None = None, **process: Any
) -> ContainerSpec:
    given: dict[str, Any] = {name: tuple(value) for name, value in process.items()}
    return ContainerSpec(image="x", process=Process(**given), health_check=health_check, labels=labels or {})


@pytest.mark.parametrize(
    ("theirs", "ours", "expected"),
    [
        (([], ["sh"]), ([], []), ([], ["sh"])),
        (([], ["sh"]), ([], ["ls"]), ([], ["ls"])),
        ((["init"], ["sh"]), ([], []), (["init"], ["sh"])),
        ((["init"], ["sh"]), ([], ["ls"]), (["init"], ["ls"])),
        ((["init"], ["sh"]), (["mine"], []), (["mine"], [])),
        ((["init"], ["sh"]), (["mine"], ["x"]), (["mine"], ["x"])),
        ((["init"], ["sh"]), ([""], ["x"]), ([], ["x"])),
        (([""], ["sh", "-c"]), ([], []), ([], ["sh", "-c"])),
        (([""], ["sh"]), ([], ["ls"]), ([], ["ls"])),
        (([""], ["sh"]), (["mine"], []), (["mine"], [])),
    ],
)
def test_command_and_entrypoint(
    theirs: tuple[list[str], list[str]], ours: tuple[list[str], list[str]], expected: tuple[list[str], list[str]]
) -> None:
    process = merge(spec(entrypoint=ours[0], cmd=ours[1]), image(entrypoint=theirs[0], cmd=theirs[1])).process
    assert (list(process.entrypoint), list(process.cmd)) == expected


@pytest.mark.parametrize("entrypoint", [[], [""]])
def test_nothing_to_run_is_refused(entrypoint: list[str]) -> None:
    with pytest.raises(InvalidArgumentError, match="no command specified"):
        merge(spec(entrypoint=entrypoint), image())


def test_a_variable_of_the_user_s_replaces_the_image_s() -> None:
    merged = merge(spec(env=["A=mine", "B"]), image(cmd=["sh"], env=["A=theirs", "B=theirs", "C=theirs"]))
    assert list(merged.process.env) == ["A=mine", "B", "C=theirs"]


def test_labels_of_the_user_s_win_one_by_one() -> None:
    asked = spec(labels={"a": "mine"})
    merged = merge(asked, image(cmd=["sh"], labels={"a": "theirs", "b": "theirs"}))
    assert dict(merged.labels) == {"a": "mine", "b": "theirs"}


def test_ports_and_volumes_add_up() -> None:
    asked = replace(spec(), exposed_ports=("80/tcp",))
    merged = merge(asked, image(cmd=["sh"], exposed_ports=["80/tcp", "443/tcp"], volumes=["/data"]))
    assert list(merged.exposed_ports) == ["80/tcp", "443/tcp"]
    assert list(merged.anonymous_volumes) == ["/data"]


def test_a_health_check_is_completed_field_by_field() -> None:
    asked = spec(health_check=HealthCheck(retries=9))
    theirs = image_config.HealthCheck(("CMD", "true"), interval_ns=30 * 10**9, retries=3)
    merged = merge(asked, image(cmd=["sh"], health_check=theirs)).health_check
    assert merged == HealthCheck(("CMD", "true"), interval_s=30, retries=9)


def test_an_image_without_a_health_check_adds_none() -> None:
    assert merge(spec(), image(cmd=["sh"])).health_check is None


def test_a_container_remembers_the_manifest_that_its_root_comes_from() -> None:
    made = image(cmd=["sh"])
    merged = merge(spec(), made)
    assert merged.image_manifest == ImageManifest(
        made.manifest.media_type, made.manifest.digest, made.manifest.size, made.platform.os, made.platform.architecture
    )


def test_an_image_without_a_manifest_has_none_to_remember() -> None:
    without = replace(image(cmd=["sh"]), manifest=Descriptor("", Digest(""), 0))
    assert merge(spec(), without).image_manifest is None
