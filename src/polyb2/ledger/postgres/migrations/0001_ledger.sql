-- The ledger in PostgreSQL, version 101: the tables of sqlite/migrations/0001_ledger.sql, which says what each is for. What
-- differs has its reason here. Text is compared by its bytes (COLLATE "C"): stretches of keys and pages would else follow the
-- locale of the database. There is no foreign key to `workers`: each claim would take a lock on that one row.

-- CREATE SCHEMA IF NOT EXISTS would ask for the right to create one even where it exists.
DO $$ BEGIN
    IF to_regnamespace('polyb2') IS NULL THEN
        CREATE SCHEMA polyb2;
    END IF;
END $$;

-- The version of the schema, and the oldest version whose program may write to it.
CREATE TABLE polyb2.ledger (
    version integer NOT NULL,
    writers integer NOT NULL
);
INSERT INTO polyb2.ledger VALUES (101, 101);

-- The clock of the ledger, epoch milliseconds. now() is when the transaction began, and waits for locks make it lie.
CREATE FUNCTION polyb2.now_ms() RETURNS bigint LANGUAGE sql VOLATILE PARALLEL SAFE
    AS $$ SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint $$;

-- One row a writing connection: the number of its last transaction. An answer to COMMIT that was lost is looked up here.
CREATE TABLE polyb2.writers (
    id       text COLLATE "C" PRIMARY KEY,
    number   bigint NOT NULL,
    noted_ms bigint NOT NULL
) WITH (fillfactor = 50);

CREATE TABLE polyb2.facts (
    name  text COLLATE "C" PRIMARY KEY,
    value text NOT NULL
);

-- The lease is on the clock of the server, which grants and judges it: hosts need not agree on the time.
CREATE TABLE polyb2.workers (
    id            bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    worker_id     text NOT NULL,
    host          text NOT NULL,
    version       text NOT NULL,
    share         integer NOT NULL DEFAULT 0,
    started_ms    bigint NOT NULL,
    lease_ms      bigint NOT NULL CHECK (lease_ms > 0),
    lease_wall_ms bigint NOT NULL,
    ended_ms      bigint
) WITH (fillfactor = 50);

CREATE TABLE polyb2.loads (
    worker          bigint PRIMARY KEY REFERENCES polyb2.workers (id) ON DELETE CASCADE,
    streams_in_use  integer NOT NULL,
    streams_allowed integer NOT NULL,
    source_rps      double precision,
    target_rps      double precision
) WITH (fillfactor = 50);

CREATE TABLE polyb2.datasets (
    dataset text COLLATE "C" PRIMARY KEY
);

CREATE TABLE polyb2.turns (
    worker      bigint NOT NULL REFERENCES polyb2.workers (id) ON DELETE CASCADE,
    dataset     text COLLATE "C" NOT NULL,
    claimed_seq bigint NOT NULL,
    PRIMARY KEY (worker, dataset)
) WITH (fillfactor = 70);

