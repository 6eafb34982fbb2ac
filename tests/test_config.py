"""The settings: the contract's defaults, precedence, units, one line for each mistake, and no secret in any text."""

from __future__ import annotations

import re
import traceback
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import SecretStr, ValidationError

from polyb2.config import Settings, default_worker_id, load_settings
from polyb2.config.settings import entries
from polyb2.core.errors import UsageError
from polyb2.core.prices import DEFAULT_PRICES
from polyb2.core.schedule import Schedule, Window
from polyb2.core.scrub import scrub
from polyb2.ledger.open import open_ledger

MIB = 1 << 20
EXAMPLE = Path(__file__).parents[1] / ".env.example"
HOST = "s3.us-west-004.backblazeb2.com"
SECRETS = [
    "POLYGON_S3_SECRET_ACCESS_KEY",
    "MASSIVE_S3_SECRET_ACCESS_KEY",
    "B2_APPLICATION_KEY",
    "POLYB2_NOTIFY_URLS",
    "POLYB2_PING_URL",
]
REQUIRED = ["POLYGON_S3_ACCESS_KEY_ID", "POLYGON_S3_SECRET_ACCESS_KEY", "B2_KEY_ID", "B2_APPLICATION_KEY"]
REQUIRED += ["B2_BUCKET_NAME", "B2_ENDPOINT_URL"]
DEFAULTS: dict[str, object] = {
    **dict.fromkeys(["polygon_s3_access_key_id", "b2_key_id", "b2_bucket_name", "b2_endpoint_url"], ""),
    **dict.fromkeys(["polygon_s3_secret_access_key", "b2_application_key"], SecretStr("")),
    "polyb2_part_size": None,
    "polygon_s3_endpoint_url": "https://files.massive.com",
    "polygon_s3_bucket": "flatfiles",
    "b2_region": "us-east-1",
    "b2_key_prefix": "",
    "database_url": "sqlite:///data/polyb2.db",
    "log_level": "INFO",
    "polyb2_log_format": "text",
    "polyb2_datasets": ("us_stocks_sip/day_aggs_v1", "us_options_opra/day_aggs_v1"),
    "polyb2_concurrency": 32,
    "polyb2_max_retries": 2,
    "polyb2_part_tries": 10,
    "polyb2_retry_base": 30,
    "polyb2_max_bandwidth": Schedule(),
    "polyb2_source_rps": 0,
    "polyb2_b2_rps": 0,
    "polyb2_max_plan_bytes": 10**12,
    "polyb2_prices": DEFAULT_PRICES,
    "polyb2_poll_interval": 15 * 60,
    "polyb2_lease_seconds": 60,
    "polyb2_stall_timeout": 60,
    "polyb2_give_up": 15 * 60,
    "polyb2_drain_seconds": 25,
    "polyb2_http_addr": "127.0.0.1:9750",
    "polyb2_http_hosts": [],
    "polyb2_notify_urls": [],
    "polyb2_ping_url": None,
}


def values(found: Settings) -> dict[str, Any]:
    """Every setting by the name of its variable, in lower case."""
    return {entry.variable.name.lower(): entry.value(found) for entry in entries()}


def but_worker_id(found: Settings) -> dict[str, Any]:
    return {name: value for name, value in values(found).items() if name != "worker_id"}


def told(**overrides: Any) -> list[str]:
    """The lines that a person reads about wrong settings."""
    with pytest.raises(UsageError) as caught:
        load_settings(**overrides)
    return str(caught.value).splitlines()


def dotenv(**settings: str) -> None:
    Path(".env").write_text("".join(f"{name}={value}\n" for name, value in settings.items()), encoding="utf-8")


# -- defaults and precedence -------------------------------------------------------------------------------------------


def test_the_defaults_are_the_contracts() -> None:
    assert but_worker_id(load_settings()) == DEFAULTS


