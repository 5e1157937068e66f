"""``docker build`` as a client without buildx does it: the context is a tar in ``POST /build``."""

import io
import json
import os
import re
import tarfile
from collections.abc import Callable
from pathlib import Path

import docker as sdk_package
import pytest

from sampan.sys.processes import most_processes
from tests.compat.conftest import TARGET, Spawn
from tests.support.docker_client import DockerClient, UnixConnection

pytestmark = pytest.mark.root

EVERYTHING = """
ARG BASE
FROM $BASE AS made
ARG WHO=nobody
ENV A=b C="d e"
WORKDIR /work
RUN echo $WHO $A "$C" > out && pwd >> out

FROM $BASE AS unused
RUN false

FROM $BASE
LABEL x=y "two words"="1 2"
SHELL ["/bin/sh", "-e", "-c"]
COPY --from=made /work/out /out
COPY . /context/
ADD packed.tar /unpacked/
RUN echo from the other shell > /shell
EXPOSE 80/tcp 53/udp
VOLUME /data
USER 1000:1000
STOPSIGNAL SIGINT
HEALTHCHECK --interval=5s CMD true
ENTRYPOINT ["sh", "-c"]
CMD ["cat /out; find /context /unpacked | sort; id -u"]
ONBUILD RUN echo triggered > /tmp/triggered
"""


def write(context: Path, dockerfile: str, **files: str) -> None:
    (context / "Dockerfile").write_text(dockerfile)
    for name, text in files.items():
        (context / name).write_text(text)


def archive(**files: str) -> str:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as tar:
        for name, text in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(text)
            tar.addfile(entry, io.BytesIO(text.encode()))
    return made.getvalue().decode()


def test_every_instruction_has_its_effect(docker: DockerClient, image: str, context: Path) -> None:
    write(context, EVERYTHING, kept="", ignored="")
    (context / ".dockerignore").write_text("ign*\n.dockerignore\nDockerfile\n")
    with tarfile.open(context / "packed.tar", "w") as tar:
        entry = tarfile.TarInfo("inside")
        tar.addfile(entry)
    docker(
        "build", "-t", "all:1", "-t", "all:2", "--build-arg", f"BASE={image}", "--build-arg", "WHO=me",
        "--label", "given=too", str(context),
    )  # fmt: skip
    said = docker("run", "--rm", "--network", "none", "all:1").lines
    assert said == [
        "me b d e", "/work", "/context", "/context/kept",
        "/context/packed.tar", "/unpacked", "/unpacked/inside", "1000",
    ]  # fmt: skip
    (found,) = json.loads(docker("image", "inspect", "all:2").stdout)
    config = found["Config"]
    assert config["Labels"] == {"x": "y", "two words": "1 2", "given": "too"}
    assert config["ExposedPorts"].keys() == {"80/tcp", "53/udp"}
    assert config["Volumes"].keys() == {"/data"}
    assert (config["User"], config["StopSignal"]) == ("1000:1000", "SIGINT")
    assert config["Healthcheck"] == {"Test": ["CMD-SHELL", "true"], "Interval": 5_000_000_000}
    assert config["Shell"] == ["/bin/sh", "-e", "-c"]
    assert config["OnBuild"] == ["RUN echo triggered > /tmp/triggered"]
    history = docker("history", "--no-trunc", "--format", "{{.CreatedBy}}", "all:1").lines
    assert history[0].startswith("CMD [")
    assert "COPY . /context/ # buildkit" in history
    write(context, "FROM all:1\nENTRYPOINT []\nCMD cat /tmp/triggered /shell\n")
    docker("build", "-t", "all:3", str(context))
    assert docker("run", "--rm", "--network", "none", "all:3").stdout == "triggered\nfrom the other shell\n"
    docker("rmi", "all:1", "all:2", "all:3")


def test_a_rebuild_without_changes_is_the_same_image(docker: DockerClient, image: str, context: Path) -> None:
    write(context, f"FROM {image}\nCOPY file /\nRUN date +%s > /when\n", file="one")
    first = docker("build", "-q", str(context)).line
    assert first.startswith("sha256:")
    again = docker("build", str(context)).stdout
    assert again.count(" ---> Using cache") == 2
    os.utime(context / "file", (1, 1))
    assert docker("build", "-q", str(context)).line == first
    (context / "file").write_text("two")
    changed = docker("build", str(context)).stdout
    assert "Using cache" not in changed  # the base is no hit, it is there
    without = docker("build", "--no-cache", str(context)).stdout
    assert "Successfully built" in without
    assert docker("run", "--rm", "--network", "none", first, "cat", "/file").stdout == "one"


