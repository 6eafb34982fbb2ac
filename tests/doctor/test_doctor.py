"""Everything that can be wrong on the first day is reported in words; and nothing is left behind, whatever happens."""

from __future__ import annotations

import asyncio
import json
import random
import shutil
import ssl
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from polyb2.config import Settings
from polyb2.core.retry import LOOKING
from polyb2.doctor.canary import FOLDER
from polyb2.doctor.checks import Checkup
from polyb2.doctor.examine import examine
from polyb2.flow.inspect import entitlement
from polyb2.flow.mirror import OPAQUE
from polyb2.ledger.open import open_ledger
from polyb2.ledger.rows import TARGET_ETAGS, Check, Level
from polyb2.sandbox import Answer, Fault, GeneratedGzip, Reset, Shape
from polyb2.sandbox.exchange import Reply
from polyb2.sandbox.multipart import Upload
from polyb2.sandbox.target import CAPABILITIES
from tests.conftest import DAY_AGGS, MIB, QUOTES, Bench, key, url_of


@pytest.fixture(autouse=True)
def _asked_again_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(entitlement, "AGAIN_S", 0.0)
    monkeypatch.setattr("polyb2.doctor.examine.LOOKING", replace(LOOKING, first_s=0.01))


@pytest.fixture
def filled(bench: Bench) -> Bench:
    for day in ("2003-09-10", "2019-05-06", "2024-01-02"):
        bench.box.source.put(key(day), b"x" * 100)
    bench.box.source.put(key("2024-01-02", QUOTES), GeneratedGzip(20 * MIB), part_bytes=6 * MIB)
    bench.settings["polyb2_datasets"] = [DAY_AGGS, QUOTES]
    return bench


async def examined(bench: Bench, **overrides: Any) -> Checkup:
    return await examine(bench.configured(**overrides))


def named(checkup: Checkup, name: str) -> Check:
    found = [check for check in checkup.checks if check.name == name]
    assert len(found) == 1, f"{name} is there {len(found)} times: {checkup.checks}"
    return found[0]


def assert_nothing_is_left(bench: Bench) -> None:
    assert bench.box.target.open_uploads() == []
    assert not any(bench.box.target.versions(name) for name in bench.box.target._versions)


async def test_all_is_well_and_nothing_is_left(filled: Bench) -> None:
    filled.box.target.lifecycle = (
        "<Rule><ID>r</ID><Filter><Prefix></Prefix></Filter><Status>Enabled</Status><AbortIncompleteMultipartUpload>"
        "<DaysAfterInitiation>7</DaysAfterInitiation></AbortIncompleteMultipartUpload></Rule>"
    )
    checkup = await examined(filled, b2_key_prefix="my mirror/")
    assert [check for check in checkup.checks if check.level in {Level.WARN, Level.FAIL}] == []
    assert checkup.failure is None
    assert "from 2003-09-10 to 2024-01-02" in named(checkup, f"source.{DAY_AGGS}").found
    assert "parts of 6.3 MB" in named(checkup, "source.etags").found
    assert "unfinished uploads are aborted after 7 days" in named(checkup, "target.lifecycle").found
    assert filled.box.target.count("put", f"my mirror/{FOLDER}*") == 2
    assert_nothing_is_left(filled)


OPERATIONS = (
    "list", "head", "get", "put", "create", "upload_part", "complete", "abort", "list_parts", "list_uploads", "list_versions",
    "head_bucket", "delete", "lifecycle", "lock",
)  # fmt: skip


class EveryOther(random.Random):
    """Dice by which a fault hits each request once: the first, and not its retry."""

    def __init__(self) -> None:
        super().__init__()
        self._strikes = False

    def random(self) -> float:
        self._strikes = not self._strikes
        return 0.0 if self._strikes else 1.0


