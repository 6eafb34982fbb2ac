"""``plan``, ``coverage``, ``datasets`` and ``doctor``: commands that look, and queue nothing."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from polyb2.cli import options as o
from polyb2.cli.app import command, configured, ending_with, opened_ledger, outliving_reader, write_json
from polyb2.cli.logs import print_failure, set_up_logging
from polyb2.cli.loop import in_loop
from polyb2.core.errors import UsageError
from polyb2.core.exit_codes import ExitCode
from polyb2.core.keys import matches
from polyb2.core.selection import Mode, Selection, split_datasets
from polyb2.core.status import WAITING, Status
from polyb2.core.units import Within, parse_size, write_size

if TYPE_CHECKING:
    from polyb2.config import Settings
    from polyb2.core.estimate import Estimate
    from polyb2.core.prices import Prices
    from polyb2.doctor.checks import Checkup
    from polyb2.flow.discover.findings import Report
    from polyb2.flow.inspect.completeness import Lacking
    from polyb2.flow.inspect.datasets import Entry
    from polyb2.flow.mirror import Mirror
    from polyb2.ledger.ledger import Ledger


# -- plan --------------------------------------------------------------------------------------------------------------


@command("polyb2 plan --historical --start-date 2024-01-01 --dataset us_stocks_sip/trades_v1")
def plan(
    choice: o.Choice,
    rate: Annotated[
        float | None,
        typer.Option(
            "--rate",
            metavar="RATE",
            parser=o.read("--rate", Within(1, 10**18, parse_size, write_size)),
            help="Bytes per second to reckon with: 100M; else what was measured.",
        ),
    ] = None,
    as_json: o.Json = False,
) -> None:
    """Preview discover: files and bytes that it would queue, hours at a rate, B2 cost; queues nothing."""
    settings = configured()
    selection = choice.selection(settings.discovery.datasets)
    report, estimate = in_loop(_survey(settings, selection, rate, settings.discovery.prices))
    if as_json:
        write_json({**report.as_json(), "estimate": estimate.as_json()})
    else:
        from polyb2.cli.output.plan_view import print_plan

        print_plan(report, estimate)
    report.check()


async def _survey(
    settings: Settings, selection: Selection, given: float | None, prices: Prices
) -> tuple[Report, Estimate]:
    from polyb2.flow.discover.discovery import Discovery
    from polyb2.session import open_mirror

    async with open_mirror(settings, read_only=True) as mirror:
        report = await Discovery(mirror, selection).survey()
        return report, await _estimate(mirror, report, given, prices, settings.discovery.max_plan_bytes)


async def _estimate(mirror: Mirror, report: Report, given: float | None, prices: Prices, bytes_max: int) -> Estimate:
    from polyb2.core.estimate import Estimate, Rate, measured
    from polyb2.flow.discover.findings import Kind

    by_status = (await mirror.ledger.status()).totals.by_status
    return Estimate(
        bytes_queued=report.total("bytes_queued"),
        bytes_waiting=sum(by_status[status]["bytes"] for status in WAITING | {Status.PROCESSING}),
        bytes_stored=by_status[Status.COMPLETED]["bytes"] + report.amount(Kind.ADOPTED).bytes,
        bytes_max=bytes_max,
        requests=report.requests(),
        rate=Rate(float(given)) if given is not None else measured(await mirror.ledger.throughput()),
        prices=prices,
    )


# -- coverage ----------------------------------------------------------------------------------------------------------


@command("polyb2 coverage    or, in a script: polyb2 coverage --require complete --dates 2024-01-02")
def coverage(
    choice: o.Filter,
    require: o.Require = None,
    as_json: o.Json = False,
) -> None:
    """Calendar of each dataset: dates that are mirrored, missing at the source, late, failed; from the ledger alone."""
    settings = configured()
    selection, required = choice.selection(), require is not None
    if required and selection.mode is Mode.EVERYTHING:
        raise UsageError("--require needs dates: --dates 2024-01-02, --daily, or --historical with --start-date")
    chosen = selection.datasets or (settings.discovery.datasets if required else ())
    lacking = in_loop(_coverage(settings, selection, chosen, as_json=as_json, require=required))
    with ending_with(ExitCode.UNFINISHED if required and lacking else ExitCode.DONE):
        if required and not as_json:
            from polyb2.cli.output.coverage_view import print_verdict

            print_verdict(lacking)


async def _coverage(
    settings: Settings, selection: Selection, patterns: Sequence[str], *, as_json: bool, require: bool
) -> Lacking:
    """Print the calendar or the JSON, while it is made; what is lacking, where that is required."""
    from polyb2.flow.inspect.completeness import Lacking, lacking_of, resolve_known
    from polyb2.flow.inspect.completeness import write_json as write_coverage

    async with opened_ledger(settings) as ledger:
        datasets = await resolve_known(ledger, patterns)
        if as_json:
            write = outliving_reader(sys.stdout.write) if require else sys.stdout.write
            return await write_coverage(ledger, selection, datasets, write)
        if require:
            return await lacking_of(ledger, selection, datasets)
        from polyb2.cli.output.coverage_view import print_coverage

        await print_coverage(ledger, selection, datasets)
        return Lacking()


# -- datasets ----------------------------------------------------------------------------------------------------------


@command("polyb2 datasets --probe --dataset 'us_stocks_sip/*'")
def datasets(
    dataset: o.Datasets = None,
    probe: Annotated[
        bool, typer.Option("--probe", help="Read a byte of the newest and the oldest file of each.")
    ] = False,
    as_json: o.Json = False,
) -> None:
    """The catalogue: first date, typical size, what the ledger has; with --probe which of it the keys may read."""
    settings = configured()
    entries = in_loop(_entries(settings, split_datasets(dataset or []), probing=probe))
    if as_json:
        write_json({"datasets": [entry.as_json() for entry in entries]})
    else:
        from polyb2.cli.output.dataset_view import print_entries

        print_entries(entries, probed=probe)


async def _entries(settings: Settings, patterns: tuple[str, ...], *, probing: bool) -> list[Entry]:
    from polyb2.flow.inspect.completeness import resolve_known
    from polyb2.flow.inspect.datasets import known_datasets

    async with opened_ledger(settings) as ledger:
        if probing:
            return await _probed(settings, ledger, patterns)
        entries = await known_datasets(ledger, settings.discovery.datasets)
        wanted = set(await resolve_known(ledger, patterns)) if patterns else None
        return [entry for entry in entries if wanted is None or entry.dataset in wanted]


async def _probed(settings: Settings, ledger: Ledger, patterns: tuple[str, ...]) -> list[Entry]:
    from polyb2.core.retry import LOOKING
    from polyb2.flow.discover.resolve import resolve_datasets
    from polyb2.flow.inspect.datasets import known_datasets, probe
    from polyb2.session import open_source

    settings.require_remote(target=False)
    async with open_source(settings, LOOKING) as source:
        listed = await resolve_datasets(source, patterns)
        entries = await known_datasets(ledger, settings.discovery.datasets, listed)
        wanted = [entry for entry in entries if not patterns or any(matches(one, entry.dataset) for one in patterns)]
        await probe(source, wanted, listed)
        return wanted


# -- doctor ------------------------------------------------------------------------------------------------------------


@command("polyb2 doctor    or, for scripts: polyb2 doctor --json")
def doctor(as_json: o.Json = False) -> None:
    """Preflight: network, clocks, keys, plan, bucket, ledger; what is wrong, and what to do. Leaves nothing in the bucket."""
    checkup = _examine()
    failure = checkup.failure
    with ending_with(ExitCode.DONE if failure is None else ExitCode.STOPPED):
        if as_json:
            write_json(checkup.as_json())
        else:
            from polyb2.cli.output.results import print_checkup

            print_checkup(checkup)
        if failure is not None:
            words = "; ".join(filter(None, (failure.found, failure.advice)))
            print_failure(f"{failure.name}: {words}", ExitCode.STOPPED)


def _examine() -> Checkup:
    from polyb2.doctor.checks import Checkup, Notes

    try:
        settings = configured()
    except UsageError as error:
        checkup = Checkup()
        for line in str(error).splitlines():
            name, _, found = line.partition(": ")
            Notes(checkup, "polyb2").failed("settings", f"{name} {found}", "correct it in the environment or .env")
        return checkup
    set_up_logging("ERROR")
    from polyb2.doctor.examine import examine

    return in_loop(examine(settings))