def test_the_output_tells_steps_and_names(docker: DockerClient, image: str, context: Path) -> None:
    write(context, f"FROM {image}\nRUN echo to stdout; echo to stderr >&2\n")
    result = docker("build", "-t", "told:1", "--no-cache", str(context))
    built = docker("image", "inspect", "--format", "{{.Id}}", "told:1").line
    assert "Step 1/2 : FROM " in result.stdout
    assert "Step 2/2 : RUN echo to stdout; echo to stderr >&2\n" in result.stdout
    assert "to stdout\n" in result.stdout
    assert "\x1b[91mto stderr\n\x1b[0m" in result.stdout
    (container,) = re.findall(r"^ ---> Running in ([0-9a-f]{12})\n", result.stdout, re.MULTILINE)
    assert f"Removing intermediate container {container}\n" in result.stdout
    base = docker("image", "inspect", "--format", "{{.Id}}", image).line
    ids = re.findall(r"^ ---> ([0-9a-f]{12})\n", result.stdout, re.MULTILINE)
    assert ids == [base[7:19], built[7:19]]
    assert result.lines[-2:] == [f"Successfully built {built[7:19]}", "Successfully tagged told:1"]
    docker("rmi", "told:1")


def test_every_instruction_is_a_step_that_comes_to_something(docker: DockerClient, image: str, context: Path) -> None:
    write(context, f"FROM {image}\nONBUILD RUN echo triggered\nONBUILD ENV a=b\n")
    docker("build", "-t", "steps:1", str(context))
    write(
        context,
        "ARG BASE\nFROM $BASE AS made\nENV A=b\nRUN echo one && \\\n    echo two > /made\n"
        "FROM made AS next\nCMD x\nFROM scratch\nCOPY --from=next /made /\nLABEL a=b\n",
    )

    def told() -> list[str]:
        shown = docker("build", "--build-arg", "BASE=steps:1", str(context)).stdout
        return [re.sub("[0-9a-f]{12}", "ID", line) for line in shown.splitlines() if "context to Docker" not in line]

    steps = [
        "Step 1/9 : ARG BASE", "Step 2/9 : FROM $BASE AS made", "Step 3/9 : ENV A=b",
        "Step 4/9 : RUN echo one &&     echo two > /made", "Step 5/9 : FROM made AS next", "Step 6/9 : CMD x",
        "Step 7/9 : FROM scratch", "Step 8/9 : COPY --from=next /made /", "Step 9/9 : LABEL a=b",
    ]  # fmt: skip
    first = told()
    assert [line for line in first if line.startswith("Step")] == steps
    assert first[first.index(steps[1]) + 1] == "# Executing 2 build triggers"
    run = first.index(steps[3])
    assert first[run + 1 : run + 5] == [" ---> Running in ID", "one", "Removing intermediate container ID", " ---> ID"]
    assert first[first.index(steps[6]) + 1 :][:3] == [" ---> ", steps[7], " ---> ID"]
    again = told()
    assert [line for line in again if line.startswith("Step")] == steps
    run = again.index(steps[3])
    assert again[run + 1 : run + 3] == [" ---> Using cache", " ---> ID"]
    assert again[-1] == "Successfully built ID"
    docker("rmi", "steps:1")


def test_a_stage_is_the_target(docker: DockerClient, image: str, context: Path) -> None:
    write(context, f"FROM {image} AS one\nRUN echo one > /stage\nFROM {image} AS two\nRUN false\n")
    built = docker("build", "-q", "--target", "one", str(context)).line
    assert docker("run", "--rm", "--network", "none", built, "cat", "/stage").stdout == "one\n"


def test_a_dockerfile_comes_from_elsewhere(docker: DockerClient, image: str, context: Path, tmp_path: Path) -> None:
    (context / "other").write_text(f"FROM {image}\nRUN echo other > /which\n")
    (context / "here").write_text("")
    built = docker("build", "-q", "-f", str(context / "other"), str(context)).line
    assert docker("run", "--rm", "--network", "none", built, "cat", "/which").stdout == "other\n"
    piped = docker("build", "-q", "-", input=f"FROM {image}\nRUN echo piped > /which\n").line
    assert docker("run", "--rm", "--network", "none", piped, "cat", "/which").stdout == "piped\n"
    tar = archive(**{"sub.Dockerfile": f"FROM {image}\nCOPY file /which\n", "file": "from a tar"})
    taken = docker("build", "-q", "-f", "sub.Dockerfile", "-", input=tar).line
    assert docker("run", "--rm", "--network", "none", taken, "cat", "/which").stdout == "from a tar"


