"""The end of what a run of all tests prints: who sees the last forty lines alone knows what failed, and why."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

TESTS = """
import pytest

@pytest.fixture
def careless():
    yield
    assert ["a mount"] == [], "something is left"

class TestAll:
    @pytest.mark.parametrize("number", [1])
    def test_fails(self, number):
        assert number == 2, "not two"

def test_leaves_something(careless):
    pass

def test_tells_the_log():
    pytest.fail("leaked: a file\\n" + "a line of the log\\n" * 1000, pytrace=False)

def test_is_well():
    pass
"""


def run_group(work: Path, group: str, text: str) -> None:
    """Run tests as tools/run-tests runs a group, and leave what that leaves."""
    place = work / "tests" / group
    place.mkdir(parents=True)
    (place / "test_it.py").write_text(text)
    report = f"--junitxml={work}/{group}.xml"
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", report, "--rootdir", str(work)]
    done = subprocess.run([*command, f"tests/{group}"], cwd=work, capture_output=True, text=True, check=False)
    (work / f"{group}.status").write_text(f"{done.returncode}\n")
    (work / f"{group}.log").write_text(done.stdout)


def summary(work: Path, *groups: str) -> tuple[int, list[str]]:
    command = [sys.executable, "tools/sum_tests.py", "61.5", str(work), *groups]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stderr == ""
    return done.returncode, done.stdout.splitlines()


def test_every_failure_and_error_is_named_with_its_reason(tmp_path: Path) -> None:
    run_group(tmp_path, "chaos", TESTS)
    run_group(tmp_path, "unit", "import nothing_like_it\n")
    code, lines = summary(tmp_path, "unit", "chaos")
    titles = [line for line in lines if not line.startswith("    ")]
    assert titles == [
        "ERROR tests.unit.test_it: ModuleNotFoundError: No module named 'nothing_like_it'",
        "FAILED tests/chaos/test_it.py::TestAll::test_fails[1]: AssertionError: not two",
        "ERROR at teardown of tests/chaos/test_it.py::test_leaves_something: AssertionError: something is left",
        "FAILED tests/chaos/test_it.py::test_tells_the_log: leaked: a file",
        "==== 2 failed, 1 passed, 2 errors in 61.50s ====",
    ]
    assert "    assert 1 == 2" in lines
    assert any(line.endswith("test_it.py:12: AssertionError") for line in lines)
    assert (code, len(lines) <= 33) == (0, True)


def write_report(work: Path, group: str, *cases: str) -> None:
    """Leave what a group leaves that has these ``testcase``s."""
    failed = sum("<failure" in case for case in cases)
    suite = f'<testsuite tests="{len(cases)}" failures="{failed}" errors="0" skipped="0">{"".join(cases)}</testsuite>'
    (work / f"{group}.xml").write_text(f"<testsuites>{suite}</testsuites>")
    (work / f"{group}.status").write_text(f"{int(bool(failed))}\n")


WELL = '<testcase classname="tests.unit.test_it" name="test_it"/>'


def test_many_failures_have_a_line_each_and_no_more_than_fits(tmp_path: Path) -> None:
    failure = (
        '<failure message="assert 0">def test_it():\n>   assert 0\nE   assert 0\n\nx.py:1: AssertionError</failure>'
    )
    case = '<testcase classname="tests.unit.test_it" name="test_it[{}]">{}</testcase>'
    write_report(tmp_path, "unit", *(case.format(number, failure) for number in range(50)))
    _, lines = summary(tmp_path, "unit")
    assert len(lines) == 33
    assert lines[0] == "FAILED tests/unit/test_it.py::test_it[0]: assert 0"
    assert lines[-2:] == ["and 19 others", "==== 50 failed in 61.50s ===="]


@pytest.mark.parametrize("report", ["", "<testsuites><testsuite tests="])
def test_a_group_whose_pytest_was_killed_is_named_with_the_end_of_what_it_said(tmp_path: Path, report: str) -> None:
    write_report(tmp_path, "unit", WELL)
    (tmp_path / "chaos.status").write_text("137\n")
    (tmp_path / "chaos.log").write_text("one\nlast words\n")
    if report:
        (tmp_path / "chaos.xml").write_text(report)
    said = ["ERROR tests/chaos: pytest ended with 137", "    one", "    last words", "==== 1 passed in 61.50s ===="]
    assert summary(tmp_path, "unit", "chaos") == (0, said)


@pytest.mark.parametrize(("status", "words"), [("0", "2 passed, 1 rerun"), ("1", "1 failed, 1 passed")])
def test_what_passes_when_it_runs_again_is_named_and_counted(tmp_path: Path, status: str, words: str) -> None:
    failure = (
        '<failure message="assert 0">def test_x():\n>   assert 0\nE   assert 0\n\nx.py:1: AssertionError</failure>'
    )
    write_report(
        tmp_path, "chaos", WELL, f'<testcase classname="tests.chaos.test_it" name="test_x">{failure}</testcase>'
    )
    (tmp_path / "chaos.again.status").write_text(f"{status}\n")
    title = "FAILED tests/chaos/test_it.py::test_x: assert 0"
    assert summary(tmp_path, "chaos") == (
        0,
        [
            title if status == "1" else f"passed when run again: {title}",
            "    x.py:1: AssertionError",
            f"==== {words} in 61.50s ====",
        ],
    )


def test_where_no_test_ran_there_is_nothing_to_be_glad_of(tmp_path: Path) -> None:
    write_report(tmp_path, "unit")
    assert summary(tmp_path, "unit") == (1, ["==== no tests ran in 61.50s ===="])
