-- The ledger, version 102, the first; a later version is a script of its own beside this one. Times (names in _ms) are epoch
-- milliseconds, sizes bytes, ETags without quotes; `worker` is a row of `workers`, `worker_id` its name for people.

-- One-off facts: the binding to source and target, what is known of the target, when the watch last listed everything.
CREATE TABLE facts (
    name  TEXT PRIMARY KEY,
    value TEXT NOT NULL
) STRICT, WITHOUT ROWID;

-- One row a running process. Its lease is the lease of all its claims, so that renewing is one write.
-- lease_mono_ms is on the monotonic clock of the boot `boot_id`; lease_wall_ms decides after a reboot only. `share` is what the
-- process may use of the account's limits, in millionths: over the live workers never more than the whole.
CREATE TABLE workers (
    id            INTEGER PRIMARY KEY AUTOINCREMENT,
    worker_id     TEXT NOT NULL,
    host          TEXT NOT NULL,
    version       TEXT NOT NULL,
    share         INTEGER NOT NULL DEFAULT 0,
    boot_id       TEXT NOT NULL,
    started_ms    INTEGER NOT NULL,
    lease_ms      INTEGER NOT NULL CHECK (lease_ms > 0),
    lease_mono_ms INTEGER NOT NULL,
    lease_wall_ms INTEGER NOT NULL,
    ended_ms      INTEGER
) STRICT;

-- What each running process is up to, as of its last renewal; requests a second that a side is asked at most, null for no limit.
CREATE TABLE loads (
    worker          INTEGER PRIMARY KEY REFERENCES workers (id) ON DELETE CASCADE,
    streams_in_use  INTEGER NOT NULL,
    streams_allowed INTEGER NOT NULL,
    source_rps      REAL,
    target_rps      REAL
) STRICT;

CREATE TABLE datasets (
    dataset TEXT PRIMARY KEY
) STRICT, WITHOUT ROWID;

-- Which dataset waited longest for a worker: `claimed_seq` is the number of its last claim of it.
CREATE TABLE turns (
    worker      INTEGER NOT NULL REFERENCES workers (id) ON DELETE CASCADE,
    dataset     TEXT NOT NULL,
    claimed_seq INTEGER NOT NULL,
    PRIMARY KEY (worker, dataset)
) STRICT, WITHOUT ROWID;

CREATE TABLE files (
    id                      INTEGER PRIMARY KEY,
    key                     TEXT NOT NULL UNIQUE,
    dataset                 TEXT NOT NULL,
    date                    TEXT NOT NULL,
    size                    INTEGER NOT NULL CHECK (size >= 0),
    source_etag             TEXT NOT NULL,
    source_last_modified_ms INTEGER NOT NULL,
    revision                INTEGER NOT NULL DEFAULT 1 CHECK (revision >= 1),
    status                  TEXT NOT NULL DEFAULT 'pending' CHECK (status IN
                                ('pending', 'processing', 'completed', 'failed_download', 'failed_upload',
                                 'permanent_failure', 'not_entitled')),
    reason                  TEXT,
    error_message           TEXT,
    attempt                 INTEGER NOT NULL DEFAULT 0,
    retry_count             INTEGER NOT NULL DEFAULT 0,
    forbidden               INTEGER NOT NULL DEFAULT 0 CHECK (forbidden IN (0, 1)),
    next_attempt_ms         INTEGER,
    worker                  INTEGER REFERENCES workers (id),
    worker_id               TEXT,
    resumable               INTEGER NOT NULL DEFAULT 0 CHECK (resumable IN (0, 1)),
    bytes_done              INTEGER NOT NULL DEFAULT 0,
    parts_total             INTEGER,
    parts_done              INTEGER NOT NULL DEFAULT 0,
    -- The most receipts that a failed attempt at this revision left: only one that left more goes uncharged for it.
    parts_mark              INTEGER NOT NULL DEFAULT 0,
    dest_key                TEXT NOT NULL,
    dest_etag               TEXT,
    dest_version_id         TEXT,
    verification            TEXT CHECK (verification IN ('etag', 'parts', 'readback')),
    mirrored_revision       INTEGER,
    mirrored_source_etag    TEXT,
    mirrored_size           INTEGER,
    discovered_at_ms        INTEGER NOT NULL,
    -- When the row last entered the queue: new, re-published, or put back. Retries and releases do not change it.
    queued_at_ms            INTEGER NOT NULL,
    started_at_ms           INTEGER,
    completed_at_ms         INTEGER,
    CHECK ((status = 'processing') = (worker IS NOT NULL)),
    CHECK ((status IN ('failed_download', 'failed_upload')) = (next_attempt_ms IS NOT NULL)),
    CHECK (status <> 'completed' OR (mirrored_revision IS revision AND verification IS NOT NULL))
) STRICT;

