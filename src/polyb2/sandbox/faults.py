"""Scripted faults: inject one on an operation, a key or a part, for a number of requests, and observe the client."""

from __future__ import annotations

import asyncio
import inspect
import random
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Literal

from polyb2.sandbox.exchange import DroppedError, Exchange, Reply, S3Error, error_reply


class Action:
    """The effect of a fault; none by default."""

    async def before(self, exchange: Exchange) -> Reply | None:
        """Before the operation, its body unread; a reply stands in for the operation."""

    async def after(self, exchange: Exchange, reply: Reply) -> Reply:
        """After the operation took place; the reply that is sent."""
        return reply


@dataclass(frozen=True, slots=True)
class Answer(Action):
    """An error answer instead of the operation, or (``took_place``) after it; ``html`` as a broken proxy would."""

    status: int
    code: str = ""
    message: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    html: bool = False
    read_body: bool = True
    took_place: bool = False
    close: bool = False

    def _reply(self) -> Reply:
        if self.html:
            body = b"<html><body><h1>Bad gateway</h1></body></html>"
            reply = Reply(self.status, {"Content-Type": "text/html"}, body, len(body))
        else:
            reply = error_reply(S3Error(self.status, self.code, self.message))
        reply.headers.update(self.headers)
        reply.close = self.close
        return reply

    async def before(self, exchange: Exchange) -> Reply | None:
        if self.took_place:
            return None
        if self.read_body:
            await exchange.whole_body()
        return self._reply()

    async def after(self, exchange: Exchange, reply: Reply) -> Reply:
        return self._reply()


@dataclass(frozen=True, slots=True)
class Reset(Action):
    """A connection reset: before anything, within the body (of the request, or of a GET's answer), or after the operation."""

    when: Literal["before", "middle", "after"] = "before"
    after_bytes: int = 1

    async def before(self, exchange: Exchange) -> Reply | None:
        if self.when == "before":
            raise DroppedError
        if self.when == "middle":
            exchange.reset_in_body_after = self.after_bytes
        return None

    async def after(self, exchange: Exchange, reply: Reply) -> Reply:
        if self.when == "after":
            raise DroppedError
        reply.cut_after, reply.reset = self.after_bytes, True
        return reply


@dataclass(frozen=True, slots=True)
class Cut(Action):
    """A body that ends early, with the right Content-Length, with that of the short body, or with none."""

    after_bytes: int
    length: Literal["right", "short", "none"] = "right"

    async def after(self, exchange: Exchange, reply: Reply) -> Reply:
        reply.cut_after = self.after_bytes
        if self.length != "right":
            reply.announced = self.after_bytes if self.length == "short" else None
        return reply


@dataclass(frozen=True, slots=True)
class Shape(Action):
    """Bend the reply: another status, header, extra bytes."""

    bend: Callable[[Reply], None]

    async def after(self, exchange: Exchange, reply: Reply) -> Reply:
        self.bend(reply)
        return reply


@dataclass(frozen=True, slots=True)
class Stall(Action):
    """No byte for as long as the client stays: of the answer, or (``reading``) of the request."""

    after_bytes: int = 0
    reading: bool = False

    async def before(self, exchange: Exchange) -> Reply | None:
        if self.reading:
            exchange.stall_in_body_after = self.after_bytes
        return None

    async def after(self, exchange: Exchange, reply: Reply) -> Reply:
        if not self.reading:
            reply.stall_after = self.after_bytes
        return reply


@dataclass(frozen=True, slots=True)
class Drip(Action):
    """A body that comes slowly; bytes per second."""

    bytes_per_s: float

    async def after(self, exchange: Exchange, reply: Reply) -> Reply:
        reply.bytes_per_s = self.bytes_per_s
        return reply


@dataclass(frozen=True, slots=True)
class FlipBody(Action):
    """A flipped bit on the way from the source."""

    at: int = 0

    async def after(self, exchange: Exchange, reply: Reply) -> Reply:
        reply.flip_at = self.at
        return reply


@dataclass(frozen=True, slots=True)
class FlipStored(Action):
    """A flipped bit on the way to the target: stored, and in the ETag."""

    async def before(self, exchange: Exchange) -> Reply | None:
        exchange.flip_stored = True
        return None


@dataclass(frozen=True, slots=True)
class Delay(Action):
    """Wait before the operation."""

    seconds: float

    async def before(self, exchange: Exchange) -> Reply | None:
        await asyncio.sleep(self.seconds)
        return None


@dataclass(frozen=True, slots=True)
class Call(Action):
    """Run code in between: replace the object, abort the upload, kill a process."""

    run: Callable[[], Awaitable[None] | None]
    when: Literal["before", "after"] = "before"

    async def _run(self) -> None:
        result = self.run()
        if inspect.isawaitable(result):
            await result

    async def before(self, exchange: Exchange) -> Reply | None:
        if self.when == "before":
            await self._run()
        return None

    async def after(self, exchange: Exchange, reply: Reply) -> Reply:
        if self.when == "after":
            await self._run()
        return reply


@dataclass(slots=True)
class Fault:
    """An action on matching requests.

    Attributes:
        operation: list, head, get, put, create, upload_part, complete, abort, list_parts, list_uploads, head_bucket, delete,
            or ``*``.
        action: its effect.
        key: glob of keys.
        part: only this part number.
        times: the number of matching requests it hits; 0 is all.
        skip: the number of matching requests it lets pass first.
        share: of those left, only this share at random.
        dice: the randomness of ``share``; give one with a seed.
        hits: the number of requests it hit.
    """

    operation: str
    action: Action
    key: str = "*"
    part: int | None = None
    times: int = 1
    skip: int = 0
    share: float = 1.0
    dice: random.Random = field(default_factory=random.Random)
    hits: int = 0

    def strikes(self, exchange: Exchange) -> bool:
        """Tell if this request is hit; counts it."""
        if self.operation not in {"*", exchange.operation} or not fnmatchcase(exchange.key, self.key):
            return False
        if self.part not in {None, exchange.part} or (self.times and self.hits >= self.times):
            return False
        if self.skip:
            self.skip -= 1
            return False
        if self.share < 1 and self.dice.random() >= self.share:
            return False
        self.hits += 1
        return True
