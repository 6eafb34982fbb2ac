-- The ledger, version 5: what each running process is up to, as of its last renewal, so that `status` can show it.

-- Requests a second that a side is asked at most; null where nothing limits them.
CREATE TABLE loads (
    worker          INTEGER PRIMARY KEY REFERENCES workers (id) ON DELETE CASCADE,
    streams_in_use  INTEGER NOT NULL,
    streams_allowed INTEGER NOT NULL,
    source_rps      REAL,
    target_rps      REAL
) STRICT;
