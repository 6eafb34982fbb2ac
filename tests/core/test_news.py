"""Several items of news become one message, the worst first, and not a long one."""

from __future__ import annotations

from polyb2.core.news import LINES_MAX, News, Topic, digest


def test_the_worst_comes_first_and_is_counted() -> None:
    news = [
        News(Topic.ENDED, "3 files completed"),
        News(Topic.COMPLETE, "complete: 2024-01-02"),
        News(Topic.LATE, "late: a/b 2024-01-03"),
        News(Topic.COMPLETE, "complete: 2024-01-01"),
        News(Topic.FAILED, "the run failed: keys"),
    ]
    message = digest(news, "bucket on host")
    assert message.title == "polyb2: run failed, 1 file late, 2 days complete, run ended"
    assert message.body.splitlines() == [
        "the run failed: keys",
        "late: a/b 2024-01-03",
        "complete: 2024-01-02",
        "complete: 2024-01-01",
        "3 files completed",
        "",
        "bucket on host",
    ]


def test_a_topic_with_thousands_of_pieces_is_cut_and_counted() -> None:
    message = digest([News(Topic.REVISED, f"revised: {number}") for number in range(5000)], "here")
    assert message.title == "polyb2: 5000 files revised"
    assert len(message.body.splitlines()) == LINES_MAX + 3
    assert message.body.splitlines()[LINES_MAX] == f"and {5000 - LINES_MAX} files revised more"
