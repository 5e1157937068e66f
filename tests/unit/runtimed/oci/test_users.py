"""Users and groups, looked up in the container's own files."""

from pathlib import Path

import pytest

from runtimed.oci.rootfs import RootFs
from runtimed.oci.users import User, resolve_user
from sampan.errors import StartError

PASSWD = """\
root:x:0:0:root:/root:/bin/sh
# comment
broken line
web:x:1000:1000::/home/web:/bin/sh
7:x:1007:1007::/seven:/bin/sh
2000:x:0:0::/root:/bin/sh
0777:x:0:0::/root:/bin/sh
+5:x:0:0::/root:/bin/sh
99999999999:x:0:0::/root:/bin/sh
99999999999999999999:x:0:0::/root:/bin/sh
"""
GROUP = """\
root:x:0:
web:x:1000:
logs:x:1500:web,other
audio:x:29:
2000:x:0:
-1:x:0:
99999999999:x:0:
99999999999999999999:x:0:
"""
RANGE = "uids and gids must be in range 0-2147483647"
IMPOSSIBLE = ["-1", "2147483648", "4294967296", "99999999999", "99999999999999999999", "9" * 10_000]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/passwd").write_text(PASSWD)
    (tmp_path / "etc/group").write_text(GROUP)
    return tmp_path


def resolve(root: Path, user: str, *groups: str) -> User:
    with RootFs(root) as inside:
        return resolve_user(inside, user, groups)


@pytest.mark.parametrize(
    ("user", "expected"),
    [
        ("", User(0, 0, (0,), "/root")),
        ("web", User(1000, 1000, (1000, 1500), "/home/web")),
        ("1000", User(1000, 1000, (1000, 1500), "/home/web")),
        ("web:audio", User(1000, 29, (29,), "/home/web")),
        ("web:77", User(1000, 77, (77,), "/home/web")),
        ("4242", User(4242, 0, (0,), "/")),
        ("4242:4343", User(4242, 4343, (4343,), "/")),
        (":audio", User(0, 29, (29,), "/root")),
        ("7", User(7, 0, (0,), "/")),
        ("1007", User(1007, 1007, (1007,), "/seven")),
        ("2147483647", User(2147483647, 0, (0,), "/")),
    ],
)
def test_a_user_is_found_by_name_or_number(root: Path, user: str, expected: User) -> None:
    assert resolve(root, user) == expected


@pytest.mark.parametrize(
    ("user", "expected"),
    [
        ("2000", User(2000, 0, (0,), "/")),
        ("0777", User(777, 0, (0,), "/")),
        ("+5", User(5, 0, (0,), "/")),
        ("web:2000", User(1000, 2000, (), "/home/web")),  # runc would give 2000 of the group file, which is root's
        ("2000:2000", User(2000, 2000, (), "/")),
    ],
)
def test_a_number_is_an_id_whatever_a_name_looks_like(root: Path, user: str, expected: User) -> None:
    assert resolve(root, user) == expected


@pytest.mark.parametrize("number", IMPOSSIBLE)
def test_a_number_out_of_range_is_refused_though_the_image_has_such_a_name(root: Path, number: str) -> None:
    for user, groups in [(number, ()), (f"web:{number}", ()), ("web", (number,))]:
        with pytest.raises(StartError, match=RANGE):
            resolve(root, user, *groups)


@pytest.mark.parametrize("user", ["nosuch", "web ", "0x0", "1000 ", "1_000", "\u0661"])
def test_an_unknown_user_is_refused(root: Path, user: str) -> None:
    with pytest.raises(StartError, match=f"unable to find user {user}: no matching entries in passwd file"):
        resolve(root, user)


@pytest.mark.parametrize("group", ["nosuch", "audio "])
def test_an_unknown_group_is_refused(root: Path, group: str) -> None:
    with pytest.raises(StartError, match=f"unable to find group {group}: no matching entries in group file"):
        resolve(root, f"web:{group}")


def test_additional_groups_are_names_or_numbers(root: Path) -> None:
    assert resolve(root, "web", "audio", "88").groups == (1000, 1500, 29, 88)
    with pytest.raises(StartError, match="Unable to find group nosuch"):
        resolve(root, "web", "nosuch")


@pytest.mark.parametrize("gid", ["0", "garbage", ""])
def test_a_group_that_runc_would_take_for_another_is_not_added(root: Path, gid: str) -> None:
    (root / "etc/group").write_text(f"2000:x:{gid}:\n")
    with pytest.raises(StartError, match="group 2000 cannot be added: the image has another group that is named 2000"):
        resolve(root, "web", "2000")
    assert resolve(root, "web:2000", "2000").groups == ()
    (root / "etc/group").write_text("2000:x:2000:\n")
    assert resolve(root, "web", "2000").groups == (1000, 2000)


def test_an_image_without_files_has_root_and_numbers(tmp_path: Path) -> None:
    assert resolve(tmp_path, "") == User(0, 0, (0,), "/")
    assert resolve(tmp_path, "5:6") == User(5, 6, (6,), "/")


def test_a_passwd_that_is_a_link_is_read_inside_the_root(root: Path) -> None:
    (root / "etc/passwd").unlink()
    (root / "etc/passwd").symlink_to("/../../../../etc/group")
    with pytest.raises(StartError, match="unable to find user web"):
        resolve(root, "web:0")


def test_a_passwd_that_is_no_plain_file_or_endless_is_refused(root: Path) -> None:
    (root / "etc/passwd").unlink()
    (root / "etc/passwd").mkdir()
    with pytest.raises(StartError, match="/etc/passwd of the container cannot be read"):
        resolve(root, "web")
    (root / "etc/passwd").rmdir()
    with (root / "etc/passwd").open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(StartError, match="larger than"):
        resolve(root, "web")