@pytest.mark.parametrize(
    ("layers", "value"),
    [((None, None, None), 32), ((8, None, None), 8), ((8, 9, None), 9), ((8, 9, 10), 10), ((None, None, 10), 10)],
)
def test_the_command_line_wins_over_the_environment_over_dotenv_over_the_default(
    monkeypatch: pytest.MonkeyPatch, layers: tuple[int | None, ...], value: int
) -> None:
    in_dotenv, in_environment, on_command_line = layers
    if in_dotenv is not None:
        dotenv(POLYB2_CONCURRENCY=str(in_dotenv))
    if in_environment is not None:
        monkeypatch.setenv("POLYB2_CONCURRENCY", str(in_environment))
    assert load_settings(polyb2_concurrency=on_command_line).run.concurrency == value


@pytest.mark.parametrize("name", sorted(set(DEFAULTS) - {"b2_key_prefix", "polyb2_http_addr"}))
def test_an_empty_variable_is_one_that_is_not_set(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name.upper(), "")
    assert values(load_settings())[name] == DEFAULTS[name]


def test_an_empty_http_address_turns_the_page_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POLYB2_HTTP_ADDR", "")
    assert load_settings().page.address == ""


def test_what_dotenv_holds_for_others_is_ignored() -> None:
    dotenv(SOMEBODY_ELSES="1", LOG_LEVEL="debug")
    assert load_settings().log.level == "DEBUG"


# -- the keys of the source, by both names -----------------------------------------------------------------------------


@pytest.mark.parametrize("vendor", ["POLYGON", "MASSIVE"])
def test_the_source_keys_are_taken_by_the_old_and_the_new_name(monkeypatch: pytest.MonkeyPatch, vendor: str) -> None:
    monkeypatch.setenv(f"{vendor}_S3_ACCESS_KEY_ID", "id")
    monkeypatch.setenv(f"{vendor}_S3_SECRET_ACCESS_KEY", "secret")
    settings = load_settings()
    settings.require_remote(target=False)
    assert settings.source.access_key_id == "id"
    assert settings.source.secret_access_key == SecretStr("secret")


def test_the_ancestors_name_comes_first_where_both_are_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POLYGON_S3_ACCESS_KEY_ID", "old")
    monkeypatch.setenv("MASSIVE_S3_ACCESS_KEY_ID", "new")
    assert load_settings().source.access_key_id == "old"


def test_the_environment_wins_over_dotenv_by_either_name(monkeypatch: pytest.MonkeyPatch) -> None:
    dotenv(POLYGON_S3_ACCESS_KEY_ID="from-dotenv")
    monkeypatch.setenv("MASSIVE_S3_ACCESS_KEY_ID", "from-environment")
    assert load_settings().source.access_key_id == "from-environment"


def test_missing_keys_are_all_named_at_once() -> None:
    with pytest.raises(UsageError) as caught:
        load_settings().require_remote()
    assert [line.split()[0] for line in str(caught.value).splitlines()] == REQUIRED
    with pytest.raises(UsageError) as caught:
        load_settings(b2_key_id="id").require_remote(source=False)
    assert [line.split()[0] for line in str(caught.value).splitlines()] == REQUIRED[3:]


# -- endpoints, region, prefix, ledger, worker -------------------------------------------------------------------------


@pytest.mark.parametrize("setting", ["b2_endpoint_url", "polygon_s3_endpoint_url"])
@pytest.mark.parametrize(
    ("given", "endpoint"),
    [
        (f"https://{HOST}", f"https://{HOST}"),
        (f" https://{HOST}/ ", f"https://{HOST}"),
        (f"{HOST}:443", f"https://{HOST}:443"),
        ("http://127.0.0.1:9000", "http://127.0.0.1:9000"),
        ("http://127.8.9.1", "http://127.8.9.1"),
        ("http://[::1]:9000", "http://[::1]:9000"),
        ("http://localhost:9000", "http://localhost:9000"),
        ("https://10.0.0.1:9000", "https://10.0.0.1:9000"),
    ],
)
def test_an_endpoint_is_a_scheme_and_a_host(setting: str, given: str, endpoint: str) -> None:
    assert values(load_settings(**{setting: given}))[setting] == endpoint


