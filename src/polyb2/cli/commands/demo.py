"""``demo``: the whole thing against the embedded sandbox, with the ordinary engine; no account, no network, nothing kept."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from polyb2.cli.app import command, configured
from polyb2.cli.logs import OUTPUT
from polyb2.cli.loop import in_loop
from polyb2.core.errors import Polyb2Error, UsageError
from polyb2.core.selection import named_dates

if TYPE_CHECKING:
    from polyb2.config import Settings
    from polyb2.flow.inspect.verify import Findings
    from polyb2.sandbox import Sandbox

DATES = "2024-01-01..2024-01-12"
DATASETS = ("us_stocks_sip/*", "us_options_opra/*", "global_crypto/day_aggs_v1", "us_indices/day_aggs_v1")
NEXT = """
The same with your own keys:
  export POLYGON_S3_ACCESS_KEY_ID=... POLYGON_S3_SECRET_ACCESS_KEY=...
  export B2_KEY_ID=... B2_APPLICATION_KEY=... B2_BUCKET_NAME=... B2_ENDPOINT_URL=s3.us-west-004.backblazeb2.com
  polyb2 discover --dates 2024-01-02
  polyb2 run --concurrency 32
  polyb2 verify
"""


@command("polyb2 demo")
def demo() -> None:
    """The whole thing against an embedded sandbox: sample flat files, a B2-like store, no account needed."""
    from polyb2.cli.output.console import print_line

    with _folder() as folder:
        findings = in_loop(_demo(Path(folder)))
    if findings.differences:
        raise Polyb2Error("the demo's bucket differs from its source: please report what is printed above")
    print_line(NEXT)


def _folder() -> tempfile.TemporaryDirectory[str]:
    try:
        return tempfile.TemporaryDirectory(prefix="polyb2-demo-")
    except OSError as error:
        words = f"no folder for the demo: {error.strerror}"
        raise UsageError(f"{words}; set TMPDIR to one that this user can write to") from None


async def _demo(folder: Path) -> Findings:
    from polyb2.cli.output.console import print_line
    from polyb2.cli.output.results import DifferenceLines
    from polyb2.cli.output.status_view import print_status
    from polyb2.flow.inspect.verify import verify
    from polyb2.sandbox import Sandbox, scenario
    from polyb2.session import open_mirror

    bucket = folder / "bucket"
    bucket.mkdir()
    async with Sandbox(bucket) as box:
        scenario.fill(box.source)
        settings = _settings(box, folder)
        _print_head(
            f"1. Mirror: {len(box.source.keys())} sample files at {box.source.endpoint_url}, an empty bucket at"
        )
        print_line(f"   {box.target.endpoint_url}. us_indices is not in the sample's plan, and one file comes late.")
        await _sync(settings)
        _print_head("2. Mirror again: nothing changed, so nothing is sent.")
        await _sync(settings)
        replaced = scenario.republish(box.source, "us_stocks_sip/day_aggs_v1", scenario.LAST)
        late = scenario.publish_late(box.source)
        _print_head(f"3. {replaced} was replaced at the source, and the late {late} came.")
        await _sync(settings)
        _print_head("4. The ledger says:")
        async with open_mirror(settings) as mirror:
            if not OUTPUT.quiet:
                print_status(await mirror.ledger.status())
            _print_head("5. Verify: ledger, source and bucket, every byte read back.")
            differences = DifferenceLines()
            findings = await verify(mirror, named_dates([DATES]), deep=True, tell=differences.add)
        differences.end(findings)
        kept = box.target.versions(replaced)
        print_line(f"The bucket keeps {len(kept)} versions of {replaced}; the older one was not touched.")
        return findings


async def _sync(settings: Settings) -> None:
    from polyb2.cli.output.progress import Progress
    from polyb2.cli.output.results import print_run
    from polyb2.engine import RunOptions, run
    from polyb2.flow.discover.consent import Consent

    async with Progress("WARNING") as progress:
        consent = Consent(settings.discovery.max_plan_bytes, given=True)
        options = RunOptions(named_dates([DATES], DATASETS), False, None, consent, progress.start)
        result = await run(settings, options)
    print_run(result)


def _settings(box: Sandbox, folder: Path) -> Settings:
    """The user's own settings do not matter here, but for the concurrency."""
    given = {name.lower(): value for name, value in box.environment().items()}
    return configured(
        **given,
        b2_key_prefix="",
        database_url=f"sqlite:///{folder / 'demo.db'}",
        polyb2_http_addr="",
        polyb2_retry_base=1.0,
    )


def _print_head(words: str) -> None:
    from polyb2.cli.output.console import console

    console(asked=False).print(f"\n{words}", style="bold")
