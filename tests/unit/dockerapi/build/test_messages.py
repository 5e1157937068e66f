"""Progress as the text of dockerd's first builder."""

from collections.abc import Iterable

import pytest

from dockerapi.build.messages import ClassicMessages
from sampan.build import plan
from sampan.build.plan import PlannedStep
from sampan.build.progress import Update, Vertex, VertexLog
from sampan.oci.digest import Digest

BASE, BUILT = str(Digest.of(b"base")), str(Digest.of(b"built"))
SHOWN = BASE[7:19]


def vertex(name: str, *, started: bool = False, over: bool = False, cached: bool = False, error: str = "") -> Vertex:
    return Vertex(Digest.of(name.encode()), name, (), int(started or over), int(over), cached, error)


def log(name: str, text: str, stream: int = 1) -> VertexLog:
    return VertexLog(Digest.of(name.encode()), stream, text.encode(), 1)


def planned(*steps: PlannedStep) -> list[Update]:
    """What tells the steps: the vertex first, and its log where a message has it, after all vertexes."""
    return [vertex(plan.STEP, over=True), log(plan.STEP, plan.encode_plan(plan.Plan(steps)).decode())]


def text(messages: Iterable[object]) -> str:
    return "".join(str(each.get("stream", "")) for each in messages if isinstance(each, dict))


def short(*parts: str) -> str:
    """The ID of a step, by what came before and by its vertex or its text."""
    found = BASE
    for part in parts:
        found = str(Digest.of(f"{found} {part}".encode()))
    return found[7:19]


FROM, RUN, COPY = "[1/3] FROM docker.io/library/a@sha256:x", "[2/3] RUN make", "[3/3] COPY b /"
PLAN = planned(
    PlannedStep("ARG A=a"),
    PlannedStep("FROM $A", "1/3", BASE),
    PlannedStep("ENV A=b"),
    PlannedStep("RUN make", "2/3"),
    PlannedStep("COPY b /", "3/3"),
    PlannedStep("CMD x"),
)


def test_every_instruction_is_a_step_in_the_order_of_the_file() -> None:
    classic = ClassicMessages()
    announced = [vertex(FROM), vertex(RUN), vertex(COPY)]
    run, copy = str(Digest.of(RUN.encode())), str(Digest.of(COPY.encode()))
    # Logs come after the vertexes that are told with them.
    assert text(classic.render([PLAN[0], *announced, vertex(FROM, started=True), PLAN[1]])) == (
        "Step 1/6 : ARG A=a\nStep 2/6 : FROM $A\n"
    )
    assert text(classic.render([vertex(COPY, over=True)])) == ""  # it waits until it is its turn
    begun = text(classic.render([vertex(FROM, over=True), vertex(RUN, started=True), log(RUN, "error\n", 2)]))
    assert begun == (
        f" ---> {SHOWN}\nStep 3/6 : ENV A=b\n ---> {short('ENV A=b')}\nStep 4/6 : RUN make\n"
        f" ---> Running in {run[7:19]}\n\x1b[91merror\n\x1b[0m"
    )
    assert text(classic.render([vertex(RUN, over=True)])) == (
        f"Removing intermediate container {run[7:19]}\n ---> {short('ENV A=b', run)}\n"
        f"Step 5/6 : COPY b /\n ---> {short('ENV A=b', run, copy)}\nStep 6/6 : CMD x\n"
    )
    *_, last = ended = list(classic.done(BUILT, ["a:1"]))
    assert text(ended) == f" ---> {BUILT[7:19]}\nSuccessfully built {BUILT[7:19]}\nSuccessfully tagged a:1\n"
    assert {"aux": {"ID": BUILT}} in ended
    assert last == {"stream": "Successfully tagged a:1\n"}


