from pathlib import Path

import pytest

from sampan.errors import InvalidArgumentError
from sampan.resource.snapshot import Kind, Mount
from snapshotter.drivers.overlayfs import MAX_LOWER_LAYERS, SETTINGS, plan_mounts
from snapshotter.model import Piece

ROOT = Path("/srv/a,b:c\\d")  # separators on purpose: the plan must survive them
ESCAPED = r"/srv/a\,b\:c\\d"
OWN = ROOT / "s" / "7"


def pieces(*names: int) -> tuple[Piece, ...]:
    return tuple(Piece(ROOT / "l" / str(name)) for name in names)


@pytest.mark.parametrize(("kind", "mode"), [(Kind.ACTIVE, "rw"), (Kind.VIEW, "ro")])
def test_without_parents_the_snapshot_itself_is_bound(kind: Kind, mode: str) -> None:
    assert plan_mounts(OWN, kind, ()) == (Mount("bind", f"{OWN}/fs", ("rbind", mode)),)


def test_view_of_one_parent_binds_that_parent_read_only() -> None:
    assert plan_mounts(OWN, Kind.VIEW, pieces(3)) == (Mount("bind", f"{ROOT}/l/3", ("rbind", "ro")),)


def test_active_stacks_parents_nearest_first_under_its_own_upper() -> None:
    (mount,) = plan_mounts(OWN, Kind.ACTIVE, pieces(3, 1))
    assert mount.options == (
        *SETTINGS,
        f"lowerdir={ESCAPED}/l/3:{ESCAPED}/l/1",
        f"upperdir={ESCAPED}/s/7/fs",
        f"workdir={ESCAPED}/s/7/work",
    )


def test_view_of_several_parents_has_no_upper() -> None:
    (mount,) = plan_mounts(OWN, Kind.VIEW, pieces(3, 1))
    assert not [option for option in mount.options if option.startswith(("upperdir", "workdir"))]


def test_128_layers_fit_by_the_short_name_of_the_default_root() -> None:
    root = Path("/var/lib/sampan/snapshotter")
    many = tuple(Piece(root / "l" / str(99_000 + n)) for n in range(128))
    (mount,) = plan_mounts(
        root / "s" / "99500", Kind.ACTIVE, many, lambda path: path.replace(str(root), "/run/sampan/l")
    )
    assert len(",".join(mount.options)) <= 4095
    assert "/run/sampan/l/l/99000:" in mount.options[len(SETTINGS)]


@pytest.mark.parametrize("names", [range(MAX_LOWER_LAYERS + 1), range(10**30, 10**30 + 150)])
def test_a_stack_that_the_kernel_could_not_mount_whole_is_refused(names: range) -> None:
    with pytest.raises(InvalidArgumentError, match=r"the snapshot('s| has)"):
        plan_mounts(OWN, Kind.ACTIVE, pieces(*names))