def test_ancestor_an_endpoint_without_a_scheme_is_https(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("B2_ENDPOINT_URL", HOST)
    assert load_settings().target.endpoint_url == f"https://{HOST}"


@pytest.mark.parametrize("setting", ["b2_endpoint_url", "polygon_s3_endpoint_url"])
@pytest.mark.parametrize(
    "given",
    [
        f"http://{HOST}",
        "http://10.0.0.1:9000",
        "http://localhost.example.com",
        "http://127.0.0.1.example.com",
        f"ftp://{HOST}",
        f"https://{HOST}/bucket",
        f"https://{HOST}?x=1",
        f"https://user@{HOST}",
        "https://[::1",
        f"https://:pw@{HOST}",
        f"{HOST}:abc",
        f"{HOST}:99999",
        f"{HOST}#x",
        "https://",
    ],
)
def test_what_is_no_endpoint_or_would_send_keys_in_the_clear_is_one_line(setting: str, given: str) -> None:
    (line,) = told(**{setting: given})
    assert line.startswith(f"{setting.upper()}: ")


@pytest.mark.parametrize(
    ("endpoint", "given", "region"),
    [
        (HOST, None, "us-west-004"),
        (f"https://{HOST.upper()}:443/", None, "us-west-004"),
        ("s3.eu-central-003.backblazeb2.com", None, "eu-central-003"),
        (HOST, "elsewhere", "elsewhere"),
        (f"{HOST}.example.com", None, "us-east-1"),
        (f"x.{HOST}", None, "us-east-1"),
        ("http://127.0.0.1:9000", None, "us-east-1"),
        (None, None, "us-east-1"),
    ],
)
def test_the_region_comes_from_the_host_of_b2(endpoint: str | None, given: str | None, region: str) -> None:
    assert load_settings(b2_endpoint_url=endpoint, b2_region=given).target.region == region


@pytest.mark.parametrize(
    ("given", "prefix"),
    [("", ""), ("mirror", "mirror/"), ("mirror/", "mirror/"), ("a/b//", "a/b/"), ("a é", "a é/")],
)
def test_a_key_prefix_is_empty_or_ends_in_one_slash(given: str, prefix: str) -> None:
    assert load_settings(b2_key_prefix=given).target.key_prefix == prefix


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("data/polyb2.db", "data/polyb2.db"),
        ("{}/data/polyb2.db", "data/polyb2.db"),
        ("polyb2.db", "polyb2.db"),
        ("my%20data/l\u00e9dger.db", "my%20data/l\u00e9dger.db"),
    ],
)
async def test_the_ledgers_path_is_relative_unless_it_has_a_fourth_slash(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, path: str
) -> None:
    monkeypatch.chdir(tmp_path)
    ledger = await open_ledger(load_settings(database_url=f"sqlite:///{name.format(tmp_path)}").ledger.url)
    await ledger.close()
    assert (ledger.place, (tmp_path / path).is_file()) == (str(tmp_path / path), True)


@pytest.mark.parametrize("url", ["postgresql://user:s3cr3t@host/db?sslmode=verify-full", "postgres://host/db"])
def test_a_url_of_postgresql_is_taken_as_it_is(url: str) -> None:
    assert load_settings(database_url=url).ledger.url == url


@pytest.mark.parametrize(
    "url", ["sqlite:///", "sqlite://", "data/polyb2.db", "mysql://user:s3cr3t@host/db", "user:s3cr3t@host/db", "/x.db"]
)
def test_another_ledger_is_refused_without_repeating_a_password(url: str) -> None:
    (line,) = told(database_url=url)
    assert line.endswith("is not a ledger URL: write sqlite:///data/polyb2.db or postgresql://host/database")
    assert "s3cr3t" not in line


def test_ancestor_no_two_processes_are_called_worker_1() -> None:
    names = {default_worker_id() for _ in range(20)} | {load_settings().ledger.worker_id for _ in range(20)}
    assert len(names) == 40