CREATE TABLE polyb2.files (
    id                      bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    key                     text COLLATE "C" NOT NULL UNIQUE,
    dataset                 text COLLATE "C" NOT NULL,
    date                    text COLLATE "C" NOT NULL,
    size                    bigint NOT NULL CHECK (size >= 0),
    source_etag             text NOT NULL,
    source_last_modified_ms bigint NOT NULL,
    revision                bigint NOT NULL DEFAULT 1 CHECK (revision >= 1),
    status                  text COLLATE "C" NOT NULL DEFAULT 'pending' CHECK (status IN
                                ('pending', 'processing', 'completed', 'failed_download', 'failed_upload',
                                 'permanent_failure', 'not_entitled')),
    reason                  text,
    error_message           text,
    attempt                 bigint NOT NULL DEFAULT 0,
    retry_count             bigint NOT NULL DEFAULT 0,
    forbidden               smallint NOT NULL DEFAULT 0 CHECK (forbidden IN (0, 1)),
    next_attempt_ms         bigint,
    worker                  bigint,
    worker_id               text,
    resumable               smallint NOT NULL DEFAULT 0 CHECK (resumable IN (0, 1)),
    bytes_done              bigint NOT NULL DEFAULT 0,
    parts_total             bigint,
    parts_done              bigint NOT NULL DEFAULT 0,
    parts_mark              bigint NOT NULL DEFAULT 0,
    dest_key                text NOT NULL,
    dest_etag               text,
    dest_version_id         text,
    verification            text CHECK (verification IN ('etag', 'parts', 'readback')),
    mirrored_revision       bigint,
    mirrored_source_etag    text,
    mirrored_size           bigint,
    discovered_at_ms        bigint NOT NULL,
    queued_at_ms            bigint NOT NULL,
    started_at_ms           bigint,
    completed_at_ms         bigint,
    CHECK ((status = 'processing') = (worker IS NOT NULL)),
    CHECK ((status IN ('failed_download', 'failed_upload')) = (next_attempt_ms IS NOT NULL)),
    CHECK (status <> 'completed' OR (mirrored_revision IS NOT DISTINCT FROM revision AND verification IS NOT NULL))
) WITH (fillfactor = 75, autovacuum_vacuum_scale_factor = 0.01, autovacuum_analyze_scale_factor = 0.02);

CREATE INDEX files_pending ON polyb2.files (resumable DESC, date DESC, size, id) WHERE status = 'pending';
CREATE INDEX files_pending_dataset ON polyb2.files (dataset, resumable DESC, date DESC, size, id) WHERE status = 'pending';
CREATE INDEX files_waiting ON polyb2.files (next_attempt_ms) WHERE status IN ('failed_download', 'failed_upload');
CREATE INDEX files_waiting_dataset ON polyb2.files (dataset, next_attempt_ms)
    WHERE status IN ('failed_download', 'failed_upload');
CREATE INDEX files_held ON polyb2.files (worker) WHERE worker IS NOT NULL;
CREATE INDEX files_queued ON polyb2.files (dataset, queued_at_ms)
    WHERE status IN ('pending', 'failed_download', 'failed_upload');
CREATE INDEX files_status ON polyb2.files (status, key);

CREATE TABLE polyb2.revisions (
    file_id                 bigint NOT NULL REFERENCES polyb2.files (id) ON DELETE CASCADE,
    revision                bigint NOT NULL,
    source_etag             text NOT NULL,
    size                    bigint NOT NULL,
    source_last_modified_ms bigint NOT NULL,
    first_seen_ms           bigint NOT NULL,
    mirrored_at_ms          bigint,
    dest_etag               text,
    dest_version_id         text,
    verification            text,
    PRIMARY KEY (file_id, revision)
);

CREATE TABLE polyb2.attempts (
    file_id       bigint NOT NULL REFERENCES polyb2.files (id) ON DELETE CASCADE,
    attempt       bigint NOT NULL,
    revision      bigint NOT NULL,
    worker_id     text NOT NULL,
    token         text NOT NULL,
    started_ms    bigint NOT NULL,
    ended_ms      bigint,
    outcome       text,
    reason        text,
    error_message text,
    PRIMARY KEY (file_id, attempt)
) WITH (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.01);

CREATE INDEX attempts_failed ON polyb2.attempts (ended_ms)
    WHERE outcome IN ('fail_download', 'fail_upload', 'park', 'refuse');

CREATE TABLE polyb2.uploads (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    file_id    bigint REFERENCES polyb2.files (id) ON DELETE SET NULL,
    revision   bigint NOT NULL,
    dest_key   text NOT NULL,
    upload_id  text NOT NULL UNIQUE,
    token      text NOT NULL,
    size       bigint NOT NULL,
    part_bytes bigint NOT NULL CHECK (part_bytes > 0),
    proof      text NOT NULL CHECK (proof IN ('etag', 'parts', 'readback')),
    state      text NOT NULL CHECK (state IN ('open', 'completing', 'abandoned', 'done'))
) WITH (fillfactor = 80);
CREATE UNIQUE INDEX uploads_live ON polyb2.uploads (file_id) WHERE state IN ('open', 'completing');
-- With the id, as SQLite's has it by itself: the last upload of a file.
CREATE INDEX uploads_file ON polyb2.uploads (file_id, id);
CREATE INDEX uploads_abandoned ON polyb2.uploads (id) WHERE state = 'abandoned';

