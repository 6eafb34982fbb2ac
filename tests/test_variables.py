"""The variables of the environment and of ``.env``: tidied, read whatever lies there, and unknown names are said."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from polyb2 import variables
from polyb2.config import load_settings, setting_notices
from polyb2.variables import DOTENV_BYTES_MAX, dotenv_exposed, of_dotenv, tidy

STRANGER = 4242
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")


@pytest.mark.parametrize(
    ("given", "tidied"),
    [
        ("0048abc\n", "0048abc"),
        ("\r\n 0048abc\r", "0048abc"),
        ('"mirror/"', "mirror/"),
        ("' mirror/ '", "mirror/"),
        ('""', ""),
        ('"', '"'),
        ("\"mirror'", "\"mirror'"),
        ('"a" "b"', 'a" "b'),
        ("", ""),
    ],
)
def test_white_space_and_a_pair_of_quotes_around_a_value_are_taken_off(given: str, tidied: str) -> None:
    assert tidy(given) == tidied


@pytest.mark.parametrize("around", ["{}\n", "{}\r", " {} ", '"{}"', "'{}\n'"])
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("B2_KEY_ID", "0048"),
        ("B2_APPLICATION_KEY", "K004"),
        ("POLYGON_S3_ACCESS_KEY_ID", "0000-1111"),
        ("MASSIVE_S3_SECRET_ACCESS_KEY", "s3cr3t"),
        ("B2_BUCKET_NAME", "bucket"),
        ("B2_KEY_PREFIX", "mirror/"),
        ("B2_ENDPOINT_URL", "https://s3.us-west-004.backblazeb2.com"),
        ("POLYB2_CONCURRENCY", "7"),
        ("POLYB2_MAX_BANDWIDTH", "50M"),
        ("POLYB2_DATASETS", "us_stocks_sip/*"),
        ("DATABASE_URL", "sqlite:///x.db"),
        ("LOG_LEVEL", "DEBUG"),
    ],
)
def test_every_setting_is_the_same_with_what_tools_leave_around_it(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, around: str
) -> None:
    monkeypatch.setenv(name, value)
    plain = load_settings(worker_id="w")
    monkeypatch.setenv(name, around.format(value))
    assert load_settings(worker_id="w") == plain


def test_a_value_of_white_space_alone_is_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("B2_KEY_ID", " \n")
    monkeypatch.setenv("B2_KEY_PREFIX", '" "')
    assert load_settings().target.key_id == ""
    assert load_settings().target.key_prefix == ""


# -- .env --------------------------------------------------------------------------------------------------------------


def _absent() -> None: ...


def _folder() -> None:
    Path(".env").mkdir()


def _pipe() -> None:
    os.mkfifo(".env")


def _bytes() -> None:
    Path(".env").write_bytes(b"LOG_LEVEL=\xff\xfe\n")


def _huge() -> None:
    Path(".env").write_bytes(b"LOG_LEVEL=DEBUG\n" + b"#" * DOTENV_BYTES_MAX)


def _references() -> None:
    Path(".env").write_bytes(b"LOG_LEVEL=" + b"${" * 500_000)


def _device() -> None:
    Path(".env").symlink_to("/dev/zero")


def _loop() -> None:
    Path(".env").symlink_to(".env")


@pytest.mark.parametrize(
    ("make", "trouble"),
    [
        (_absent, ""),
        (_folder, ".env is passed over: it is not a regular file"),
        (_pipe, ".env is passed over: it is not a regular file"),
        (_bytes, ".env is passed over: it is not UTF-8 text; save it as UTF-8"),
        (_huge, ".env is passed over: it is larger than 1 MiB"),
        (_references, ".env is passed over: it refers to other variables (${...}) more than 100 times"),
        (_device, ".env is passed over: it is not a regular file"),
        (_loop, ".env is passed over: Too many levels of symbolic links"),
    ],
)
def test_a_dotenv_that_cannot_be_used_is_passed_over_with_a_word(make: Callable[[], None], trouble: str) -> None:
    make()
    assert of_dotenv().trouble == trouble
    assert load_settings(b2_key_id="elsewhere").log.level == "INFO"
    assert setting_notices() == [trouble] * bool(trouble)


def test_lines_that_are_none_are_said_as_every_warning_is(capfd: pytest.CaptureFixture[str]) -> None:
    Path(".env").write_text("garbage line\nLOG_LEVEL: x\nB2_KEY_PREFIX=mirror/\n" + "no line\n" * 20, encoding="utf-8")
    (line,) = setting_notices()
    assert line == ".env: passed over what is not NAME=value, in line 1, 2, 4, 5, 6, 7, 8, 9, 10, 11 and others"
    assert load_settings().target.key_prefix == "mirror/"
    assert capfd.readouterr().err == ""


def test_a_dotenv_that_begins_with_a_byte_order_mark_is_read() -> None:
    Path(".env").write_bytes(b"\xef\xbb\xbfLOG_LEVEL=debug\r\nB2_KEY_PREFIX='mirror/'\r\n")
    settings = load_settings()
    assert (settings.log.level, settings.target.key_prefix) == ("DEBUG", "mirror/")


@needs_root
@pytest.mark.parametrize("planted", ["file", "link"])
def test_a_dotenv_that_a_stranger_put_into_an_open_folder_is_not_believed(tmp_path: Path, planted: str) -> None:
    target = Path(".env") if planted == "file" else tmp_path / "elsewhere"
    target.write_text("LOG_LEVEL=DEBUG\n", encoding="utf-8")
    if planted == "link":
        Path(".env").symlink_to(target)
    os.chown(".env", STRANGER, STRANGER, follow_symlinks=False)
    assert load_settings().log.level == "DEBUG"
    tmp_path.chmod(0o1777)
    assert load_settings().log.level == "INFO"
    assert of_dotenv().trouble == (
        f".env is passed over: user {STRANGER} put it into a folder that everybody can write to"
    )


@pytest.mark.parametrize(
    ("mode", "words"),
    [
        (0o600, ""),
        (0o640, ""),
        (0o644, "others can read .env"),
        (0o602, "others can write to .env"),
        (0o660, "others can write to .env"),
    ],
)
def test_what_others_can_do_with_it_is_told(mode: int, words: str) -> None:
    Path(".env").touch()
    Path(".env").chmod(mode)
    assert dotenv_exposed() == words


# -- names that nobody knows -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("POLYB2_CONCURENCY", "POLYB2_CONCURRENCY"),
        ("polyb2_concurency", "POLYB2_CONCURRENCY"),
        ("B2_BUCKET", "B2_BUCKET_NAME"),
        ("B2_ENDPOINT", "B2_ENDPOINT_URL"),
        ("B2_APPLICATION_KEY_ID", "B2_KEY_ID"),
        ("POLYGON_S3_ACCESS_KEY", "POLYGON_S3_ACCESS_KEY_ID"),
        ("MASSIVE_S3_SECRET_KEY", "MASSIVE_S3_SECRET_ACCESS_KEY"),
        ("MASSIVE_S3_ENDPOINT_URL", "POLYGON_S3_ENDPOINT_URL"),
        ("POLYB2_LEASE", "POLYB2_LEASE_SECONDS"),
    ],
)
def test_a_name_like_ours_that_is_none_is_said_with_the_nearest(
    monkeypatch: pytest.MonkeyPatch, name: str, nearest: str
) -> None:
    monkeypatch.setenv(name, "s3cr3t")
    Path(".env").write_text(f"{name}=s3cr3t\n", encoding="utf-8")
    in_environment, in_dotenv = setting_notices()
    assert in_environment.startswith(f"{name} in the environment is no setting of polyb2")
    assert in_dotenv.startswith(f"{name} in .env is no setting of polyb2")
    assert f"the nearest is {nearest}" in in_environment
    assert "s3cr3t" not in in_environment + in_dotenv


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("POLYB2_FAKE_NOW", "2024-01-03T12:00:00+00:00"),
        ("POLYB2_FAILPOINTS", ""),
        ("polyb2_concurrency", "7"),
        ("MASSIVE_S3_ACCESS_KEY_ID", "x"),
        ("B2", "x"),
        ("POLYGON_API_KEY", "x"),
        ("DATABASE_URI", "x"),
        # Of Kubernetes, for a service that is called polyb2.
        ("POLYB2_SERVICE_HOST", "10.0.0.1"),
        ("POLYB2_SERVICE_PORT_HTTP", "9750"),
        ("POLYB2_PORT", "tcp://10.0.0.1:9750"),
        ("POLYB2_PORT_9750_TCP_ADDR", "10.0.0.1"),
    ],
)
def test_names_of_settings_tests_clusters_and_others_are_no_news(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    assert setting_notices() == []


@pytest.mark.parametrize("name", sorted(variables.NOT_BUILT))
def test_a_setting_of_the_contract_that_nothing_reads_yet_says_so(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name.upper(), "x")
    assert setting_notices() == [f"{name.upper()} in the environment has no effect in this version"]


def test_thousands_of_odd_names_cost_no_more_than_a_few(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def nearest(name: str, _known: list[str]) -> str:
        asked.append(name)
        return "x"

    monkeypatch.setattr(variables, "_nearest", nearest)
    Path(".env").write_text("".join(f"POLYB2_X{number}=1\n" for number in range(5000)), encoding="utf-8")
    assert len(setting_notices()) == len(asked) + 1 == 11


def test_many_odd_names_are_a_few_lines_and_none_reaches_the_terminal_raw(monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(50):
        monkeypatch.setenv(f"POLYB2_\x1b[31m{number}" + "x" * 5000, "x")
    lines = setting_notices()
    assert len(lines) == 11
    assert lines[-1] == "and 40 more names that are no settings of polyb2"
    assert all(line.isprintable() and len(line) < 250 for line in lines)