-- The order of claims: resumable first, then the newest date, then the smaller.
CREATE INDEX files_pending ON files (resumable DESC, date DESC, size, id) WHERE status = 'pending';
CREATE INDEX files_pending_dataset ON files (dataset, resumable DESC, date DESC, size, id) WHERE status = 'pending';
CREATE INDEX files_waiting ON files (next_attempt_ms) WHERE status IN ('failed_download', 'failed_upload');
CREATE INDEX files_waiting_dataset ON files (dataset, next_attempt_ms) WHERE status IN ('failed_download', 'failed_upload');
-- A row has a worker exactly while it is processing; in this form the index also serves the foreign key.
CREATE INDEX files_held ON files (worker) WHERE worker IS NOT NULL;
-- The age of the oldest file that waits.
CREATE INDEX files_queued ON files (dataset, queued_at_ms) WHERE status IN ('pending', 'failed_download', 'failed_upload');
-- Rows of a status within a stretch of keys, in their order.
CREATE INDEX files_status ON files (status, key);

CREATE TABLE revisions (
    file_id                 INTEGER NOT NULL REFERENCES files (id) ON DELETE CASCADE,
    revision                INTEGER NOT NULL,
    source_etag             TEXT NOT NULL,
    size                    INTEGER NOT NULL,
    source_last_modified_ms INTEGER NOT NULL,
    first_seen_ms           INTEGER NOT NULL,
    mirrored_at_ms          INTEGER,
    dest_etag               TEXT,
    dest_version_id         TEXT,
    verification            TEXT,
    PRIMARY KEY (file_id, revision)
) STRICT, WITHOUT ROWID;

CREATE TABLE attempts (
    file_id       INTEGER NOT NULL REFERENCES files (id) ON DELETE CASCADE,
    attempt       INTEGER NOT NULL,
    revision      INTEGER NOT NULL,
    worker_id     TEXT NOT NULL,
    token         TEXT NOT NULL,
    started_ms    INTEGER NOT NULL,
    ended_ms      INTEGER,
    outcome       TEXT,
    reason        TEXT,
    error_message TEXT,
    PRIMARY KEY (file_id, attempt)
) STRICT, WITHOUT ROWID;

CREATE INDEX attempts_failed ON attempts (ended_ms) WHERE outcome IN ('fail_download', 'fail_upload', 'park', 'refuse');

-- Multipart uploads. An abandoned one outlives its file's row until its abort is confirmed.
CREATE TABLE uploads (
    id         INTEGER PRIMARY KEY,
    file_id    INTEGER REFERENCES files (id) ON DELETE SET NULL,
    revision   INTEGER NOT NULL,
    dest_key   TEXT NOT NULL,
    upload_id  TEXT NOT NULL UNIQUE,
    token      TEXT NOT NULL,
    size       INTEGER NOT NULL,
    part_bytes INTEGER NOT NULL CHECK (part_bytes > 0),
    proof      TEXT NOT NULL CHECK (proof IN ('etag', 'parts', 'readback')),
    state      TEXT NOT NULL CHECK (state IN ('open', 'completing', 'abandoned', 'done'))
) STRICT;
CREATE UNIQUE INDEX uploads_live ON uploads (file_id) WHERE state IN ('open', 'completing');
CREATE INDEX uploads_file ON uploads (file_id);
CREATE INDEX uploads_abandoned ON uploads (id) WHERE state = 'abandoned';

-- Receipts: a row is written when, and only when, the target has confirmed the part.
CREATE TABLE parts (
    upload  INTEGER NOT NULL REFERENCES uploads (id) ON DELETE CASCADE,
    number  INTEGER NOT NULL,
    length  INTEGER NOT NULL,
    etag    TEXT NOT NULL,
    md5     TEXT,
    PRIMARY KEY (upload, number)
) STRICT, WITHOUT ROWID;

-- Bytes of receipts by second and worker, for the rates.
CREATE TABLE throughput (
    second INTEGER NOT NULL,
    worker INTEGER NOT NULL,
    bytes  INTEGER NOT NULL,
    PRIMARY KEY (second, worker)
) STRICT, WITHOUT ROWID;
CREATE INDEX throughput_worker ON throughput (worker, second);

-- Counts by dataset and status, kept by the triggers in the transaction of the change, so that status is instant. A size that
-- no target holds (the bound of core/parts.py) counts as nothing: such a file is parked unsent, and a few sizes near 2^63 would
-- overflow a sum.
CREATE TABLE counts (
    dataset    TEXT NOT NULL,
    status     TEXT NOT NULL,
    files      INTEGER NOT NULL,
    bytes      INTEGER NOT NULL,
    bytes_done INTEGER NOT NULL,
    PRIMARY KEY (dataset, status)
) STRICT, WITHOUT ROWID;