# -- units and mistakes ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("polyb2_part_size", "64MiB", 64 * MIB),
        ("polyb2_part_size", "5MiB", 5 * MIB),
        ("polyb2_part_size", "5GB", 5 * 10**9),
        ("polyb2_max_bandwidth", "50M", Schedule(50_000_000)),
        ("polyb2_max_bandwidth", "UTC 22:00-06:00=0,*=1M", Schedule(10**6, (Window(1320, 360, 0),), "UTC")),
        ("polyb2_max_plan_bytes", "1.5TB", 1_500_000_000_000),
        ("polyb2_retry_base", "500ms", 0.5),
        ("polyb2_poll_interval", "24h", 86400),
        ("polyb2_lease_seconds", "1", 1),
        ("polyb2_stall_timeout", "1s", 1),
        ("polyb2_give_up", "1s", 1),
        ("polyb2_drain_seconds", "0", 0),
        ("polyb2_max_retries", "0", 0),
        ("polyb2_b2_rps", "2.5", 2.5),
        ("log_level", "warning", "WARNING"),
        ("polyb2_log_format", "JSON", "json"),
        ("polyb2_http_addr", "[::1]:0", "[::1]:0"),
        ("polyb2_http_addr", "::1:9750", "::1:9750"),
        ("polyb2_http_addr", "*:9750", "*:9750"),
        ("polyb2_http_addr", "mirror.lan:9750", "mirror.lan:9750"),
        ("polyb2_http_addr", "[fe80::1%eth0]:9750", "[fe80::1%eth0]:9750"),
        ("polyb2_datasets", "us_stocks_sip/*, */day_aggs_v1,", ("us_stocks_sip/*", "*/day_aggs_v1")),
        ("polyb2_notify_urls", "a, b", [SecretStr("a"), SecretStr("b")]),
    ],
)
def test_a_setting_is_read_with_its_unit(monkeypatch: pytest.MonkeyPatch, name: str, text: str, value: object) -> None:
    monkeypatch.setenv(name.upper(), text)
    assert values(load_settings())[name] == value


