-- The statements that SQLite needs in its own words; common.sql announces them and says what they mean.

-- define: live
-- By the boot's monotonic clock, or by the wall clock where the boot is another one: SQLite has no clock of its own to trust.
(w.ended_ms IS NULL AND CASE WHEN w.boot_id = :boot_id
    THEN w.lease_mono_ms BETWEEN :mono_ms AND :mono_ms + w.lease_ms
    ELSE w.lease_wall_ms BETWEEN :now_ms AND :now_ms + w.lease_ms END)

-- define: by(index)
-- A statement that could not use its index any more fails, and does not become slow.
INDEXED BY {index}

-- define: plain(column)
+{column}

-- define: keys_in(array)
SELECT value FROM json_each({array})

-- define: ids_in(array)
SELECT value FROM json_each({array})

-- define: mirrored
-- What `d`, an object of the array :done, says that the target holds.
dest_etag = json_extract(d.value, '$.dest_etag'), dest_version_id = json_extract(d.value, '$.dest_version_id'),
    verification = json_extract(d.value, '$.verification')

-- define: mirrored_revision
mirrored_revision = json_extract(d.value, '$.revision'), mirrored_source_etag = json_extract(d.value, '$.etag'),
    mirrored_size = json_extract(d.value, '$.size'), completed_at_ms = :now_ms

-- name: worker_register
-- Differs: the lease is kept by the clocks of this host.
INSERT INTO workers (worker_id, boot_id, started_ms, lease_ms, lease_mono_ms, lease_wall_ms)
VALUES (:worker_id, :boot_id, :now_ms, :lease_ms, :mono_ms + :lease_ms, :now_ms + :lease_ms)
RETURNING id;

-- name: worker_renew
-- Differs: the lease is kept by the clocks of this host.
UPDATE workers AS w SET lease_mono_ms = :mono_ms + w.lease_ms, lease_wall_ms = :now_ms + w.lease_ms
WHERE w.id = :worker AND {live};

-- name: claim_best
-- Differs: there is one writer, so rows need no lock; the order of the join is given by CROSS JOIN.
SELECT id FROM (
    SELECT id, resumable, date, size FROM (
        SELECT id, resumable, date, size FROM files INDEXED BY files_pending
        WHERE status = 'pending' ORDER BY resumable DESC, date DESC, size, id LIMIT :count)
    UNION ALL
    SELECT id, resumable, date, size FROM (
        SELECT id, resumable, date, size FROM files INDEXED BY files_waiting
        WHERE status IN ('failed_download', 'failed_upload') AND next_attempt_ms <= :now_ms
        ORDER BY next_attempt_ms LIMIT 64)
    UNION ALL
    SELECT id, resumable, date, size FROM (
        SELECT id, resumable, date, size FROM files INDEXED BY files_waiting
        WHERE status IN ('failed_download', 'failed_upload') AND next_attempt_ms > :now_ms + :backoff_max_ms LIMIT 1)
    UNION ALL
    SELECT id, resumable, date, size FROM (
        SELECT f.id, f.resumable, f.date, f.size
        FROM workers AS w CROSS JOIN files AS f INDEXED BY files_held ON f.worker = w.id
        WHERE NOT {live})
) ORDER BY resumable DESC, date DESC, size, id LIMIT :count;

-- name: claim_note_datasets
-- Differs: json_each.
UPDATE datasets SET claimed_seq = json_extract(c.value, '$[1]') FROM json_each(:claimed) AS c
WHERE datasets.dataset = json_extract(c.value, '$[0]');

-- name: fence
-- Differs: json_each, and there is one writer, so that what holds now still holds at the end of the transaction.
SELECT f.id, f.revision, f.parts_done > f.parts_mark AS progressed
FROM json_each(:claims) AS c CROSS JOIN files AS f ON f.id = json_extract(c.value, '$[0]')
     CROSS JOIN workers AS w ON w.id = f.worker
WHERE f.attempt = json_extract(c.value, '$[1]') AND f.worker = json_extract(c.value, '$[2]') AND f.status = 'processing'
  AND {live};