def test_steps_have_the_network_that_is_asked_for(docker: DockerClient, image: str, context: Path) -> None:
    write(context, f"FROM {image}\nRUN ls /sys/class/net > /links; cat /etc/hosts > /known\nCMD cat /links /known\n")
    none = docker("build", "-q", "--network", "none", str(context)).line
    assert docker("run", "--rm", "--network", "none", none).lines[0] == "lo"
    assert "eth0" not in docker("run", "--rm", "--network", "none", none).stdout
    host = docker("build", "-q", "--network", "host", str(context)).line
    links = docker("run", "--rm", "--network", "none", host).stdout
    assert set(os.listdir("/sys/class/net")) & set(links.split()) > {"lo"}
    usual = docker("build", "-q", "--add-host", "db:1.2.3.4", "--add-host", "up:host-gateway", str(context)).line
    known = docker("run", "--rm", "--network", "none", usual).stdout
    assert "eth0" in known
    assert "1.2.3.4\tdb\n" in known
    assert "\tup\n" in known
    assert "host-gateway" not in known


def test_steps_are_in_a_network_of_users(
    docker: DockerClient, image: str, context: Path, spawn: Spawn, unique: Callable[[str], str]
) -> None:
    network = unique("net")
    docker("network", "create", network)
    try:
        web = spawn("--init", "--network", network, "--network-alias", "web", image, "sleep", "300")
        address = docker("inspect", "-f", "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}", web).line
        write(context, f"FROM {image}\nRUN hostname -i > /own; nslookup web > /found; cat /etc/resolv.conf >> /found\n")
        for mode, shared in ((network, False), (f"container:{web}", True)):
            built = docker("build", "-q", "--no-cache", "--network", mode, str(context)).line
            found = docker("run", "--rm", "--network", "none", built, "cat", "/found").stdout
            assert address in found
            assert "nameserver 127.0.0.11" in found
            own = docker("run", "--rm", "--network", "none", built, "cat", "/own").stdout.split()
            assert (address in own) is shared
        docker("rm", "-f", web)
    finally:
        docker("network", "rm", network)
    for mode, said in ((network, f"network {network} not found"), (f"container:{web}", f"No such container: {web}")):
        assert said in docker.fails("build", "--no-cache", "--network", mode, str(context)).stderr


@pytest.mark.parametrize(
    ("rest", "code", "said"),
    [
        ("RUN exit 7\n", 7, "The command '/bin/sh -c exit 7' returned a non-zero code: 7"),
        ("RUN no-such-program\n", 127, "returned a non-zero code: 127"),
        ("FRUIT apple\n", 1, "dockerfile parse error on line 2: unknown instruction: FRUIT"),
        ("ENV a\n", 1, "ENV must have two arguments"),
        (
            "COPY nothing /\n",
            1,
            "excluded by .dockerignore: stat nothing: file does not exist",
        ),
        ("COPY ../outside /\n", 1, "COPY failed: "),
        ("COPY --from=nowhere.invalid/none /a /b\n", 1, "nowhere.invalid/none"),
    ],
)
def test_what_fails_is_told(docker: DockerClient, image: str, context: Path, rest: str, code: int, said: str) -> None:
    write(context, f"FROM {image}\n{rest}")
    result = docker.fails("build", "-t", "never:1", str(context))
    assert result.code == code
    assert said in result.stderr
    assert "Successfully" not in result.stdout
    assert docker.fails("image", "inspect", "never:1").code == 1


@pytest.mark.parametrize(
    ("dockerfile", "said"),
    [
        ("", "Dockerfile cannot be empty"),
        ("FROM localhost:1/none\n", "localhost:1/none"),
        ("RUN true\n", "no build stage in current context"),
        ("FROM scratch\n\nCOPY --chmod=9z a /\n", "chmod"),
    ],
)
def test_a_dockerfile_that_cannot_be_built(docker: DockerClient, context: Path, dockerfile: str, said: str) -> None:
    write(context, dockerfile, a="")
    result = docker.fails("build", str(context))
    assert result.code == 1
    assert said in result.stderr


def test_options_without_effect_are_refused(docker: DockerClient, image: str, context: Path) -> None:
    write(context, f"FROM {image}\n")
    assert "security options" in docker.fails("build", "--security-opt", "seccomp=x", str(context)).stderr
    assert 'target stage "none"' in docker.fails("build", "--target", "none", str(context)).stderr


def test_steps_are_held_to_their_limits(docker: DockerClient, image: str, context: Path) -> None:
    groups = "cat /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/memory.max 2>/dev/null"
    processes = "echo most $(cat /sys/fs/cgroup/pids/pids.max /sys/fs/cgroup/pids.max 2>/dev/null) processes"
    write(context, f"FROM {image}\nRUN {groups}; nproc; {processes}\nRUN head -c 100m /dev/zero | tail\n")
    limits = ("--memory", "64m", "--memory-swap", "64m", "--cpuset-cpus", "0", "--no-cache")
    result = docker.fails("build", *limits, str(context))
    assert result.code != 0
    assert "67108864" in result.stdout + result.stderr
    if not TARGET:  # dockerd lets a step have every process of the machine
        assert f"most {most_processes() // 2} processes" in result.stdout
    assert "Minimum memory limit allowed is 6MB" in docker.fails("build", "--memory", "1m", str(context)).stderr