-- A new file in its first revision.
CREATE TRIGGER files_new AFTER INSERT ON files BEGIN
    INSERT INTO revisions (file_id, revision, source_etag, size, source_last_modified_ms, first_seen_ms)
        VALUES (NEW.id, NEW.revision, NEW.source_etag, NEW.size, NEW.source_last_modified_ms, NEW.discovered_at_ms);
    INSERT INTO datasets (dataset) VALUES (NEW.dataset) ON CONFLICT DO NOTHING;
    INSERT INTO counts VALUES (NEW.dataset, NEW.status, 1, (NEW.size <= 10000000000000) * NEW.size, NEW.bytes_done)
        ON CONFLICT DO UPDATE SET files = files + 1, bytes = bytes + excluded.bytes,
                                  bytes_done = bytes_done + excluded.bytes_done;
END;

CREATE TRIGGER files_count_delete AFTER DELETE ON files BEGIN
    UPDATE counts SET files = files - 1, bytes = bytes - (OLD.size <= 10000000000000) * OLD.size,
                      bytes_done = bytes_done - OLD.bytes_done
        WHERE dataset = OLD.dataset AND status = OLD.status;
END;

CREATE TRIGGER files_count_update AFTER UPDATE OF status, size, bytes_done ON files
WHEN OLD.status <> NEW.status OR OLD.size <> NEW.size OR OLD.bytes_done <> NEW.bytes_done BEGIN
    UPDATE counts SET files = files - 1, bytes = bytes - (OLD.size <= 10000000000000) * OLD.size,
                      bytes_done = bytes_done - OLD.bytes_done
        WHERE dataset = OLD.dataset AND status = OLD.status;
    INSERT INTO counts VALUES (NEW.dataset, NEW.status, 1, (NEW.size <= 10000000000000) * NEW.size, NEW.bytes_done)
        ON CONFLICT DO UPDATE SET files = files + 1, bytes = bytes + excluded.bytes,
                                  bytes_done = bytes_done + excluded.bytes_done;
END;

-- The transitions of core/status.py, and no others. A CASE, as a long IN builds a table at every change.
CREATE TRIGGER files_transition BEFORE UPDATE OF status ON files
WHEN OLD.status <> NEW.status AND NOT CASE NEW.status
    WHEN 'processing' THEN OLD.status = 'pending' OR OLD.status = 'failed_download' OR OLD.status = 'failed_upload'
    WHEN 'completed' THEN TRUE
    WHEN 'pending' THEN TRUE
    WHEN 'permanent_failure' THEN OLD.status <> 'completed'
    ELSE OLD.status = 'processing' END
BEGIN
    SELECT RAISE(ABORT, 'no such transition of a file');
END;

-- A row a dataset and month (2024-01) that was listed to its end, and when last. Bit n - 1 of `days`: a file of day n was
-- listed, chosen or not. A row with an empty month: the dataset was listed as a whole, so months without a row have no file.
CREATE TABLE listings (
    dataset   TEXT NOT NULL,
    month     TEXT NOT NULL,
    days      INTEGER NOT NULL,
    listed_ms INTEGER NOT NULL,
    PRIMARY KEY (dataset, month)
) STRICT, WITHOUT ROWID;

-- What a watch found and did not queue, because it is more than POLYB2_MAX_PLAN_BYTES and no one was there to ask: until a
-- discovery gets --yes, or the source lists something else. `replaces`: the ledger has an older revision of the file.
CREATE TABLE held (
    key         TEXT PRIMARY KEY,
    dataset     TEXT NOT NULL,
    date        TEXT NOT NULL,
    size        INTEGER NOT NULL,
    source_etag TEXT NOT NULL,
    replaces    INTEGER NOT NULL CHECK (replaces IN (0, 1))
) STRICT, WITHOUT ROWID;

-- The datasets that a watch looked after: files dated `since` or later are its to queue, whenever they come.
CREATE TABLE followed (
    dataset TEXT PRIMARY KEY,
    since   TEXT NOT NULL
) STRICT, WITHOUT ROWID;

-- What the owner was notified of, so that a restart does not say it again: a row a notice, by a name that says what it is
-- about, such as `late us_stocks_sip/day_aggs_v1 2024-01-02`. `sender`: it is being sent by that process; null once it was.
CREATE TABLE notices (
    name     TEXT PRIMARY KEY,
    noted_ms INTEGER NOT NULL,
    sender   TEXT
) STRICT, WITHOUT ROWID;

-- What one worker at a time does for all, such as listing the source: `turn` counts the times that it was taken, `worker`
-- took it last, and made_ms is null while it is being made, for as long as the lease of that worker holds. `day`: the
-- day that it is made for, where once a day is enough; `problem`: why it went wrong, in words.
CREATE TABLE rounds (
    name    TEXT PRIMARY KEY,
    turn    INTEGER NOT NULL,
    worker  INTEGER NOT NULL,
    day     TEXT,
    made_ms INTEGER,
    due_ms  INTEGER,
    problem TEXT,
    CHECK ((made_ms IS NULL) = (due_ms IS NULL))
) STRICT, WITHOUT ROWID;