-- name: attempts_insert
-- Differs: json_each.
INSERT INTO attempts (file_id, attempt, revision, token, worker_id, started_ms)
SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]'), json_extract(value, '$[2]'), json_extract(value, '$[3]'),
       :worker_id, :now_ms
FROM json_each(:attempts);

-- name: attempts_completed
-- Differs: json_each.
UPDATE attempts SET ended_ms = :now_ms, outcome = 'completed' FROM json_each(:done) AS d
WHERE attempts.file_id = json_extract(d.value, '$.file_id') AND attempts.attempt = json_extract(d.value, '$.attempt');

-- name: uploads_done
-- Differs: json_each.
UPDATE uploads SET state = 'done'
WHERE state IN ('open', 'completing') AND file_id IN (SELECT json_extract(value, '$.file_id') FROM json_each(:done));

-- name: settle_complete
-- Differs: json_each.
UPDATE files SET status = 'completed', reason = NULL, error_message = NULL, forbidden = 0,
    worker = NULL, resumable = 0, bytes_done = files.size,
    parts_total = coalesce(parts_total, 1), parts_done = coalesce(parts_total, 1), {mirrored}, {mirrored_revision}
FROM json_each(:done) AS d WHERE files.id = json_extract(d.value, '$.file_id');

-- name: note_mirrored
-- Differs: json_each.
UPDATE files SET {mirrored}, {mirrored_revision}
FROM json_each(:done) AS d WHERE files.id = json_extract(d.value, '$.file_id');

-- name: files_insert
-- Differs: json_each.
INSERT INTO files (key, dataset, date, size, source_etag, source_last_modified_ms, dest_key, discovered_at_ms, queued_at_ms)
SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]'), json_extract(value, '$[2]'), json_extract(value, '$[3]'),
       json_extract(value, '$[4]'), json_extract(value, '$[5]'), :dest_prefix || json_extract(value, '$[0]'), :now_ms, :now_ms
FROM json_each(:files) WHERE TRUE RETURNING id;

-- name: files_adopt
-- Differs: json_each.
UPDATE files SET status = 'completed', bytes_done = size, completed_at_ms = :now_ms, {mirrored},
    mirrored_revision = files.revision, mirrored_source_etag = source_etag, mirrored_size = size
FROM json_each(:done) AS d WHERE files.id = json_extract(d.value, '$.file_id');

-- name: files_requeue
-- Differs: json_each.
UPDATE files SET status = 'pending', reason = NULL, error_message = NULL, retry_count = 0, forbidden = 0,
    next_attempt_ms = NULL, worker_id = NULL, parts_mark = 0, queued_at_ms = {queued},
    bytes_done = CASE WHEN status = 'completed' THEN 0 ELSE bytes_done END,
    parts_done = CASE WHEN status = 'completed' THEN 0 ELSE parts_done END
FROM json_each(:files) AS s
WHERE files.id = json_extract(s.value, '$[0]') AND files.status = json_extract(s.value, '$[1]')
  AND files.status NOT IN ('processing', 'pending') RETURNING files.id;

-- name: revisions_mirrored
-- Differs: json_each.
UPDATE revisions SET mirrored_at_ms = :now_ms, {mirrored}
FROM json_each(:done) AS d
WHERE revisions.file_id = json_extract(d.value, '$.file_id') AND revisions.revision = json_extract(d.value, '$.revision');

-- name: held_set
-- Differs: json_each; WHERE TRUE tells the parser that ON does not begin a join.
INSERT INTO held (key, dataset, date, size, source_etag, source_last_modified_ms, replaces, held_ms)
SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]'), json_extract(value, '$[2]'), json_extract(value, '$[3]'),
       json_extract(value, '$[4]'), json_extract(value, '$[5]'), json_extract(value, '$[6]'), :now_ms
FROM json_each(:files) WHERE TRUE
ON CONFLICT DO UPDATE SET size = excluded.size, source_etag = excluded.source_etag, replaces = excluded.replaces,
    source_last_modified_ms = excluded.source_last_modified_ms;

-- name: held_summary
-- Differs: total() adds without overflow.
SELECT count(*) AS files, total(size) AS bytes, coalesce(sum(replaces), 0) AS replaced, max(date) AS last FROM held;
