"""A side and its clients in virtual time: seeded, event driven, without any I/O.

The clients are those of the engine: a number of slots, at most twice as many files in flight, a file of several requests in
sequence, and the back-off of the real policy, during which no slot is held.
"""

from __future__ import annotations

import heapq
import random
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count
from typing import Protocol

from polyb2.core.errors import Kind, RemoteError, Side
from polyb2.core.rate_limit import Ticket
from polyb2.core.retry import RequestPolicy

CLIENT_S = 0.002
"""Processor time that a request costs the client: at most five hundred start in a second."""
REQUESTS_A_FILE = 3


class Model:
    """A side that accepts everything."""

    def takes(self, now_s: float, file: int) -> bool:
        return True

    def left(self) -> None:
        """A request that was accepted has been answered."""


@dataclass
class Bucket(Model):
    """A number of units a second, and ``burst`` at once; the rate may change at given times."""

    rate: float
    burst: float
    unit: float = 1.0
    moves: tuple[tuple[float, float], ...] = ()
    _tokens: float = -1.0
    _since_s: float = 0.0

    def takes(self, now_s: float, file: int) -> bool:
        if self._tokens < 0:
            self._tokens = self.burst
        rate = self.rate
        for from_s, moved in self.moves:
            rate = moved if now_s >= from_s else rate
        self._tokens = min(self.burst, self._tokens + (now_s - self._since_s) * rate)
        self._since_s = now_s
        if self._tokens < self.unit:
            return False
        self._tokens -= self.unit
        return True


@dataclass
class AtOnce(Model):
    """A number of requests at once."""

    limit: int
    _inside: int = 0

    def takes(self, now_s: float, file: int) -> bool:
        if self._inside >= self.limit:
            return False
        self._inside += 1
        return True

    def left(self) -> None:
        self._inside -= 1


@dataclass
class Share(Model):
    """A share of all requests is refused, within the given time."""

    share: float
    dice: random.Random
    from_s: float = 0.0
    until_s: float = 1e9

    def takes(self, now_s: float, file: int) -> bool:
        return not self.from_s <= now_s < self.until_s or self.dice.random() >= self.share


@dataclass
class OneFile(Model):
    """The file of that number is always refused."""

    file: int

    def takes(self, now_s: float, file: int) -> bool:
        return file != self.file


class Both(Model):
    """Accepted if all accept it."""

    def __init__(self, *models: Model) -> None:
        self.models = models

    def takes(self, now_s: float, file: int) -> bool:
        return all(model.takes(now_s, file) for model in self.models)


class Pace(Protocol):
    """The interface of ``RateLimiter``: the times at which requests may start."""

    def wait_s(self, now_s: float) -> float: ...

    def start(self, now_s: float) -> Ticket: ...

    def answered(self, now_s: float, ticket: Ticket, *, refused: bool) -> None: ...


@dataclass
class Fixed:
    """A constant number of requests a second."""

    rate: float
    _next_s: float = 0.0

    def wait_s(self, now_s: float) -> float:
        return max(0.0, self._next_s - now_s)

    def start(self, now_s: float) -> Ticket:
        self._next_s = max(self._next_s, now_s - 1 / self.rate) + 1 / self.rate
        return Ticket(0, now_s)

    def answered(self, now_s: float, ticket: Ticket, *, refused: bool) -> None:
        """Learn nothing."""


@dataclass
class Result:
    """Accepted and refused requests by the second they were answered in."""

    accepted: Counter[int] = field(default_factory=Counter)
    refused: Counter[int] = field(default_factory=Counter)

    def rate(self, from_s: int, until_s: int) -> float:
        """Accepted requests a second."""
        return sum(self.accepted[second] for second in range(from_s, until_s)) / (until_s - from_s)

    def refusals(self, from_s: int = 0, until_s: int = 10**6) -> int:
        return sum(number for second, number in self.refused.items() if from_s <= second < until_s)


@dataclass(slots=True)
class File:
    number: int
    left: int = REQUESTS_A_FILE
    failures: int = 0


class Simulation:
    """Clients of one side, whose requests start at the given pace."""

    def __init__(
        self,
        model: Model,
        limiter: Pace,
        *,
        slots: int,
        round_trip_s: float,
        seed: int,
        retry_after_s: float | None = None,
    ) -> None:
        self.model, self.limiter = model, limiter
        self.slots, self.round_trip_s = slots, round_trip_s
        self.dice = random.Random(seed)
        self.policy = RequestPolicy()
        self.error = RemoteError(Side.TARGET, Kind.THROTTLED, "refused", retry_after_s=retry_after_s)
        self.result = Result()
        self.now_s = 0.0
        self._numbers = count()
        self._events: list[tuple[float, int, Callable[..., None], tuple[object, ...]]] = []
        self._order = count()
        self._in_flight = 0
        self._free = slots
        self._ready: deque[File] = deque()
        self._turns: deque[File] = deque()
        self._cpu_s = 0.0

    def at(self, when_s: float, what: Callable[..., None], *args: object) -> None:
        heapq.heappush(self._events, (when_s, next(self._order), what, args))

    def run(self, seconds: float) -> Result:
        self._feed()
        while self._events and self._events[0][0] < seconds:
            self.now_s, _, what, args = heapq.heappop(self._events)
            what(*args)
        return self.result

    def _feed(self) -> None:
        """Give free slots to the files that wait for one, then to new files."""
        while self._free:
            if self._ready:
                file = self._ready.popleft()
            elif self._in_flight < 2 * self.slots:
                file = File(next(self._numbers))
                self._in_flight += 1
            else:
                return
            self._free -= 1
            self._turns.append(file)
            if len(self._turns) == 1:
                self._turn()

    def _turn(self) -> None:
        """Start the first in line as soon as the pace permits."""
        while self._turns:
            # As the real one, it looks again when the pace has changed; here often enough.
            wait_s = max(self._cpu_s - self.now_s, min(self.limiter.wait_s(self.now_s), 0.05))
            if wait_s > 1e-9:
                self.at(self.now_s + wait_s, self._turn)
                return
            file = self._turns.popleft()
            self._cpu_s = self.now_s + CLIENT_S
            self.at(self.now_s + self.round_trip_s / 2, self._arrive, file, self.limiter.start(self.now_s))

    def _arrive(self, file: File, ticket: Ticket) -> None:
        taken = self.model.takes(self.now_s, file.number)
        self.at(self.now_s + self.round_trip_s / 2, self._answer, file, ticket, taken)

    def _answer(self, file: File, ticket: Ticket, taken: bool) -> None:
        if taken:
            self.model.left()
        self.limiter.answered(self.now_s, ticket, refused=not taken)
        (self.result.accepted if taken else self.result.refused)[int(self.now_s)] += 1
        if taken:
            file.failures, file.left = 0, file.left - 1
            if file.left:
                self._turns.append(file)
                if len(self._turns) == 1:
                    self._turn()
                return
            self._in_flight -= 1
        else:
            file.failures += 1
            delay_s = self.policy.delay_s(file.failures, self.error, self.dice.random())
            if delay_s is None:
                self._in_flight -= 1
            else:
                self.at(self.now_s + delay_s, self._again, file)
        self._free += 1
        self._feed()

    def _again(self, file: File) -> None:
        self._ready.append(file)
        self._feed()