def test_steps_from_the_cache_say_so_and_so_do_those_that_another_step_has_done() -> None:
    classic = ClassicMessages()
    steps = planned(
        PlannedStep("FROM a AS One", "one 1/2", BASE), PlannedStep("RUN x", "one 2/2"),
        PlannedStep("FROM a AS two", "two 1/2", BASE), PlannedStep("RUN x", "two 2/2"),
        PlannedStep("FROM one"), PlannedStep("LABEL a=b"), PlannedStep("FROM scratch"), PlannedStep("LABEL a=b"),
    )  # fmt: skip
    run = vertex("[one 2/2] RUN x", over=True, cached=True)
    shown = text(classic.render([*steps, vertex("[one 1/2] FROM a", over=True), run]))
    same = short(str(run.digest))
    assert shown.splitlines() == [
        "Step 1/8 : FROM a AS One", f" ---> {SHOWN}", "Step 2/8 : RUN x", " ---> Using cache", f" ---> {same}",
        "Step 3/8 : FROM a AS two", f" ---> {SHOWN}", "Step 4/8 : RUN x", " ---> Using cache",
        f" ---> {short('RUN x')}",
        "Step 5/8 : FROM one", f" ---> {same}", "Step 6/8 : LABEL a=b", f" ---> {short(str(run.digest), 'LABEL a=b')}",
        "Step 7/8 : FROM scratch", " ---> ", "Step 8/8 : LABEL a=b",
    ]  # fmt: skip


def test_triggers_belong_to_their_from() -> None:
    classic = ClassicMessages()
    steps = planned(
        PlannedStep("FROM a", "1/2", BASE), PlannedStep("RUN x", "2/2", trigger=True),
        PlannedStep("ENV a=b", trigger=True), PlannedStep("CMD y"),
    )  # fmt: skip
    run = vertex("[2/2] ONBUILD RUN x", over=True)
    shown = text(classic.render([*steps, vertex("[1/2] FROM a", over=True), run])) + text(classic.done(BUILT, []))
    assert shown.splitlines() == [
        "Step 1/2 : FROM a", "# Executing 2 build triggers", f" ---> Running in {str(run.digest)[7:19]}",
        f"Removing intermediate container {str(run.digest)[7:19]}", f" ---> {short(str(run.digest), 'ENV a=b')}",
        "Step 2/2 : CMD y", f" ---> {BUILT[7:19]}", f"Successfully built {BUILT[7:19]}",
    ]  # fmt: skip


def test_what_makes_no_files_is_told_at_the_end() -> None:
    classic = ClassicMessages()
    assert text(classic.render(planned(PlannedStep("FROM scratch"), PlannedStep("CMD x")))) == ""
    assert text(classic.done(BUILT, [])).startswith("Step 1/2 : FROM scratch\n ---> \nStep 2/2 : CMD x\n ---> ")


def test_arguments_that_nothing_names_are_told_after_the_image() -> None:
    classic = ClassicMessages()
    told = plan.encode_plan(plan.Plan((PlannedStep("FROM scratch"),), ("A", "B"))).decode()
    list(classic.render([vertex(plan.STEP, over=True), log(plan.STEP, told)]))
    *_, aux, warning, last = classic.done(BASE, ())
    assert "aux" in aux
    assert warning == {"stream": "[Warning] One or more build-args [A B] were not consumed\n"}
    assert str(last["stream"]).startswith("Successfully built")


@pytest.mark.parametrize(
    "text", ["[]", "{}", '{"steps": {}, "unused_arguments": []}', '{"steps": [], "unused_arguments": [1]}', "x"]
)
def test_what_is_no_plan_is_an_empty_one(text: str) -> None:
    assert plan.decode_plan(text.encode()) == plan.Plan()


def test_a_frontend_without_a_plan_has_the_steps_that_it_shows() -> None:
    classic = ClassicMessages()
    base = f"[1/3] FROM docker.io/library/a:1@{BASE}"
    told: list[Update] = [vertex("[internal] load", over=True), vertex(plan.STEP, over=True), log(plan.STEP, "[1]")]
    told += [vertex(base), vertex(RUN, started=True), log(RUN, "said"), vertex(base, over=True)]
    assert text(classic.render(told)).splitlines()[::2] == ["Step 1/2 : FROM a:1", "Step 2/2 : RUN make", "said"]