async def test_routine_refusals_fail_no_check(filled: Bench) -> None:
    """Each request of either side is answered 503 at first, and a listing, as the dice may fall, four times."""
    for operation in OPERATIONS:
        for side in (filled.box.source, filled.box.target):
            side.inject(Fault(operation, Answer(503, "SlowDown"), times=0, share=0.5, dice=EveryOther()))
    filled.box.target.inject(Fault("list", Answer(503, "SlowDown"), times=3, skip=1))
    checkup = await examined(filled)
    assert [check for check in checkup.checks if check.level in {Level.FAIL, Level.WARN}] == []
    assert_nothing_is_left(filled)


async def test_the_command_prints_a_line_a_check_and_exits_with_the_first_reason(filled: Bench) -> None:
    ended = await filled.cli("doctor", POLYB2_DATASETS=f"{DAY_AGGS},{QUOTES}")
    assert (ended.code, ended.err) == (0, "")
    assert "ready to go" in ended.out
    filled.box.target.capabilities -= {"writeFiles"}
    ended = await filled.cli("doctor", "--json", POLYB2_DATASETS=DAY_AGGS)
    assert ended.code == 4
    assert ended.err.startswith("polyb2: target.put: the key lacks writeFiles")
    found = json.loads(ended.out)
    assert (found["ok"], found["fail"] > 0) == (False, True)
    assert set(found["checks"][0]) == {"name", "level", "found", "advice"}
    secrets = (filled.box.source.secret_key, filled.box.target.secret_key, "X-Amz-Signature")
    assert not any(secret in ended.out + ended.err for secret in secrets)


async def test_missing_and_wrong_settings_are_failed_checks(bench: Bench) -> None:
    ended = await bench.cli("doctor", B2_APPLICATION_KEY="", POLYGON_S3_ACCESS_KEY_ID="")
    assert ended.code == 4
    assert "fail polyb2.settings_target" in ended.out
    assert "B2_APPLICATION_KEY is not set" in ended.out
    assert "POLYGON_S3_ACCESS_KEY_ID is not set" in ended.err
    ended = await bench.cli("doctor", POLYB2_PART_SIZE="tiny", LOG_LEVEL="loud")
    assert (ended.code, ended.out.count("fail polyb2.settings")) == (4, 2)


# -- the way there ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("endpoint", "name", "words"),
    [
        ("https://no-such-host.invalid", "dns", "does not resolve"),
        ("http://127.0.0.1:1", "tcp", "no connection to 127.0.0.1 port 1"),
    ],
)
@pytest.mark.parametrize("side", ["source", "target"])
async def test_an_endpoint_that_cannot_be_reached(
    filled: Bench, side: str, endpoint: str, name: str, words: str
) -> None:
    setting = "polygon_s3_endpoint_url" if side == "source" else "b2_endpoint_url"
    checkup = await examined(filled, **{setting: endpoint})
    check = named(checkup, f"{side}.{name}")
    assert (check.level, words in check.found, "endpoint URL" in check.advice) == (Level.FAIL, True, True)
    other = "target.list" if side == "source" else "source.list"
    assert named(checkup, other).level is Level.PASS, "the other side is examined all the same"


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")
async def test_a_certificate_that_is_not_trusted_and_then_is(filled: Bench) -> None:
    words = "req -x509 -newkey rsa:2048 -nodes -keyout key.pem -out cert.pem -days 2 -subj /CN=127.0.0.1"
    words += " -addext subjectAltName=IP:127.0.0.1"
    made = await asyncio.create_subprocess_exec(
        "openssl", *words.split(), cwd=filled.folder, stderr=asyncio.subprocess.PIPE
    )
    await made.communicate()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(filled.folder / "cert.pem", filled.folder / "key.pem")
    await filled.box.target.stop()
    await filled.box.target.start(tls=context)
    extra = {"POLYB2_DATASETS": DAY_AGGS}
    for command, code in (("doctor", 4), ("discover", 4)):
        ended = await filled.cli(command, *(["--historical"] if command == "discover" else []), **extra)
        assert ended.code == code, ended
        assert "certificate verify failed" in ended.err
        assert "SSL_CERT_FILE" in ended.err
    ended = await filled.cli("doctor", SSL_CERT_FILE=str(filled.folder / "cert.pem"), **extra)
    assert ended.code == 0, ended.out
    assert "pass target.tls" in ended.out


