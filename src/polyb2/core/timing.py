"""How long the engine waits between looks and tries: one object, so that a test of hours passes a faster one."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds.

    Attributes:
        retry_first_s: back-off of a request after its first failure, at most.
        retry_limit_s: back-off of a request, at most.
        poll_s: between two looks at the queue, for what other processes do.
        sweep_s: between two sweeps of abandoned uploads.
        probe_first_s: until a side in trouble is probed for the first time; then twice as long each time.
        probe_limit_s: between two probes, at most.
        probe_fresh_s: the outcome of a probe serves for all attempts that fail together.
        near_fresh_s: whether the neighbours of a file can be read is asked again after so long.
        moved_limit_s: a redirect may last so long: a network's login page goes away, an endpoint that moved does not.
        publish_limit_s: an object that was completed may stay unseen so long; assembling 172 GB takes time.
        publish_logged_s: a wait for such an object is logged after so long.
        refusal_logged_s: a part that is refused for so long is logged.
        discover_again_s: after a discovery of a watch that failed, the next one is not later.
        late_again_s: while a file is late, the next discovery is not later.
        pause_min_s: between two discoveries of a watch, at least.
        full_listing_s: between two full listings of a watch.
    """

    retry_first_s: float = 1.0
    retry_limit_s: float = 64.0
    poll_s: float = 1.0
    sweep_s: float = 300.0
    probe_first_s: float = 1.0
    probe_limit_s: float = 60.0
    probe_fresh_s: float = 0.9
    near_fresh_s: float = 60.0
    moved_limit_s: float = 20.0
    publish_limit_s: float = 300.0
    publish_logged_s: float = 3.0
    refusal_logged_s: float = 60.0
    discover_again_s: float = 60.0
    late_again_s: float = 300.0
    pause_min_s: float = 1.0
    full_listing_s: float = 86_400.0


TIMING = Timing()