CREATE TABLE polyb2.parts (
    upload  bigint NOT NULL REFERENCES polyb2.uploads (id) ON DELETE CASCADE,
    number  integer NOT NULL,
    length  bigint NOT NULL,
    etag    text NOT NULL,
    md5     text,
    PRIMARY KEY (upload, number)
);

CREATE TABLE polyb2.throughput (
    second bigint NOT NULL,
    worker bigint NOT NULL,
    bytes  bigint NOT NULL,
    PRIMARY KEY (second, worker)
) WITH (fillfactor = 50);
CREATE INDEX throughput_worker ON polyb2.throughput (worker, second);

-- Each server process adds to rows of its own, `writer`, so that no transaction waits for another's; they are summed by
-- readers.
CREATE TABLE polyb2.counts (
    writer     integer NOT NULL,
    dataset    text COLLATE "C" NOT NULL,
    status     text COLLATE "C" NOT NULL,
    files      bigint NOT NULL,
    bytes      bigint NOT NULL,
    bytes_done bigint NOT NULL,
    PRIMARY KEY (writer, dataset, status)
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_threshold = 200);

-- A statement's changes are counted at its end, so that a page of new files is one change of a few rows.
CREATE FUNCTION polyb2.count_new() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO polyb2.revisions (file_id, revision, source_etag, size, source_last_modified_ms, first_seen_ms)
        SELECT id, revision, source_etag, size, source_last_modified_ms, discovered_at_ms FROM new_files;
    INSERT INTO polyb2.datasets (dataset) SELECT DISTINCT dataset FROM new_files ORDER BY dataset ON CONFLICT DO NOTHING;
    INSERT INTO polyb2.counts AS c (writer, dataset, status, files, bytes, bytes_done)
        SELECT pg_backend_pid(), dataset, status, count(*), sum(CASE WHEN size <= 10000000000000 THEN size ELSE 0 END),
               sum(bytes_done)
        FROM new_files GROUP BY dataset, status
        ON CONFLICT (writer, dataset, status) DO UPDATE SET files = c.files + excluded.files,
            bytes = c.bytes + excluded.bytes, bytes_done = c.bytes_done + excluded.bytes_done;
    RETURN NULL;
END $$;

CREATE FUNCTION polyb2.count_deleted() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO polyb2.counts AS c (writer, dataset, status, files, bytes, bytes_done)
        SELECT pg_backend_pid(), dataset, status, -count(*), -sum(CASE WHEN size <= 10000000000000 THEN size ELSE 0 END),
               -sum(bytes_done)
        FROM old_files GROUP BY dataset, status
        ON CONFLICT (writer, dataset, status) DO UPDATE SET files = c.files + excluded.files,
            bytes = c.bytes + excluded.bytes, bytes_done = c.bytes_done + excluded.bytes_done;
    RETURN NULL;
END $$;

CREATE FUNCTION polyb2.count_changed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO polyb2.counts AS c (writer, dataset, status, files, bytes, bytes_done)
        SELECT pg_backend_pid(), dataset, status, sum(files), sum(CASE WHEN size <= 10000000000000 THEN files * size ELSE 0 END),
               sum(files * bytes_done)
        FROM (SELECT dataset, status, size, bytes_done, 1 AS files FROM new_files
              UNION ALL SELECT dataset, status, size, bytes_done, -1 FROM old_files) AS changed
        GROUP BY dataset, status
        HAVING sum(files) <> 0 OR sum(CASE WHEN size <= 10000000000000 THEN files * size ELSE 0 END) <> 0
            OR sum(files * bytes_done) <> 0
        ON CONFLICT (writer, dataset, status) DO UPDATE SET files = c.files + excluded.files,
            bytes = c.bytes + excluded.bytes, bytes_done = c.bytes_done + excluded.bytes_done;
    RETURN NULL;
END $$;