@pytest.mark.parametrize(("offset_s", "level"), [(3600, Level.FAIL), (-3600, Level.FAIL), (120, Level.WARN)])
async def test_a_clock_that_is_off(filled: Bench, offset_s: float, level: Level) -> None:
    filled.box.target.clock_offset_s = offset_s
    check = named(await examined(filled), "target.clock")
    assert check.level is level
    assert ("behind" if offset_s > 0 else "ahead of") in check.found
    assert "NTP" in check.advice


async def test_the_clock_is_read_from_the_list_and_no_request_is_made_for_it(filled: Bench) -> None:
    """Ceph RGW sends stray bytes after its answer to ``HEAD /``, which is no sign of anything."""
    checkup = await examined(filled)
    assert [named(checkup, f"{side}.clock").level for side in ("source", "target")] == [Level.PASS, Level.PASS]
    asked = [item.operation for server in (filled.box.source, filled.box.target) for item in server.requests]
    assert not {"", "unknown", "head_root"} & set(asked)
    assert filled.box.target.count("head_bucket") == 1


async def test_a_service_that_tells_no_time_is_a_warning_and_hides_nothing(filled: Bench) -> None:
    def no_time(reply: Reply) -> None:
        reply.headers["Date"] = "now and then"

    for server in (filled.box.source, filled.box.target):
        server.inject(Fault("*", Shape(no_time), times=0))
    checkup = await examined(filled)
    for side in ("source", "target"):
        check = named(checkup, f"{side}.clock")
        assert (check.level, "NTP" in check.advice) == (Level.WARN, True)
    assert checkup.failure is None
    assert named(checkup, "source.if_match").level is named(checkup, "target.complete").level is Level.PASS


# -- the source ---------------------------------------------------------------------------------------------------------


async def test_refused_keys_of_the_source(filled: Bench) -> None:
    check = named(await examined(filled, polygon_s3_secret_access_key="wrong"), "source.list")
    assert (check.level, "POLYGON_S3_SECRET_ACCESS_KEY" in check.advice) == (Level.FAIL, True)
    check = named(await examined(filled, polygon_s3_bucket="nowhere"), "source.list")
    assert (check.level, "POLYGON_S3_BUCKET" in check.advice) == (Level.FAIL, True)


async def test_a_dataset_outside_the_plan_and_one_whose_history_ends(filled: Bench) -> None:
    filled.box.source.entitled = lambda name: name.startswith(DAY_AGGS) and "/2003/" not in name
    checkup = await examined(filled)
    outside, within = named(checkup, f"source.{QUOTES}"), named(checkup, f"source.{DAY_AGGS}")
    assert (outside.level, "not in the plan" in outside.found) == (Level.FAIL, True)
    assert (within.level, "2003-09-10 cannot" in within.found) == (Level.WARN, True)
    assert named(checkup, "source.if_match").level is Level.PASS
    filled.box.source.entitled = lambda _name: False
    assert named(await examined(filled), "source.if_match").level is Level.SKIP


async def test_a_403_that_goes_away_is_no_verdict(filled: Bench) -> None:
    filled.box.source.inject(Fault("get", Answer(403, "AccessDenied")))
    assert (await examined(filled)).failure is None


async def test_a_dataset_that_is_not_listed(filled: Bench) -> None:
    check = named(await examined(filled, polyb2_datasets=["us_stocks_sip/day_agg_v1"]), "source.datasets")
    assert (check.level, "did you mean us_stocks_sip/day_aggs_v1" in check.found) == (Level.FAIL, True)
    assert "--dataset or POLYB2_DATASETS names" in check.found, "doctor has no --dataset"


