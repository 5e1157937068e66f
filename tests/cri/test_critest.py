"""Kubernetes' own validation of container runtimes. It takes some ten minutes: ``make test-cri``."""

import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from xml.etree import ElementTree

import pytest

from tests.support import pod_images
from tests.support.cri import Cri, run_cri
from tests.support.go_clients import go_program

pytestmark = [pytest.mark.root, pytest.mark.slow]

_TIMEOUT_S = 2400

# Specs that are not run, by words of their names, and why.
NOT_RUN = {
    "public image with digest should be pulled and removed": "names an image by a digest that only its registry has",
    "NRI": "an interface of containerd's and CRI-O's own, for plugins; crid has none",
}

# Specs that skip themselves, and why.
SKIPPED = {
    "AppArmor": "this kernel has no AppArmor",
    "benchmark": "measures without a limit; `make bench-pods` has our own",
}


@dataclass(frozen=True, slots=True)
class Spec:
    """What became of one spec."""

    name: str
    status: str
    message: str


@pytest.fixture(scope="module")
def cri(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cri]:
    with run_cri(tmp_path_factory.mktemp("cri")) as running:
        yield running


def run_critest(cri: Cri, *arguments: str) -> list[Spec]:
    """Return what became of every spec."""
    images, report = cri.directory / "images.yml", cri.directory / "report.xml"
    images.write_text(pod_images.test_images_file(cri.registry))
    options = (
        f"--config={cri.directory / 'crictl.yaml'}",
        f"--runtime-endpoint={cri.endpoint}",
        f"--image-endpoint={cri.endpoint}",
        f"--test-images-file={images}",
        f"--ginkgo.junit-report={report}",
        f"--ginkgo.timeout={_TIMEOUT_S - 60}s",
        "--ginkgo.no-color",
    )
    command = cri.namespace.enter(str(go_program("critest")), *options, *arguments)
    with (cri.directory / "critest.log").open("wb") as log:
        subprocess.run(command, cwd=cri.directory, stdout=log, stderr=log, timeout=_TIMEOUT_S)
    return [_spec(case) for case in ElementTree.parse(report).iter("testcase")]


def _spec(case: ElementTree.Element) -> Spec:
    problem = case.find("failure") if case.find("failure") is not None else case.find("skipped")
    message = (problem.get("message") or "") if problem is not None else ""
    return Spec(case.get("name", ""), case.get("status", ""), message)


def segments() -> set[str]:
    """Return the shared memory segments of this machine, one of which a spec makes and leaves."""
    listed = subprocess.run(["ipcs", "-m"], check=True, capture_output=True, text=True).stdout
    return {line.split()[1] for line in listed.splitlines() if line.startswith("0x")}


@pytest.mark.timeout(_TIMEOUT_S + 60)
def test_every_spec_passes_or_is_named_with_its_reason(cri: Cri) -> None:
    before = segments()
    try:
        specs = run_critest(cri, *(f"--ginkgo.skip={words}" for words in NOT_RUN))
    finally:
        for segment in segments() - before:
            subprocess.run(["ipcrm", "-m", segment], check=True)
    failed = [f"{spec.name}: {spec.message[:500]}" for spec in specs if spec.status not in ("passed", "skipped")]
    assert not failed, "\n".join(failed)
    skipped = [spec for spec in specs if spec.status == "skipped" and "[It]" in spec.name]
    explained = {**NOT_RUN, **SKIPPED}
    unexplained = [f"{spec.name}: {spec.message}" for spec in skipped if not any(key in spec.name for key in explained)]
    assert not unexplained, "\n".join(unexplained)
    assert sum(spec.status == "passed" for spec in specs) > 100
