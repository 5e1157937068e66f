from pathlib import Path

import pytest

from sampan.errors import InvalidArgumentError
from sampan.resource.container_spec import Mount, MountType
from sampan_cli.options.mounts import parse_mount, parse_tmpfs, parse_volume

HERE = Path("/work")
BIND, VOLUME, TMPFS = MountType.BIND, MountType.VOLUME, MountType.TMPFS


@pytest.mark.parametrize(
    ("text", "mount"),
    [
        ("/a:/b", Mount(type=BIND, source="/a", target="/b", create_source=True)),
        ("/a:/b:ro", Mount(type=BIND, source="/a", target="/b", create_source=True, read_only=True, mode="ro")),
        ("/a/../c:/b/", Mount(type=BIND, source="/c", target="/b", create_source=True)),
        ("./src:/b", Mount(type=BIND, source="/work/src", target="/b", create_source=True)),
        (
            "/a:/b:rslave,z",
            Mount(type=BIND, source="/a", target="/b", create_source=True, propagation="rslave", mode="rslave,z"),
        ),
        ("data:/b", Mount(type=VOLUME, source="data", target="/b")),
        ("data:/b:nocopy", Mount(type=VOLUME, source="data", target="/b", no_copy=True, mode="nocopy")),
        ("/b", "/b"),
    ],
)
def test_volume_is_a_bind_a_named_volume_or_an_anonymous_one(text: str, mount: Mount | str) -> None:
    assert parse_volume(text, HERE) == mount


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("/a:/b:ro:x", "invalid volume specification"),
        ("", "invalid volume specification"),
        ("/a:", "invalid volume specification"),
        ("/a:b", "mount path must be absolute"),
        ("/a:/", "destination can't be '/'"),
        ("/b:ro", "invalid volume specification: '/b:ro'"),
        ("/a:/b:nosuch", "invalid mode: nosuch"),
        ("/a:/b:ro,rw", "invalid mode: ro,rw"),
        ("/a:/b:private,rslave", "invalid mode: private,rslave"),
    ],
)
def test_bad_volume_is_refused_in_dockers_words(text: str, words: str) -> None:
    with pytest.raises(InvalidArgumentError, match=words):
        parse_volume(text, HERE)


@pytest.mark.parametrize(
    ("text", "mount"),
    [
        ("type=bind,src=/a,dst=/b,readonly", Mount(type=BIND, source="/a", target="/b", read_only=True)),
        ("type=bind,source=.,target=/b", Mount(type=BIND, source="/work", target="/b")),
        ('type=bind,"source=/a,b",target=/b', Mount(type=BIND, source="/a,b", target="/b")),
        ("target=/b", Mount(type=VOLUME, target="/b")),
        (
            "type=volume,src=data,dst=/b,volume-opt=type=nfs,volume-label=x=y,volume-nocopy",
            Mount(
                type=VOLUME,
                source="data",
                target="/b",
                no_copy=True,
                volume_options={"type": "nfs"},
                volume_labels={"x": "y"},
            ),
        ),
        (
            "type=tmpfs,dst=/t,tmpfs-size=1m,tmpfs-mode=1770",
            Mount(type=TMPFS, target="/t", tmpfs_size_bytes=1 << 20, tmpfs_mode=0o1770),
        ),
    ],
)
def test_mount_takes_key_value_pairs(text: str, mount: Mount) -> None:
    assert parse_mount(text, HERE) == mount


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("type=npipe,dst=/b", 'invalid mount config for type "npipe": mount type unknown'),
        ("type=bind,src=/a,dst=/b,bind-recursive=writable", "'bind-recursive=writable' requires 'readonly'"),
        ("type=bind,src=/a,dst=/b,ro,bind-recursive=readonly", "requires 'bind-propagation=rprivate'"),
        ("type=bind,src=/a,dst=/b,bind-recursive=some", "invalid value for bind-recursive: some"),
        ("type=image,src=a,dst=/b,volume-subpath=x", "options with mount type 'image'"),
        ("type=volume,src=a,dst=/b,image-subpath=x", "options with mount type 'volume'"),
        ("type=bind,what=1,dst=/b", "unexpected key 'what' in 'what=1'"),
        ("type=bind,src,dst=/b", "must be a key=value pair"),
        (
            'type=bind,src="/a,b",dst=/x',
            r'invalid argument "type=bind,src=\\"/a,b\\",dst=/x" for "--mount" flag: '
            'parse error on line 1, column 15: bare " in non-quoted-field',
        ),
        ("type=bind,src=/a,dst=/b,readonly=perhaps", "invalid value for readonly: perhaps"),
    ],
)
def test_bad_mount_is_refused_in_dockers_words(text: str, words: str) -> None:
    with pytest.raises(InvalidArgumentError, match=words):
        parse_mount(text, HERE)


def test_tmpfs_has_its_options_behind_the_target() -> None:
    options = ("rw", "noexec", "size=64k", "mode=700")
    assert parse_tmpfs(f"/t:{','.join(options)}") == Mount(TMPFS, "/t", options=options)