async def test_what_the_source_does_not_know_is_told(filled: Bench) -> None:
    filled.box.source.honours_if_match = False
    filled.box.source.answers_part_number = False
    checkup = await examined(filled)
    assert "is ignored" in named(checkup, "source.if_match").found
    assert "part size is not known" in named(checkup, "source.etags").found
    assert checkup.failure is None


# -- the target ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("capability", sorted(CAPABILITIES))
async def test_each_missing_capability_is_named(filled: Bench, capability: str) -> None:
    filled.box.target.capabilities -= {capability}
    checkup = await examined(filled)
    told = [check for check in checkup.checks if f"the key lacks {capability}" in check.found]
    assert told, checkup.checks
    assert {check.level for check in told} == {Level.WARN if capability == "listBuckets" else Level.FAIL}
    assert all(capability in check.advice for check in told)
    assert not any("the key lacks" in check.found for check in checkup.checks if check not in told)
    assert_nothing_is_left(filled)


async def test_refused_keys_of_the_target(filled: Bench) -> None:
    check = named(await examined(filled, b2_key_id="0a1b2c3d4e5f"), "target.list")
    assert (check.level, "the master key does not work" in check.advice) == (Level.FAIL, True)
    filled.box.target.region = "eu-central-003"
    check = named(await examined(filled), "target.list")
    assert (check.level, "B2_REGION" in check.advice) == (Level.FAIL, True)
    filled.box.target.region = ""
    check = named(await examined(filled, b2_bucket_name="nowhere"), "target.list")
    assert (check.level, "B2_BUCKET_NAME" in check.advice) == (Level.FAIL, True)


