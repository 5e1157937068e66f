"""How a container's spec is completed from its image: Docker's rules, one by one."""

import pytest

from sampan.api.image.v1 import images_pb2
from sampan.api.runtime.v1 import spec_pb2
from sampan.engine.create import merge
from sampan.errors import InvalidArgumentError


def image(**config: object) -> images_pb2.Image:
    return images_pb2.Image(id="sha256:" + "a" * 64, config=images_pb2.ImageConfig(**config))  # type: ignore[arg-type]


def spec(**process: object) -> spec_pb2.ContainerSpec:
    return spec_pb2.ContainerSpec(image="x", process=spec_pb2.Process(**process))  # type: ignore[arg-type]


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
    asked = spec()
    asked.labels.update({"a": "mine"})
    merged = merge(asked, image(cmd=["sh"], labels={"a": "theirs", "b": "theirs"}))
    assert dict(merged.labels) == {"a": "mine", "b": "theirs"}


def test_ports_and_volumes_add_up() -> None:
    asked = spec()
    asked.exposed_ports.append("80/tcp")
    merged = merge(asked, image(cmd=["sh"], exposed_ports=["80/tcp", "443/tcp"], volumes=["/data"]))
    assert list(merged.exposed_ports) == ["80/tcp", "443/tcp"]
    assert list(merged.anonymous_volumes) == ["/data"]


def test_a_health_check_is_completed_field_by_field() -> None:
    asked = spec()
    asked.health_check.retries = 9
    theirs = images_pb2.HealthCheck(test=["CMD", "true"], retries=3)
    theirs.interval.seconds = 30
    merged = merge(asked, image(cmd=["sh"], health_check=theirs)).health_check
    assert (list(merged.test), merged.interval.seconds, merged.retries) == (["CMD", "true"], 30, 9)


def test_an_image_without_a_health_check_adds_none() -> None:
    assert not merge(spec(), image(cmd=["sh"])).HasField("health_check")


def test_what_was_asked_for_is_not_changed() -> None:
    asked = spec(env=["A=1"])
    before = asked.SerializeToString(deterministic=True)
    merge(asked, image(cmd=["sh"], env=["B=2"]))
    assert asked.SerializeToString(deterministic=True) == before
