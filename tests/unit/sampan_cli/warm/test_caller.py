import os
import resource
from dataclasses import replace
from pathlib import Path
from typing import Final

import pytest

from sampan_cli.warm.caller import Standing, refusal

NONE: Final = "0" * 16
ALL: Final = "000001ffffffffff"
ROOT: Final = Standing(
    uids=(0, 0, 0, 0),
    gids=(0, 0, 0, 0),
    groups=frozenset({0}),
    umask=0o77,
    capabilities=(NONE, ALL, ALL, NONE),
    bounding=ALL,
    no_new_privileges="0",
    seccomp="0",
    ignored=0,
    blocked=0,
    limits={resource.RLIMIT_NOFILE: (1024, 4096)},
    priority=(os.SCHED_OTHER, 0),
    processors=frozenset({0, 1}),
    oom_score_adj=-500,
    control_groups="0::/system.slice/sampan.service\n",
    namespaces=("mnt:[1]", "net:[2]"),
    root=(1, 2),
    label=b"unconfined",
    login="4294967295",
    personality="00000000",
)
USER: Final = replace(
    ROOT,
    uids=(1000,) * 4,
    gids=(1000,) * 4,
    groups=frozenset({1000, 998}),
    capabilities=(NONE,) * 4,
)


def test_root_and_other_users_can_be_served_by_root() -> None:
    assert refusal(ROOT, ROOT) is None
    assert refusal(USER, ROOT) is None


def test_what_can_be_taken_on_is_no_reason() -> None:
    changed = replace(
        USER, umask=0, ignored=1, blocked=2, limits={}, processors=frozenset({1}), oom_score_adj=0,
        control_groups="0::/user.slice", login="1000", priority=(os.SCHED_OTHER, 10),
    )  # fmt: skip
    assert refusal(changed, ROOT) is None


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        (replace(USER, uids=(1000, 0, 0, 0)), "several"),
        (replace(USER, uids=(0, 0, 0, 1000)), "several"),
        (replace(USER, gids=(1000, 0, 0, 0)), "several"),
        (replace(ROOT, capabilities=(NONE, NONE, NONE, NONE)), "capabilities"),
        (replace(ROOT, bounding=NONE), "capabilities"),
        (replace(USER, bounding=NONE), "capabilities"),
        (replace(USER, capabilities=(NONE, ALL, ALL, NONE)), "capabilities"),
        (replace(USER, capabilities=(NONE, NONE, NONE, ALL)), "capabilities"),
        (replace(ROOT, no_new_privileges="1"), "no_new_privs"),
        (replace(ROOT, seccomp="2"), "filter"),
        (replace(ROOT, namespaces=("mnt:[9]", "net:[2]")), "namespaces"),
        (replace(ROOT, root=(1, 3)), "root directory"),
        (replace(ROOT, label=b"docker-default (enforce)"), "label"),
        (replace(ROOT, personality="00040000"), "personality"),
        (replace(ROOT, priority=(os.SCHED_IDLE, 0)), "scheduling"),
    ],
)
def test_who_would_be_allowed_something_else_is_refused(changed: Standing, why: str) -> None:
    assert why in str(refusal(changed, ROOT))


def test_filters_on_both_sides_may_differ() -> None:
    assert refusal(replace(ROOT, seccomp="2"), replace(ROOT, seccomp="2")) is not None


def test_an_engine_without_root_serves_its_own_user_alone() -> None:
    assert refusal(USER, USER) is None
    assert refusal(replace(USER, uids=(1001,) * 4), USER) is not None
    assert refusal(replace(USER, groups=frozenset()), USER) is not None


def test_this_process_is_what_python_says() -> None:
    own = Standing.own()
    assert own.uids[0] == os.getuid()
    assert own.groups >= set(os.getgroups())
    assert own.limits[resource.RLIMIT_NOFILE] == resource.getrlimit(resource.RLIMIT_NOFILE)
    assert own.processors == os.sched_getaffinity(0)
    assert own.control_groups == Path("/proc/self/cgroup").read_text()


def test_a_process_that_is_gone_cannot_be_looked_at() -> None:
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    directory = os.open(f"/proc/{pid}", os.O_PATH)
    try:
        os.waitpid(pid, 0)
        with pytest.raises(OSError, match="No such process"):
            Standing.of(os.getpid(), directory)
    finally:
        os.close(directory)