async def test_a_region_that_is_not_the_hosts(filled: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("polyb2.doctor.examine.examine_network", _reached)
    settings = filled.configured(b2_endpoint_url="s3.us-west-004.backblazeb2.com", b2_region="us-east-1")
    check = named(await examine(settings), "target.region")
    assert (check.level, "us-west-004" in check.found) == (Level.FAIL, True)


async def _reached(*_arguments: object) -> None:
    """The network is not what the test is about, and that host is not to be asked."""


async def test_a_cap_that_is_reached(filled: Bench) -> None:
    filled.box.target.cap_exceeded = True
    check = named(await examined(filled), "target.put")
    assert (check.level, "Caps & Alerts" in check.advice) == (Level.FAIL, True)
    assert_nothing_is_left(filled)


async def _kept(bench: Bench) -> str | None:
    ledger = await open_ledger(url_of(bench.folder / "ledger.db"), read_only=True)
    try:
        return await ledger.fact(TARGET_ETAGS)
    finally:
        await ledger.close()


async def test_part_etags_that_are_no_md5s_are_kept_in_the_ledger_and_corrected(filled: Bench) -> None:
    filled.box.target.etags = "opaque"
    await filled.discover()
    checkup = await examined(filled)
    assert named(checkup, "target.upload_part").level is Level.WARN
    assert (checkup.failure, await _kept(filled)) == (None, OPAQUE)
    filled.box.target.etags = "md5"
    await examined(filled)
    assert await _kept(filled) is None


def _ignores_md5(bench: Bench) -> None:
    bench.box.target.checks_content_md5 = False


def _drops_underscores(bench: Bench) -> None:
    bench.box.target.drops_metadata = {"src_last_modified_millis"}


def _drops_token(bench: Bench) -> None:
    bench.box.target.drops_metadata = {"polyb2-token"}


def _locks(bench: Bench) -> None:
    bench.box.target.locked = True


def _expires(bench: Bench) -> None:
    bench.box.target.lifecycle = (
        "<Rule><ID>r</ID><Filter><Prefix></Prefix></Filter><Status>Enabled</Status>"
        "<Expiration><Days>30</Days></Expiration></Rule>"
    )


def _aborts_early(bench: Bench) -> None:
    bench.box.target.lifecycle = (
        "<Rule><ID>r</ID><Filter><Prefix>us_</Prefix></Filter><Status>Enabled</Status><AbortIncompleteMultipartUpload>"
        "<DaysAfterInitiation>1</DaysAfterInitiation></AbortIncompleteMultipartUpload></Rule>"
    )


@pytest.mark.parametrize(
    ("make", "name", "level", "words"),
    [
        (_ignores_md5, "content_md5", Level.WARN, "is accepted"),
        (_drops_underscores, "metadata", Level.WARN, "src_last_modified_millis"),
        (_drops_token, "metadata", Level.FAIL, "without our token"),
        (_locks, "lock", Level.WARN, "locked by default"),
        (_expires, "lifecycle", Level.WARN, "removes current files"),
        (_aborts_early, "lifecycle", Level.WARN, "after 1 days"),
    ],
)
async def test_habits_and_rules_that_matter(
    filled: Bench, make: Callable[[Bench], None], name: str, level: Level, words: str
) -> None:
    make(filled)
    check = named(await examined(filled), f"target.{name}")
    assert (check.level, words in check.found, check.advice != "") == (level, True, True)
    assert_nothing_is_left(filled)


async def test_rules_that_cannot_be_asked_for_are_no_failure(filled: Bench) -> None:
    for operation in ("lifecycle", "lock"):
        filled.box.target.inject(Fault(operation, Answer(501, "NotImplemented"), times=0))
    checkup = await examined(filled)
    assert (named(checkup, "target.lifecycle").level, named(checkup, "target.lock").level) == (Level.SKIP, Level.SKIP)
    assert checkup.failure is None


@pytest.mark.parametrize(
    "operation", ["put", "head", "get", "create", "upload_part", "list_parts", "complete", "abort"]
)
async def test_nothing_is_left_whatever_fails(filled: Bench, operation: str) -> None:
    once = filled.box.target.inject(Fault(operation, Answer(500, "InternalError")))
    assert (await examined(filled)).failure is None, "a hiccup is no verdict"
    assert_nothing_is_left(filled)
    lost = filled.box.target.inject(Fault(operation, Reset("after"), times=2))
    await examined(filled)
    assert (once.hits, lost.hits) == (1, 2)
    assert_nothing_is_left(filled)


CANARYS = {"put", "content_md5", "head", "metadata", "read", "create", "upload_part", "list_parts", "complete", "abort"}


@pytest.mark.parametrize(
    ("operation", "hidden"),
    [
        ("head_bucket", set[str]()),
        ("get", {"read"}),
        ("head", {"head", "metadata", "complete"}),
        ("put", {"put", "content_md5", "head", "metadata", "read"}),
        ("create", {"create", "upload_part", "list_parts", "complete", "abort"}),
    ],
)
async def test_one_odd_check_hides_none_that_does_not_need_it(filled: Bench, operation: str, hidden: set[str]) -> None:
    filled.box.target.inject(Fault(operation, Answer(418, "Teapot", "odd"), times=0))
    checkup = await examined(filled)
    passed = {check.name for check in checkup.checks if check.level is Level.PASS}
    assert {f"target.{name}" for name in CANARYS - hidden} <= passed
    assert "ledger.room" in passed


async def test_a_target_that_lists_no_versions_is_left_as_it_was(filled: Bench) -> None:
    filled.box.target.inject(Fault("list_versions", Answer(501, "NotImplemented"), times=0))
    filled.box.target.inject(Fault("list_uploads", Answer(501, "NotImplemented"), times=0))
    checkup = await examined(filled)
    assert named(checkup, "target.versions_listed").level is Level.WARN
    assert named(checkup, "target.delete").level is Level.PASS
    assert_nothing_is_left(filled)


async def test_versions_whose_ids_were_never_told_are_found_by_head(filled: Bench) -> None:
    filled.box.target.inject(Fault("list_versions", Answer(501, "NotImplemented"), times=0))
    lost = filled.box.target.inject(Fault("put", Answer(500, "InternalError", took_place=True), times=0))
    await examined(filled)
    assert lost.hits == LOOKING.tries
    assert_nothing_is_left(filled)


def _forget_version(reply: Reply) -> None:
    reply.headers.pop("x-amz-version-id", None)


@pytest.mark.parametrize(("lists_versions", "tells_ids"), [(True, False), (False, True)])
async def test_what_cannot_be_removed_is_said_with_its_key(
    filled: Bench, lists_versions: bool, tells_ids: bool
) -> None:
    filled.box.target.inject(Fault("delete", Answer(405, "MethodNotAllowed"), times=0))
    if not lists_versions:
        filled.box.target.inject(Fault("list_versions", Answer(501, "NotImplemented"), times=0))
    if not tells_ids:
        for operation in ("put", "head"):
            filled.box.target.inject(Fault(operation, Shape(_forget_version), times=0))
    check = named(await examined(filled), "target.delete")
    left = [name for name in filled.box.target._versions if filled.box.target.versions(name)]
    assert len(left) == 1
    assert (check.level, left[0] in check.found, "by hand" in check.advice) == (Level.FAIL, True, True)


async def test_a_bucket_without_versions_says_what_stays(filled: Bench) -> None:
    """The sandbox knows no version by the name of none, so the object stays: the key is named all the same."""
    filled.box.target.inject(Fault("list_versions", Answer(501, "NotImplemented"), times=0))
    for operation in ("put", "head"):
        filled.box.target.inject(Fault(operation, Shape(_forget_version), times=0))
    check = named(await examined(filled), "target.delete")
    assert (check.level, FOLDER in check.found, "still there" in check.found) == (Level.FAIL, True, True)


async def test_leftovers_of_a_doctor_that_was_killed_are_removed(filled: Bench) -> None:
    await filled.box.target.store(f"{FOLDER}abc", b"left")
    upload = Upload(f"{FOLDER}def")
    filled.box.target._uploads[upload.upload_id] = upload
    assert (await examined(filled)).failure is None
    assert_nothing_is_left(filled)


# -- the ledger ---------------------------------------------------------------------------------------------------------


async def test_no_ledger_and_no_folder_is_made_and_nothing_is_bound(filled: Bench) -> None:
    place = filled.folder / "data" / "polyb2.db"
    checkup = await examined(filled, database_url=url_of(place), polyb2_datasets=[DAY_AGGS])
    assert (checkup.failure, place.parent.exists()) == (None, False)
    assert "is not there yet, and can be made" in named(checkup, "ledger.open").found
    assert named(checkup, "ledger.room").level is Level.PASS
    assert (named(checkup, "ledger.binding").level, checkup.count(Level.WARN)) == (Level.SKIP, 0)


async def test_a_ledger_of_another_pair(filled: Bench) -> None:
    await filled.mirror_all()
    check = named(await examined(filled, b2_key_prefix="other/"), "ledger.binding")
    assert (check.level, "belongs to the target prefix" in check.found) == (Level.FAIL, True)
    # The cure is in the message, and nothing follows it.
    ended = await filled.cli("doctor", B2_KEY_PREFIX="other/", POLYB2_DATASETS=DAY_AGGS)
    assert ended.err == f"polyb2: {check.name}: {check.found}\n"


@pytest.mark.parametrize("folder", ["file/deeper", "proc"])
async def test_a_place_that_cannot_be_written(filled: Bench, folder: str) -> None:
    (filled.folder / "file").touch()
    place = "/proc/nowhere" if folder == "proc" else filled.folder / folder
    check = named(await examined(filled, database_url=f"sqlite:///{place}/ledger.db"), "ledger.open")
    assert (check.level, "set DATABASE_URL" in check.found) == (Level.FAIL, True)


MOUNTS = """\
22 1 8:1 / / rw,relatime - {root} /dev/sda1 rw
30 22 0:40 / /mnt/shared\\040disk rw,relatime shared:1 - nfs4 server:/export rw
31 22 0:41 / {folder} rw - {kind} none rw
"""


@pytest.mark.parametrize(
    ("kind", "level", "words"),
    [
        ("overlay", Level.WARN, "goes with the container"),
        ("tmpfs", Level.WARN, "next boot"),
        ("xfs", Level.PASS, "xfs"),
    ],
)
async def test_the_file_system_is_named(
    filled: Bench, monkeypatch: pytest.MonkeyPatch, kind: str, level: Level, words: str
) -> None:
    _mounted(monkeypatch, filled.folder, kind)
    check = named(await examined(filled), "ledger.file_system")
    assert (check.level, words in check.found) == (level, True)


async def test_a_ledger_on_a_network_file_system_is_refused_by_doctor_and_run_alike(
    filled: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    _mounted(monkeypatch, filled.folder, "nfs4")
    check = named(await examined(filled), "ledger.open")
    assert (check.level, "is a network file system (nfs4)" in check.found) == (Level.FAIL, True)
    with pytest.raises(Exception, match="is a network file system"):
        await filled.run()


def _mounted(monkeypatch: pytest.MonkeyPatch, folder: Path, kind: str) -> None:
    mounts = folder.parent / "mountinfo"
    mounts.write_text(MOUNTS.format(root="ext4", folder=folder, kind=kind))
    monkeypatch.setattr("polyb2.ledger.sqlite.file_system._MOUNTS", mounts)


@pytest.mark.parametrize(
    ("mode", "folder", "words"),
    [
        (0o600, 0o755, "no other user may read or write it"),
        (0o660, 0o1777, "no other user may read or write it"),
        (0o644, 0o755, "everybody may read it"),
        (0o606, 0o755, "everybody may write it"),
        (0o600, 0o777, "everybody may replace it"),
    ],
)
async def test_a_ledger_that_others_may_use_is_doubtful(filled: Bench, mode: int, folder: int, words: str) -> None:
    home = filled.folder / "home"
    home.mkdir()
    home.chmod(folder)
    (home / "ledger.db").touch()
    (home / "ledger.db").chmod(mode)
    check = named(await examined(filled, database_url=f"sqlite:///{home / 'ledger.db'}"), "ledger.others")
    assert words in check.found
    assert (check.level is Level.WARN) == words.startswith("everybody")
    assert (f"chmod o-rw {home / 'ledger.db'}" in check.advice) == words.startswith("everybody")


# -- this machine and this user ----------------------------------------------------------------------------------------


async def test_a_dotenv_that_others_can_read_or_write_is_doubtful(bench: Bench) -> None:
    (bench.folder / ".env").touch(mode=0o600)
    assert not [check for check in (await examine(Settings())).checks if check.name == "polyb2.dotenv"]
    for mode, words in ((0o644, "others can read .env"), (0o622, "others can write to .env")):
        (bench.folder / ".env").chmod(mode)
        found = named(await examine(Settings()), "polyb2.dotenv")
        assert (found.level, found.found) == (Level.WARN, f"{words}, which holds the keys")
        assert found.advice.startswith("chmod 600 .env")


async def test_the_limit_of_open_files_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    for files, level in ((1024, Level.PASS), (151, Level.WARN)):
        monkeypatch.setattr("polyb2.descriptors.raise_limit", lambda files=files: files)
        assert named(await examine(Settings()), "polyb2.open_files").level is level


async def test_a_proxy_that_cannot_be_used_is_one_failed_check_and_hides_no_other(
    filled: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("https_proxy", "socks5://me:s3cr3t@proxy:1080")
    checkup = await examined(filled, b2_endpoint_url="https://s3.us-west-004.backblazeb2.com")
    assert named(checkup, "target.network").found.startswith("https_proxy names a SOCKS proxy")
    assert "s3cr3t" not in str(checkup.as_json())
    assert named(checkup, "source.list").level is Level.PASS
    assert named(checkup, "ledger.open").level is Level.PASS