CREATE TRIGGER files_new AFTER INSERT ON polyb2.files
    REFERENCING NEW TABLE AS new_files FOR EACH STATEMENT EXECUTE FUNCTION polyb2.count_new();
CREATE TRIGGER files_count_delete AFTER DELETE ON polyb2.files
    REFERENCING OLD TABLE AS old_files FOR EACH STATEMENT EXECUTE FUNCTION polyb2.count_deleted();
CREATE TRIGGER files_count_update AFTER UPDATE ON polyb2.files
    REFERENCING OLD TABLE AS old_files NEW TABLE AS new_files FOR EACH STATEMENT EXECUTE FUNCTION polyb2.count_changed();

-- What server processes that ended counted becomes one row of process 0; with each new worker, as that is seldom.
CREATE FUNCTION polyb2.fold() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    WITH folded AS (
        DELETE FROM polyb2.counts WHERE (writer, dataset, status) IN (
            SELECT writer, dataset, status FROM polyb2.counts
            WHERE writer <> 0 AND writer NOT IN (SELECT pid FROM pg_stat_activity)
            ORDER BY writer, dataset, status FOR UPDATE SKIP LOCKED)
        RETURNING dataset, status, files, bytes, bytes_done)
    INSERT INTO polyb2.counts AS c (writer, dataset, status, files, bytes, bytes_done)
    SELECT 0, dataset, status, sum(files), sum(bytes), sum(bytes_done) FROM folded GROUP BY dataset, status
    ORDER BY dataset, status
    ON CONFLICT (writer, dataset, status) DO UPDATE SET files = c.files + excluded.files,
        bytes = c.bytes + excluded.bytes, bytes_done = c.bytes_done + excluded.bytes_done;
    DELETE FROM polyb2.writers WHERE noted_ms < polyb2.now_ms() - 86400000;
    RETURN NULL;
END $$;

CREATE TRIGGER workers_fold AFTER INSERT ON polyb2.workers FOR EACH STATEMENT EXECUTE FUNCTION polyb2.fold();

CREATE FUNCTION polyb2.refuse_transition() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'no such transition of a file' USING ERRCODE = 'integrity_constraint_violation';
END $$;

CREATE TRIGGER files_transition BEFORE UPDATE OF status ON polyb2.files FOR EACH ROW
WHEN (OLD.status <> NEW.status AND NOT CASE NEW.status
    WHEN 'processing' THEN OLD.status = 'pending' OR OLD.status = 'failed_download' OR OLD.status = 'failed_upload'
    WHEN 'completed' THEN TRUE
    WHEN 'pending' THEN TRUE
    WHEN 'permanent_failure' THEN OLD.status <> 'completed'
    ELSE OLD.status = 'processing' END)
EXECUTE FUNCTION polyb2.refuse_transition();

CREATE TABLE polyb2.listings (
    dataset   text COLLATE "C" NOT NULL,
    month     text COLLATE "C" NOT NULL,
    days      bigint NOT NULL,
    listed_ms bigint NOT NULL,
    PRIMARY KEY (dataset, month)
);

CREATE TABLE polyb2.held (
    key                     text COLLATE "C" PRIMARY KEY,
    dataset                 text COLLATE "C" NOT NULL,
    date                    text COLLATE "C" NOT NULL,
    size                    bigint NOT NULL,
    source_etag             text NOT NULL,
    replaces                smallint NOT NULL CHECK (replaces IN (0, 1))
);

CREATE TABLE polyb2.followed (
    dataset text COLLATE "C" PRIMARY KEY,
    since   text COLLATE "C" NOT NULL
);

CREATE TABLE polyb2.notices (
    name     text COLLATE "C" PRIMARY KEY,
    noted_ms bigint NOT NULL,
    sender   text
);

CREATE TABLE polyb2.rounds (
    name    text COLLATE "C" PRIMARY KEY,
    turn    bigint NOT NULL,
    worker  bigint NOT NULL,
    day     text COLLATE "C",
    made_ms bigint,
    due_ms  bigint,
    problem text,
    CHECK ((made_ms IS NULL) = (due_ms IS NULL))
) WITH (fillfactor = 50);