def test_ancestor_the_datasets_are_a_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POLYB2_DATASETS", "us_indices/*,global_crypto/trades_v1")
    assert load_settings().discovery.datasets == ("us_indices/*", "global_crypto/trades_v1")


def test_a_dataset_named_twice_is_one() -> None:
    assert load_settings(polyb2_datasets="a/b,a/b,c/d").discovery.datasets == ("a/b", "c/d")


def test_a_list_of_nothing_never_means_every_dataset() -> None:
    assert told(polyb2_datasets=",")


OPTIONS = {"POLYB2_CONCURRENCY": "--concurrency", "POLYB2_MAX_BANDWIDTH": "--max-bandwidth"}
OPTIONS |= {"POLYB2_DATASETS": "--dataset", "POLYB2_LOG_FORMAT": "--log-format"}
WRONG = {
    "POLYB2_PART_SIZE": ["9" * 5000, "4MiB", "6GB", "big", "-1", "inf", "nan", "\uff11\uff12MiB"],
    "POLYB2_MAX_BANDWIDTH": [
        "-1",
        "fast",
        "50 Mbit",
        "08:00-18:00=50M,*",
        "08:00-18:00=5M,17:00-19:00=1M",
        "Mars/Olympus 08:00-18:00=5M",
        "../etc/passwd 5M",
        "0.5",
        "08:00-18:00=0.1,*=0",
        "\u0663M",
    ],
    "POLYB2_MAX_PLAN_BYTES": ["-1", "0.5", "inf"],
    "POLYB2_CONCURRENCY": ["0", "1025", "many", "1.5"],
    "POLYB2_MAX_RETRIES": ["-1", "1001"],
    "POLYB2_PART_TRIES": ["0", "101"],
    "POLYB2_RETRY_BASE": ["0", "-1s", "soon", "2h", "0.0000001s"],
    "POLYB2_POLL_INTERVAL": ["0", "1ms", "inf", "\u0663"],
    "POLYB2_STALL_TIMEOUT": ["0", "0.0000000000000000001s", "nan"],
    "POLYB2_GIVE_UP": ["0", "1ms"],
    "POLYB2_LEASE_SECONDS": ["0", "500ms", "9" * 20, "9" * 5000],
    "POLYB2_DRAIN_SECONDS": ["-1", "9" * 20],
    "POLYB2_SOURCE_RPS": ["-1", "nan", "inf", "1e400", "1e-300", "1e24", "fast"],
    "POLYB2_B2_RPS": ["-1", "x", "-0.5", "inf", "1e-9"],
    "B2_ENDPOINT_URL": [
        *[f"http://{HOST}", "..", "-x", "a..b", "a_b", "0", "1.2.3", "1.2.3.256", "[:]"],
        *["x" * 64, "x." * 150, "x" * 10**5],
    ],
    "POLYGON_S3_ENDPOINT_URL": ["..", "https://x-", "999.1"],
    "B2_BUCKET_NAME": ["\xfcn\xef", "..", "/", "*", "a/b", "arn:aws:s3:x", "{}", "x" * 256, "my bucket"],
    "POLYGON_S3_BUCKET": ["a/b", "x" * 10**5, "flat files"],
    "B2_REGION": ["\xfcn\xef", "..", "http://x", "us/west", "7", "-x", "x" * 64, "us west"],
    "POLYB2_HTTP_ADDR": [
        *["9750", "host", "host:", ":9750", "host:99999", "host:http", "http://host:1", "host:\u0663"],
        *["a b:1", "h\x1b:1", "127.0.0.1,::1:1", "[host]:1", "[::1:1", "a" * 300 + ":1"],
    ],
    "POLYB2_HTTP_HOSTS": ["http://mirror.lan", "mirror.lan:9750", "a b", "*", "-a", "a..b"],
    "POLYB2_DATASETS": [
        "us_stocks_sip",
        "a/b,c",
        "a/b/c",
        "../..",
        "a/..",
        "./b",
        "a//b",
        "/a/b",
        "a\x1b/b",
        "a" * 200_000,
    ],
    "LOG_LEVEL": ["loud"],
    "POLYB2_LOG_FORMAT": ["xml"],
    "B2_KEY_PREFIX": ["/", "/mirror", "..", "a/../b", "./a", "a//b", "a\tb", "a\x1b[2J/", "\u202ea", "a" * 801],
    "WORKER_ID": ["w" * 201, "w\nw"],
    "B2_KEY_ID": ["0048 x", "0048\r\nx", "\u200b0048", "\udcff0048", "x" * 10**5],
    "POLYGON_S3_ACCESS_KEY_ID": ["a\tb"],
    "DATABASE_URL": [
        *["x", "x" * 100_000 + "://", "sqlite:///x.db?mode=ro", "sqlite:///x.db#x", "sqlite:///:memory:"],
        *["sqlite:///~/x.db", "sqlite:///x\n.db", "sqlite:///x\x1b.db"],
    ],
    "POLYB2_PING_URL": ["hc-ping.com/x", "ftp://x/y", "https://", "https://x:99999/y", "https://[::1/"],
}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in WRONG.items() for value in values])
def test_a_wrong_setting_is_one_line_that_begins_with_its_name(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    (line,) = told()
    assert re.match(rf"{name}: \S", line)
    assert line.isprintable()
    assert len(line) < 300
    assert "sys." not in line


@settings(max_examples=25)
@given(st.sets(st.sampled_from(sorted(WRONG)), min_size=1))
def test_all_wrong_settings_are_told_at_once(names: set[str]) -> None:
    lines = told(**{name.lower(): WRONG[name][0] for name in names})
    assert sorted(line.split(":")[0] for line in lines) == sorted(OPTIONS.get(name, name) for name in names)


@pytest.mark.parametrize(("name", "option"), sorted(OPTIONS.items()))
def test_a_wrong_option_is_named_as_the_option_that_was_written(
    monkeypatch: pytest.MonkeyPatch, name: str, option: str
) -> None:
    value = WRONG[name][0]
    monkeypatch.setenv(name, value)
    (line,) = told()
    (same,) = told(**{name.lower(): value})
    assert (line.partition(": ")[0], same) == (name, line.replace(name, option, 1))


def test_a_wrong_value_is_named_by_the_variable_that_holds_it(monkeypatch: pytest.MonkeyPatch) -> None:
    dotenv(POLYGON_S3_ACCESS_KEY_ID="a b")
    assert told()[0].startswith("POLYGON_S3_ACCESS_KEY_ID: ")
    monkeypatch.setenv("MASSIVE_S3_ACCESS_KEY_ID", "a b")
    assert told()[0].startswith("MASSIVE_S3_ACCESS_KEY_ID: ")


@pytest.mark.parametrize(
    "names", [["Polyb2_Concurrency", "POLYB2_CONCURRENCY"], ["POLYB2_CONCURRENCY", "polyb2_concurrency"]]
)
def test_a_name_in_upper_case_wins_in_whatever_order_they_come(
    monkeypatch: pytest.MonkeyPatch, names: list[str]
) -> None:
    for name in names:
        monkeypatch.setenv(name, "3" if name.isupper() else "0")
    assert load_settings().run.concurrency == 3
    for name in names:
        monkeypatch.delenv(name)
    dotenv(**{name: "3" if name.isupper() else "0" for name in names})
    assert load_settings().run.concurrency == 3


@settings(max_examples=100)
@given(st.sampled_from([name for name in DEFAULTS if name != "polyb2_prices"]), st.text(min_size=1, max_size=40))
def test_no_words_of_a_library_reach_the_user(name: str, text: str) -> None:
    try:
        load_settings(**{name: text})
    except UsageError as error:
        words = str(error).partition(": ")[2]
        assert not re.search(r"Input|should|Value error|valid (string|integer|number)|literal|invalid|IPv6", words)
        assert words != "is not a value of this setting"


@pytest.mark.parametrize("name", ["polyb2_max_bandwidth", "polyb2_max_plan_bytes"])
def test_a_size_beyond_all_bounds_is_one_line(name: str) -> None:
    assert len(told(**{name: "9" * 400})) == 1


# -- secrets -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SECRETS)
def test_no_secret_is_in_any_text_of_the_settings_or_of_an_error(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, "https://h/s3cr3t")
    settings = load_settings()
    assert "s3cr3t" not in f"{settings!r} {settings} {settings.model_dump()} {settings.model_dump_json()}"
    monkeypatch.setenv("LOG_LEVEL", "loud")
    with pytest.raises(UsageError) as caught:
        load_settings()
    assert "s3cr3t" not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize(
    "name", ["POLYGON_S3_ACCESS_KEY_ID", "POLYGON_S3_SECRET_ACCESS_KEY", "B2_KEY_ID", "B2_APPLICATION_KEY"]
)
def test_keys_and_ids_are_blanked_from_the_moment_they_are_read(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, f"of-{name}-alone")
    load_settings()
    assert scrub(f"somebody wrote of-{name}-alone here") == "somebody wrote ... here"


def test_not_even_the_librarys_own_error_shows_what_was_given() -> None:
    with pytest.raises(ValidationError) as caught:
        Settings.model_validate({"b2_application_key": 12345678})
    assert "12345678" not in str(caught.value)


def test_keys_within_an_endpoint_are_refused_without_repeating_them() -> None:
    assert "s3cr3t" not in "".join(told(b2_endpoint_url=f"https://id:s3cr3t@{HOST}"))


# -- prices ------------------------------------------------------------------------------------------------------------


def test_a_price_that_cannot_be_read_is_told_to_those_who_ask_for_it() -> None:
    settings = load_settings(polyb2_prices="storage=cheap")
    with pytest.raises(UsageError, match=r"^POLYB2_PRICES: 'storage=cheap' is not a price: write storage=6\.95"):
        _ = settings.discovery.prices


# -- .env.example ------------------------------------------------------------------------------------------------------


def test_the_example_asks_for_what_is_required_and_its_other_values_are_the_defaults() -> None:
    text = EXAMPLE.read_text(encoding="utf-8")
    assert re.findall(r"^([A-Z0-9_]+)=", text, re.MULTILINE) == REQUIRED
    given = dict(re.findall(r"^#?([A-Z0-9_]+)=(.*)$", text, re.MULTILINE))
    assert set(given) >= {name.upper() for name in DEFAULTS}
    dotenv(**given)
    assert but_worker_id(load_settings()) == DEFAULTS
