"""An embedded pair of S3-compatible servers on loopback, for the demo and the tests: a Polygon-like source, a B2-like target.

Real HTTP, real signatures, the quirks of both services as users met them, and scripted faults on any operation. It is
independent: nothing here knows the rest of polyb2, so that a mistake there cannot hide in a shared assumption.
"""

from polyb2.sandbox.faults import Answer, Call, Cut, Delay, Drip, Fault, FlipBody, FlipStored, Reset, Shape, Stall
from polyb2.sandbox.objects import GeneratedGzip, SourceObject
from polyb2.sandbox.pair import Sandbox
from polyb2.sandbox.source import SourceServer
from polyb2.sandbox.target import TargetServer

__all__ = [
    "Answer",
    "Call",
    "Cut",
    "Delay",
    "Drip",
    "Fault",
    "FlipBody",
    "FlipStored",
    "GeneratedGzip",
    "Reset",
    "Sandbox",
    "Shape",
    "SourceObject",
    "SourceServer",
    "Stall",
    "TargetServer",
]