@pytest.mark.parametrize(
    ("step", "error", "said"),
    [
        (
            RUN,
            'process "/bin/sh -c make" did not complete successfully: exit code: 7',
            {"code": 7, "message": "The command '/bin/sh -c make' returned a non-zero code: 7"},
        ),
        (
            RUN,
            'process "x" did not complete successfully: unable to find user y: no matching entries in passwd file',
            {"message": "unable to find user y: no matching entries in passwd file"},
        ),
        (
            COPY,
            'failed to compute cache key: failed to calculate checksum of ref directory: "/b": not found',
            {"message": "COPY failed: file not found in build context or excluded by .dockerignore: "
             "stat b: file does not exist"},
        ),
        ("[3/3] COPY --from=y b /", 'failed to calculate checksum of ref x: "/b": not found',
         {"message": "COPY failed: stat b: file does not exist"}),
        ("[3/3] COPY ../b c /", 'failed to calculate checksum of ref x: "/b": not found',
         {"message": "COPY failed: forbidden path outside the build context: ../b ()"}),
        ("[3/3] ADD http://x/ /", 'failed to load cache key: Get "http://x/": dial tcp: connection refused',
         {"message": 'ADD failed: Get "http://x/": dial tcp: connection refused'}),
        (RUN, "another error", {"message": "another error"}),
    ],
)  # fmt: skip
def test_failures_are_told_in_its_words(step: str, error: str, said: dict[str, object]) -> None:
    classic = ClassicMessages()
    list(classic.render([vertex(FROM), vertex(step), vertex(FROM, over=True), vertex(step, over=True, error=error)]))
    *_, last = classic.failure(error)
    assert last == {"errorDetail": said, "error": said["message"]}


def test_a_failure_comes_after_what_was_said_before_it() -> None:
    classic = ClassicMessages()
    list(
        classic.render([*PLAN, vertex(FROM), vertex(RUN), vertex(COPY), vertex(RUN, started=True), log(RUN, "said\n")])
    )
    list(classic.render([vertex(COPY, over=True, error="lost"), vertex(RUN, over=True, error="context canceled")]))
    shown = text(classic.failure("lost"))
    assert shown.index("Step 4/6 : RUN make") < shown.index("said") < shown.index("Step 5/6 : COPY b /")
    assert "Step 6/6" not in shown


REFUSED = 'runc run failed: unable to start container process: exec: "/x": no such file\n'
NEVER_RAN = 'process "/x y" did not complete successfully: exit code: 1'


def test_a_process_that_the_runtime_did_not_start_has_no_exit_code() -> None:
    classic = ClassicMessages()
    list(classic.render([*PLAN, vertex(FROM, over=True), vertex(RUN, started=True)]))
    assert text(classic.render([log(RUN, REFUSED, 2)])) == ""
    list(classic.render([vertex(RUN, over=True, error=NEVER_RAN)]))
    *_, last = classic.failure(NEVER_RAN)
    assert last == {"errorDetail": {"message": REFUSED[:-1]}, "error": REFUSED[:-1]}


def test_a_process_that_says_as_much_itself_is_shown_with_what_it_says() -> None:
    classic = ClassicMessages()
    list(classic.render([*PLAN, vertex(FROM, over=True), vertex(RUN, started=True), log(RUN, REFUSED, 2)]))
    shown = text(classic.render([log(RUN, "and more\n")]))
    assert shown.endswith(f"\x1b[91m{REFUSED}\x1b[0mand more\n")
    list(classic.render([vertex(RUN, over=True, error=NEVER_RAN)]))
    *_, last = classic.failure(NEVER_RAN)
    assert last["errorDetail"]["code"] == 1


def test_a_step_that_succeeds_is_shown_with_all_that_it_says() -> None:
    classic = ClassicMessages()
    list(classic.render([*PLAN, vertex(FROM, over=True), vertex(RUN, started=True), log(RUN, REFUSED, 2)]))
    assert REFUSED in text(classic.render([vertex(RUN, over=True)]))