def test_an_image_that_was_built_is_saved_loaded_and_removed(docker: DockerClient, image: str, context: Path) -> None:
    write(context, f"FROM {image}\nRUN echo saved > /file\nCMD cat /file\n")
    docker("build", "-t", "saved:1", str(context))
    built = docker("image", "inspect", "--format", "{{.Id}}", "saved:1").line
    docker("save", "-o", str(context / "saved.tar"), "saved:1")
    docker("rmi", "saved:1")
    assert docker.fails("image", "inspect", built).code == 1
    docker("load", "-i", str(context / "saved.tar"))
    assert docker("image", "inspect", "--format", "{{.Id}}", "saved:1").line == built
    assert docker("run", "--rm", "--network", "none", "saved:1").stdout == "saved\n"
    docker("rmi", "saved:1")


def test_the_cache_is_counted_and_pruned(docker: DockerClient, image: str, context: Path) -> None:
    write(context, f"FROM {image}\nRUN head -c 1000000 /dev/urandom > /big\n")
    first = docker("build", "-q", str(context)).line
    used = docker("system", "df", "--format", "{{.Type}} {{.TotalCount}}").lines
    assert int(next(line for line in used if line.startswith("Build Cache")).split()[-1]) > 0
    docker("rmi", first)
    pruned = docker("builder", "prune", "--all", "--force").stdout
    assert "Total reclaimed space: 0B" not in pruned
    used = docker("system", "df", "--format", "{{.Type}} {{.TotalCount}}").lines
    assert "Build Cache 0" in used
    assert docker("build", "-q", str(context)).line != first


def test_arguments_that_nothing_names_are_warned_of(docker: DockerClient, image: str, context: Path) -> None:
    write(context, f"ARG TAG\nFROM {image} AS one\nARG A\nFROM {image}\nARG B=b\nFROM {image} AS last\nARG C\n")
    names = ("A", "B", "C", "TAG", "OTHER", "HTTP_PROXY", "no_proxy")
    given = [part for name in names for part in ("--build-arg", f"{name}=1")]
    said = docker("build", *given, str(context)).stdout
    assert "[Warning] One or more build-args [OTHER] were not consumed\nSuccessfully built " in said
    said = docker("build", "--target", "one", *given, str(context)).stdout
    warning = next(line for line in said.splitlines() if line.startswith("[Warning]"))
    assert {"B", "C", "OTHER"} == set(warning.partition("[")[2].partition("[")[2].partition("]")[0].split())
    assert "[Warning]" not in docker("build", "--build-arg", "A=1", str(context)).stdout


def test_the_sdk_builds(sdk: sdk_package.DockerClient, image: str, context: Path) -> None:
    write(context, f"FROM {image}\nARG A\nRUN echo $A > /a\n", file="")
    built, log = sdk.images.build(path=str(context), tag="sdk-built:1", buildargs={"A": "argument"}, rm=True)
    assert any(str(line.get("stream", "")).startswith("Successfully built ") for line in log)
    assert sdk.containers.run(built.id, ["cat", "/a"], network_mode="none", remove=True) == b"argument\n"
    with pytest.raises(sdk_package.errors.BuildError, match="non-zero code: 9"):
        sdk.images.build(fileobj=io.BytesIO(f"FROM {image}\nRUN exit 9\n".encode()))
    with pytest.raises(sdk_package.errors.APIError, match="unknown instruction"):
        sdk.images.build(fileobj=io.BytesIO(b"FROM scratch\nFRUIT\n"))
    sdk.images.remove("sdk-built:1")


def test_a_client_of_buildkit_sends_the_context_as_the_body(docker: DockerClient, image: str) -> None:
    """As dockerode does."""
    body = archive(Dockerfile=f"FROM {image}\nCOPY file /\nCMD cat /file\n", file="sent").encode()
    connection = UnixConnection(docker.host.removeprefix("unix://"), timeout=60)
    headers = {"Content-Type": "application/x-tar"}
    connection.request("POST", "/build?version=2&session=nobodys&t=by-body:1", body=body, headers=headers)
    lines = [json.loads(line) for line in connection.getresponse().read().splitlines()]
    connection.close()
    assert not any("error" in line for line in lines)
    assert docker("run", "--rm", "--network", "none", "by-body:1").stdout == "sent"
    docker("rmi", "by-body:1")


def test_a_dockerfile_from_standard_input_joins_a_directory(docker: DockerClient, image: str, context: Path) -> None:
    write(context, "FROM nothing-of-this\n", file="sent")
    built = docker("build", "-q", "-f", "-", str(context), input=f"FROM {image}\nCOPY file /\nCMD cat /file\n").line
    assert docker("run", "--rm", "--network", "none", built).stdout == "sent"
    docker("rmi", built)
