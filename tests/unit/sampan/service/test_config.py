from dataclasses import dataclass
from pathlib import Path

import pytest

from sampan.errors import InvalidArgumentError
from sampan.service.config import ProxyConfig, ServiceConfig, check_files, load, option


@dataclass(frozen=True, slots=True)
class Mirror:
    url: str
    insecure: bool = False


@dataclass(frozen=True, slots=True)
class Config(ServiceConfig):
    limit: int = option(3, "how many")
    patience_s: float = option(1.0, "how long")
    names: tuple[str, ...] = option((), "which")
    mirrors: tuple[Mirror, ...] = ()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "testd.toml"


def read(file: Path, *argv: str, **environ: str) -> Config:
    return load(Config, "testd", argv, {"SAMPAN_CONFIG_DIR": str(file.parent), **environ})


def test_without_any_source_the_defaults_hold(file: Path) -> None:
    assert read(file) == Config()


def test_flags_win_over_environment_over_file(file: Path) -> None:
    file.write_text('limit = 4\nmetrics = "file:1"\nlog_level = "debug"')
    config = read(file, "--limit", "6", SAMPAN_TESTD_LIMIT="5", SAMPAN_METRICS="env:1")
    assert (config.limit, config.metrics, config.log_level) == (6, "env:1", "debug")


def test_the_service_s_own_variable_wins_over_the_common_one(file: Path) -> None:
    assert read(file, SAMPAN_LIMIT="1", SAMPAN_TESTD_LIMIT="2").limit == 2


def test_tables_become_dataclasses(file: Path) -> None:
    file.write_text('[[mirrors]]\nurl = "http://one"\n[[mirrors]]\nurl = "http://two"\ninsecure = true')
    assert read(file).mirrors == (Mirror("http://one"), Mirror("http://two", insecure=True))


def test_lists_come_from_the_environment_with_commas(file: Path) -> None:
    assert read(file, SAMPAN_NAMES="a, b").names == ("a", "b")


def test_paths_are_absolute(file: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    assert read(file, "--run-root", "r").run_root == tmp_path / "r"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("limti = 4", "unknown key 'limti': did you mean 'limit'"),
        ("zzz = 4", "unknown key 'zzz': known keys: "),
        ('[[mirrors]]\nulr = "x"', r"unknown key 'mirrors\[0\].ulr': did you mean 'url'"),
        ("[[mirrors]]\ninsecure = true", r"table 'mirrors\[0\]' has no 'url', which is required"),
        ('limit = "four"', "'limit' is 'four', expected a whole number"),
        ("limit = -1", "'limit' is -1, expected a whole number of 0 or more"),
        ("limit = 1.5", "'limit' is 1.5, expected a whole number"),
        ("patience_s = -0.5", "'patience_s' is -0.5, expected a number of 0 or more"),
        ("patience_s = nan", "'patience_s' is nan, expected a number"),
        ("patience_s = inf", "'patience_s' is inf, expected a number"),
        ("limit = true", "'limit' is True, expected a whole number"),
        ("mirrors = 3", "'mirrors' is 3, expected a list"),
        ("limit = ", "is not TOML"),
    ],
)
def test_a_wrong_file_is_refused_with_the_key_named(file: Path, text: str, message: str) -> None:
    file.write_text(text)
    with pytest.raises(InvalidArgumentError, match=message) as caught:
        read(file)
    assert str(file) in str(caught.value)


def test_a_file_in_another_encoding_is_refused_by_its_name(file: Path) -> None:
    file.write_bytes(b'log_level = "\xff"')
    with pytest.raises(InvalidArgumentError, match=f"config file {file} is not TOML: byte 13 is not UTF-8"):
        read(file)


@pytest.mark.parametrize("text", ["-1", "nan", "inf", "1e400"])
def test_a_variable_that_is_no_duration_is_refused(file: Path, text: str) -> None:
    with pytest.raises(InvalidArgumentError, match=r"SAMPAN_TESTD_PATIENCE_S is .*, expected a number of 0 or more"):
        read(file, SAMPAN_TESTD_PATIENCE_S=text)


def test_a_file_that_no_service_reads_is_refused_with_the_nearest_name(tmp_path: Path) -> None:
    (tmp_path / "imaged.toml").touch()
    (tmp_path / "crid.toml").touch()
    (tmp_path / "tls").mkdir()
    (tmp_path / "old.toml.bak").touch()
    check_files(tmp_path)
    check_files(tmp_path / "missing")
    (tmp_path / "docker-api.toml").touch()
    with pytest.raises(InvalidArgumentError, match=r"docker-api\.toml is no service's: did you mean dockerapi\.toml\?"):
        check_files(tmp_path)
    (tmp_path / "docker-api.toml").rename(tmp_path / "x.toml")
    with pytest.raises(InvalidArgumentError, match=r"x\.toml is no service's: there are imaged\.toml, "):
        check_files(tmp_path)


def test_a_wrong_variable_is_refused_by_name(file: Path) -> None:
    with pytest.raises(InvalidArgumentError, match="SAMPAN_TESTD_LIMIT is 'x', expected a whole number"):
        read(file, SAMPAN_TESTD_LIMIT="x")


def test_a_file_asked_for_must_exist(file: Path) -> None:
    with pytest.raises(InvalidArgumentError, match="does not exist"):
        read(file, "--config", "/nowhere.toml")


def test_a_variable_that_sets_nothing_is_refused_and_one_of_another_service_is_not(file: Path) -> None:
    with pytest.raises(InvalidArgumentError, match="SAMPAN_TESTD_LIMTI: unknown key 'limti': did you mean 'limit'"):
        read(file, SAMPAN_TESTD_LIMTI="4")
    assert read(file, SAMPAN_OTHERD_LIMTI="4") == read(file)


def test_proxies_of_the_configuration_outweigh_those_of_the_environment() -> None:
    environ = {
        "HTTP_PROXY": "http://old:1",
        "http_proxy": "http://older:1",
        "NO_PROXY": "a",
        "https_proxy": "http://s:1",
    }
    ProxyConfig(http_proxy="proxy.example:3128", no_proxy=".lan").name_proxies(environ)
    assert environ == {"http_proxy": "http://proxy.example:3128", "no_proxy": ".lan", "https_proxy": "http://s:1"}


@pytest.mark.parametrize("text", ["socks5://proxy:1", "http://", "http://proxy:port", "http://a b:1", "http://p:0"])
def test_what_is_no_proxy_is_refused_by_its_key(text: str) -> None:
    with pytest.raises(InvalidArgumentError, match=r"^https_proxy: .* is no proxy: expected http://host:port"):
        ProxyConfig(https_proxy=text).name_proxies({})


def test_password_of_a_proxy_is_not_told() -> None:
    with pytest.raises(InvalidArgumentError) as told:
        ProxyConfig(http_proxy="socks5://user:secret@proxy:1").name_proxies({})
    assert "secret" not in str(told.value)
