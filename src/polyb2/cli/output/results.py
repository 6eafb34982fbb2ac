"""Results of commands, for people: reports, differences, checks."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

from rich.console import Console
from rich.text import Text

from polyb2.cli.logs import OUTPUT, print_failure
from polyb2.cli.output.console import console, dataset_table, line_printer, print_named
from polyb2.core.exit_codes import ExitCode
from polyb2.core.status import TRANSITIONS
from polyb2.core.units import format_duration, format_size
from polyb2.doctor.checks import Checkup
from polyb2.ledger.rows import Level

if TYPE_CHECKING:
    from polyb2.core.records import OpenUpload
    from polyb2.engine import RunResult
    from polyb2.flow.discover.findings import Report
    from polyb2.flow.inspect.cleanup import Swept
    from polyb2.flow.inspect.verify import Difference, Findings
    from polyb2.flow.run.pool import Outcome

_LEVELS = {Level.PASS: "green", Level.WARN: "yellow", Level.FAIL: "red", Level.SKIP: "dim"}


def print_report(report: Report) -> None:
    """The figures of a discovery, and the names that are worth one."""
    out = console(asked=False)
    figures = ("listed", "queued", "revised", "adopted", "unchanged", "bytes")
    rows: list[tuple[str, list[str | Text]]] = []
    for item in report.datasets.values():
        counts = (item.listed, item.queued, item.revised, item.adopted, item.unchanged)
        rows.append((item.dataset, [*map(str, counts), format_size(item.bytes_queued)]))
    out.print(dataset_table(out, figures, rows))
    print_named(out, "nothing is listed for", report.not_published, "discover")
    print_left_out(out, report, "discover")
    if report.gone:
        out.print(f"{report.gone} unfinished files are listed no longer and were parked (reason source_gone)")
    out.print(f"{report.total('queued')} files queued, {format_size(report.total('bytes_queued'))}")


def print_left_out(out: Console, report: Report, command: str) -> None:
    """Keys that discovery left alone, with the reason where that is not plain to see."""
    print_named(
        out, "not flat files, left alone:", [key for key in report.ignored if key not in report.reasons], command
    )
    print_named(out, "left out:", [f"{key}: {why}" for key, why in report.reasons.items()], command)


def print_run(result: RunResult) -> None:
    """The end of a run: its discovery, and its outcome."""
    if result.report is not None:
        print_report(result.report)
    print_outcome(result.outcome, result.seconds)


def print_outcome(outcome: Outcome, seconds: float) -> None:
    """Files and bytes of a run, its seconds, and the files that were not completed."""
    out = console(asked=False)
    speed = f", {format_size(outcome.bytes / seconds)}/s" if seconds and outcome.bytes else ""
    lasted = f" in {format_duration(seconds)}{speed}" if outcome.completed else ""
    out.print(f"{outcome.completed} files completed, {format_size(outcome.bytes)} sent{lasted}")
    statuses = {key: TRANSITIONS[event][1] for key, event in outcome.unfinished.items()}
    print_named(out, "not completed:", [f"{status} {key}" for key, status in statuses.items()])
    if statuses:
        wanted = ",".join(sorted(set(statuses.values())))
        words = f"{len(statuses)} files not completed: polyb2 files --status {wanted} tells why"
        out.print(words)
        if OUTPUT.quiet:
            print_failure(words, ExitCode.UNFINISHED)


class DifferenceLines:
    """Prints the differences that verify finds: a line each, as they are found, and the sums at the end."""

    def __init__(self) -> None:
        self._print = line_printer(asked=False)

    def add(self, found: Difference) -> None:
        self._print(f"{found.kind:<12} {found.key}{_revision_words(found)}")

    def end(self, findings: Findings) -> None:
        out = console(asked=False)
        if OUTPUT.quiet and findings.found:
            print_failure(
                f"{findings.found} differences: polyb2 verify without --quiet names them", ExitCode.UNFINISHED
            )
        words = "a broken gzip stream, as the source has it:"
        print_named(out, words, findings.damaged_at_source, "verify", total=findings.damaged)
        out.print(f"{findings.checked} files checked, {findings.found} differences")
        if findings.repaired:
            out.print(f"{findings.repaired} files queued: polyb2 run sends them again")
        elif findings.is_repairable:
            out.print("polyb2 verify --repair queues what differs")
        elif findings.found:
            out.print("nothing to send again: polyb2 leaves alone what is extra in the bucket or gone at the source")


class DifferenceObject:
    """The same as one JSON object, also written while they are found."""

    def __init__(self) -> None:
        self._before = '{"differences": ['

    def add(self, found: Difference) -> None:
        sys.stdout.write(f"{self._before}{json.dumps(found.as_json())}")
        self._before = ",\n"

    def end(self, findings: Findings) -> None:
        opening = self._before if self._before.startswith("{") else ""
        sys.stdout.write(f"{opening}], {json.dumps(findings.rest_as_json())[1:]}\n")


def _revision_words(difference: Difference) -> str:
    """The revisions of a stale file."""
    row, listed = difference.row, difference.listed
    if row is None or listed is None:
        return ""
    known = difference.listed_revision
    newer = f"revision {known}" if known else "a newer one that no discovery has seen"
    if difference.is_held:
        newer = "a newer one that is not queued until you agree, as polyb2 status says"
    return (
        f"  mirrored is revision {row.mirrored_revision} ({format_size(row.mirrored_size or 0)}), listed is "
        f"{newer} ({format_size(listed.size)}, ETag {listed.etag})"
    )


def print_checkup(checkup: Checkup) -> None:
    """A line a check, and advice below it where there is something to do."""
    out = console()
    print_checks(out, checkup)
    counts = ", ".join(f"{checkup.count(level)} {level}" for level in Level if checkup.count(level))
    out.print(
        f"{counts}: {'ready to go' if checkup.failure is None else 'cure the first failure, then run doctor again'}"
    )


def print_checks(out: Console, checkup: Checkup) -> None:
    """The lines of the checks alone."""
    width = max(len(check.name) for check in checkup.checks)
    for check in checkup.checks:
        line = Text(f"{check.level:<5}", style=_LEVELS[check.level])
        out.print(line.append(f"{check.name:<{width}}  {check.found}", style="default"))
        if check.advice:
            out.print(f"{'':{width + 5}}  -> {check.advice}")


def upload_printer(*, dry_run: bool) -> Callable[[OpenUpload], object]:
    """Prints a line for each upload that cleanup aborts."""
    print_upload = line_printer(asked=dry_run)
    done = "would abort" if dry_run else "aborted"
    return lambda upload: print_upload(f"{done} {upload.key} {upload.upload_id}")


def print_swept(swept: Swept, *, dry_run: bool) -> None:
    """The sums of cleanup."""
    out = console(asked=dry_run)
    out.print(
        f"{swept.aborted} uploads {'to abort' if dry_run else 'aborted'}; left alone: {swept.owned} of the ledger, "
        f"{swept.young} too young, {swept.foreign} of other keys"
    )
    if swept.failed:
        out.print(f"{swept.failed} uploads could not be aborted: run polyb2 cleanup again later")
