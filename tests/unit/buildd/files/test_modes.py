import stat
from pathlib import Path

import pytest

from buildd.files.modes import Ids, changed_mode, find_owner
from buildd.files.root import Root
from buildd.llb.ops import Owner, UserName
from sampan.errors import InvalidArgumentError
from tests.unit.buildd.files.places import fill


@pytest.mark.parametrize(
    ("text", "before", "after"),
    [
        ("u=rwX,go=rX", 0o600, 0o644),
        ("u=rwX,go=rX", 0o710, 0o755),
        ("a+x", 0o644, 0o755),
        ("+x", 0o644, 0o755),
        ("go-w", 0o666, 0o644),
        ("u+s", 0o755, 0o4755),
        ("g+s,o=", 0o755, 0o2750),
        ("a=rx,u+w", 0o7000, 0o755),
        ("+t", 0o777, 0o1777),
        ("g=u", 0o640, 0o660),
        ("u-x+w", 0o500, 0o600),
        ("=", 0o777, 0),
        ("o=g-r", 0o750, 0o751),
    ],
)
def test_symbolic_modes_are_chmod_s(text: str, before: int, after: int) -> None:
    assert changed_mode(text, stat.S_IFREG | before) == after


def test_x_for_directories() -> None:
    assert changed_mode("a+X", stat.S_IFDIR | 0o600) == 0o711


@pytest.mark.parametrize("text", ["", "x", "u", "u=z", "777"])
def test_no_mode(text: str) -> None:
    with pytest.raises(InvalidArgumentError):
        changed_mode(text, 0o644)


USERS = "root:x:0:0::/:/bin/sh\n\nbroken\napp:x:1000:1001:::\nbad:x:99999999999:0:::\nneg:x:-1:0:::\n7:x:0:0:::\n"


@pytest.mark.parametrize(
    ("owner", "ids"),
    [
        (None, None),
        (Owner(UserName(number=5)), Ids(5, 5)),
        (Owner(UserName(number=5), UserName(number=6)), Ids(5, 6)),
        (Owner(UserName("app", 0)), Ids(1000, 1001)),
        (Owner(UserName("app", 0), UserName("staff", 0)), Ids(1000, 50)),
        (Owner(None, UserName("staff", 0)), Ids(0, 50)),
        (Owner(UserName("7", 0), UserName("0777", 0)), Ids(7, 777)),  # though the image has a user of that name
    ],
)
def test_owners(tmp_path: Path, owner: Owner | None, ids: Ids | None) -> None:
    files = fill(
        tmp_path / "files",
        {"etc/passwd": "-> ../lib/users", "lib/users": USERS, "etc/group": "staff:x:50:\n0777:x:0:\n"},
    )
    with Root.open(files) as root:
        assert find_owner(owner, lambda _: root, pytest.fail) == ids


def test_names_that_are_not_there_are_root_and_told(tmp_path: Path) -> None:
    told: list[str] = []
    with Root.open(fill(tmp_path / "files", {"etc/passwd": USERS})) as root:
        assert find_owner(Owner(UserName("none", 0), UserName("none", 0)), lambda _: root, told.append) == Ids(0, 0)
    assert [each.split(":")[0] for each in told] == [
        "user none is not in /etc/passwd", "group none is not in /etc/group",
    ]  # fmt: skip


@pytest.mark.parametrize("name", ["bad", "neg", "99999999999", "-1"])
def test_numbers_that_are_none(tmp_path: Path, name: str) -> None:
    with Root.open(fill(tmp_path / "files", {"etc/passwd": USERS})) as root, pytest.raises(InvalidArgumentError):
        find_owner(Owner(UserName(name, 0)), lambda _: root, pytest.fail)


def test_nothing_to_look_names_up_in(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgumentError, match="invalid missing user mount"):
        find_owner(Owner(UserName("app")), lambda _: pytest.fail("no root"), pytest.fail)
    (tmp_path / "files/etc/passwd").mkdir(parents=True)
    with Root.open(tmp_path / "files") as root, pytest.raises(InvalidArgumentError, match="no file of users"):
        find_owner(Owner(UserName("app", 0)), lambda _: root, pytest.fail)
