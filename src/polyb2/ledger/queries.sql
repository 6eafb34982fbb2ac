-- Every statement of the ledger, by name. ":name" are parameters; {live} and {dead} stand for the predicates defined first.
-- tests/ledger/test_schema.py prepares each and checks that the hot ones use their index.

-- define: live
-- A worker `w` whose lease stands: by the boot's monotonic clock, or by the wall clock where the boot is another one.
(w.ended_ms IS NULL AND CASE WHEN w.boot_id = :boot_id
    THEN w.lease_mono_ms BETWEEN :mono_ms AND :mono_ms + w.lease_ms
    ELSE w.lease_wall_ms BETWEEN :wall_ms AND :wall_ms + w.lease_ms END)

-- define: queued
-- Since when a row that enters the queue waits: from now, unless it waited before.
CASE WHEN status IN ('completed', 'permanent_failure', 'not_entitled') THEN :now_ms ELSE queued_at_ms END

-- define: unfinished
-- Nobody works on the file, and it is not as the user wants it: what ends with `source_gone` where it is no longer listed.
-- The plus keeps the index of statuses out of it: the keys are to be walked in their order.
+status IN ('pending', 'failed_download', 'failed_upload', 'not_entitled')

-- name: meta_get
SELECT value FROM meta WHERE name = :name;

-- name: meta_set
INSERT INTO meta (name, value) VALUES (:name, :value) ON CONFLICT DO UPDATE SET value = excluded.value;

-- name: meta_delete
DELETE FROM meta WHERE name = :name;

-- name: has_obligations
-- Files, or uploads that wait for their abort: what binds a ledger to its pair.
SELECT EXISTS (SELECT 1 FROM files) OR EXISTS (SELECT 1 FROM uploads WHERE state <> 'done') AS found;

-- name: worker_register
INSERT INTO workers (worker_id, boot_id, started_ms, lease_ms, lease_mono_ms, lease_wall_ms)
VALUES (:worker_id, :boot_id, :wall_ms, :lease_ms, :mono_ms + :lease_ms, :wall_ms + :lease_ms)
RETURNING id;

-- name: worker_renew
-- Only a lease that still stands can be renewed: one that ran out is lost, even if nobody took the rows yet.
UPDATE workers AS w SET lease_mono_ms = :mono_ms + w.lease_ms, lease_wall_ms = :wall_ms + w.lease_ms
WHERE w.id = :worker AND {live};

-- name: worker_live
SELECT 1 AS live FROM workers AS w WHERE w.id = :worker AND {live};

-- name: worker_end
UPDATE workers SET ended_ms = :wall_ms WHERE id = :worker AND ended_ms IS NULL;

-- name: workers_prune
-- Workers long gone that no row names any more.
DELETE FROM workers AS w WHERE w.lease_wall_ms < :before_ms AND NOT {live}
AND NOT EXISTS (SELECT 1 FROM files INDEXED BY files_held WHERE worker = w.id);

-- name: workers_live
SELECT w.worker_id, w.started_ms, l.streams_in_use, l.streams_allowed, l.source_rps, l.target_rps
FROM workers AS w LEFT JOIN loads AS l ON l.worker = w.id WHERE {live} ORDER BY w.id;

-- name: load_set
INSERT OR REPLACE INTO loads (worker, streams_in_use, streams_allowed, source_rps, target_rps)
VALUES (:worker, :streams_in_use, :streams_allowed, :source_rps, :target_rps);

-- name: known_by_keys
-- The rows of a JSON array of keys.
SELECT id, key, status, reason, size, source_etag, source_last_modified_ms, revision, mirrored_revision,
       mirrored_source_etag, mirrored_size, dest_etag
FROM files WHERE key IN (SELECT value FROM json_each(:keys));

-- name: known_between
SELECT id, key, status, reason, size, source_etag, source_last_modified_ms, revision, mirrored_revision,
       mirrored_source_etag, mirrored_size, dest_etag
FROM files WHERE key > :after AND key <= :last ORDER BY key LIMIT :limit;

-- name: unfinished_between
SELECT key FROM files WHERE key > :after AND key <= :last AND {unfinished} ORDER BY key LIMIT :limit;

-- name: files_last_id
SELECT coalesce(max(id), 0) AS id FROM files;

-- name: files_insert
-- New files, a JSON array of [key, dataset, date, size, etag, last_modified_ms]; their ids follow on the last one. One
-- statement for a page of them: a statement each costs twice as much, most of it around the triggers that keep the counts.
INSERT INTO files (key, dataset, date, size, source_etag, source_last_modified_ms, dest_key, discovered_at_ms, queued_at_ms)
SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]'), json_extract(value, '$[2]'), json_extract(value, '$[3]'),
       json_extract(value, '$[4]'), json_extract(value, '$[5]'), :dest_prefix || json_extract(value, '$[0]'), :now_ms, :now_ms
FROM json_each(:files);

-- name: file_revise
-- A newer revision: back to pending with nothing charged, unless a worker holds the row; then it queues when that ends.
UPDATE files SET revision = revision + 1, size = :size, source_etag = :etag, source_last_modified_ms = :last_modified_ms,
    status = 'pending', reason = NULL, error_message = NULL, retry_count = 0, forbidden = 0, next_attempt_ms = NULL,
    resumable = 0, bytes_done = 0, parts_total = NULL, parts_done = 0, parts_mark = 0,
    worker = NULL, worker_id = NULL, queued_at_ms = {queued}
WHERE id = :file_id AND status <> 'processing' RETURNING revision;

-- name: file_revise_held
-- Nothing is charged to the new revision, whatever comes of the attempt at the old one.
UPDATE files SET revision = revision + 1, size = :size, source_etag = :etag, source_last_modified_ms = :last_modified_ms,
    retry_count = 0, forbidden = 0, parts_mark = 0
WHERE id = :file_id AND status = 'processing' RETURNING revision;

-- name: file_touch
UPDATE files SET source_last_modified_ms = :last_modified_ms WHERE id = :file_id;

-- name: files_adopt
-- New files that the target holds already; as for revisions_mirrored.
UPDATE files SET status = 'completed', bytes_done = size, completed_at_ms = :wall_ms,
    dest_etag = json_extract(d.value, '$.dest_etag'), dest_version_id = json_extract(d.value, '$.dest_version_id'),
    verification = json_extract(d.value, '$.verification'), mirrored_revision = files.revision,
    mirrored_source_etag = source_etag, mirrored_size = size
FROM json_each(:done) AS d WHERE files.id = json_extract(d.value, '$.file_id');

-- name: file_gone
UPDATE files SET status = 'permanent_failure', reason = 'source_gone', next_attempt_ms = NULL, resumable = 0,
    bytes_done = 0, parts_total = NULL, parts_done = 0,
    error_message = 'the source no longer lists this file; it is queued again when it is listed again'
WHERE id = :file_id AND {unfinished};

-- name: files_requeue
-- retry, a relisted key, verify --repair: to be done, at once, with nothing charged. A live upload is kept. Of an array of
-- [file_id, status]: a row that has another status by now moved on since it was looked at.
UPDATE files SET status = 'pending', reason = NULL, error_message = NULL, retry_count = 0, forbidden = 0,
    next_attempt_ms = NULL, worker_id = NULL, parts_mark = 0, queued_at_ms = {queued},
    bytes_done = CASE WHEN status = 'completed' THEN 0 ELSE bytes_done END,
    parts_done = CASE WHEN status = 'completed' THEN 0 ELSE parts_done END
FROM json_each(:files) AS s
WHERE files.id = json_extract(s.value, '$[0]') AND files.status = json_extract(s.value, '$[1]')
  AND files.status NOT IN ('processing', 'pending') RETURNING files.id;

-- name: files_restore
-- unqueue of re-published files: what the target holds is what the row says again. Not of one that verify --repair
-- queued in the revision that is mirrored: what the target holds of that is known to be wrong.
UPDATE files SET status = 'completed', reason = NULL, error_message = NULL, retry_count = 0, forbidden = 0,
    next_attempt_ms = NULL, resumable = 0, bytes_done = mirrored_size, parts_total = NULL, parts_done = 0,
    revision = mirrored_revision, source_etag = mirrored_source_etag, size = mirrored_size,
    source_last_modified_ms = (SELECT r.source_last_modified_ms FROM revisions AS r
                               WHERE r.file_id = files.id AND r.revision = files.mirrored_revision)
WHERE id IN (SELECT value FROM json_each(:files)) AND mirrored_revision < revision
  AND +status IN ('pending', 'failed_download', 'failed_upload') RETURNING id;

-- name: files_delete
DELETE FROM files WHERE id IN (SELECT value FROM json_each(:files)) AND mirrored_revision IS NULL
  AND +status IN ('pending', 'failed_download', 'failed_upload');

-- name: revisions_first
-- The first revision of the files that came after the one with the id :last_id.
INSERT INTO revisions (file_id, revision, source_etag, size, source_last_modified_ms, first_seen_ms)
SELECT id, revision, source_etag, size, source_last_modified_ms, :now_ms FROM files WHERE id > :last_id;

-- name: revision_insert
INSERT INTO revisions (file_id, revision, source_etag, size, source_last_modified_ms, first_seen_ms)
VALUES (:file_id, :revision, :etag, :size, :last_modified_ms, :now_ms);

-- name: revisions_mirrored
-- What the target holds: an array of objects with file_id, revision, dest_etag, dest_version_id, verification, and more.
UPDATE revisions SET mirrored_at_ms = :wall_ms, dest_etag = json_extract(d.value, '$.dest_etag'),
    dest_version_id = json_extract(d.value, '$.dest_version_id'), verification = json_extract(d.value, '$.verification')
FROM json_each(:done) AS d
WHERE revisions.file_id = json_extract(d.value, '$.file_id') AND revisions.revision = json_extract(d.value, '$.revision');

-- name: revisions_after
-- What is newer than the revision that is mirrored, of files that the target holds.
DELETE FROM revisions WHERE file_id IN (SELECT value FROM json_each(:files))
  AND revision > (SELECT f.mirrored_revision FROM files AS f WHERE f.id = revisions.file_id);

-- name: claim_seq
SELECT max(claimed_seq) AS seq FROM datasets;

-- name: claim_best
-- The best :count of: pending in claim order; failed and due (the 64 longest due); left behind by a dead worker.
-- A next attempt further off than any back-off can be is a clock that was stepped back: due as well.
SELECT id FROM (
    SELECT id, resumable, date, size FROM (
        SELECT id, resumable, date, size FROM files INDEXED BY files_pending
        WHERE status = 'pending' ORDER BY resumable DESC, date DESC, size, id LIMIT :count)
    UNION ALL
    SELECT id, resumable, date, size FROM (
        SELECT id, resumable, date, size FROM files INDEXED BY files_waiting
        WHERE status IN ('failed_download', 'failed_upload') AND next_attempt_ms <= :wall_ms
        ORDER BY next_attempt_ms LIMIT 64)
    UNION ALL
    SELECT id, resumable, date, size FROM (
        SELECT id, resumable, date, size FROM files INDEXED BY files_waiting
        WHERE status IN ('failed_download', 'failed_upload') AND next_attempt_ms > :wall_ms + :backoff_max_ms LIMIT 1)
    UNION ALL
    SELECT id, resumable, date, size FROM (
        SELECT f.id, f.resumable, f.date, f.size
        FROM workers AS w CROSS JOIN files AS f INDEXED BY files_held ON f.worker = w.id
        WHERE NOT {live})
) ORDER BY resumable DESC, date DESC, size, id LIMIT :count;

-- name: claim_fair
-- Every fourth claim: the best pending file, or else the longest due one, of the dataset whose last claim is longest ago.
SELECT coalesce(
    (SELECT f.id FROM files AS f INDEXED BY files_pending_dataset WHERE f.status = 'pending' AND f.dataset = d.dataset
     ORDER BY f.resumable DESC, f.date DESC, f.size, f.id LIMIT 1),
    (SELECT f.id FROM files AS f INDEXED BY files_waiting_dataset
     WHERE f.status IN ('failed_download', 'failed_upload') AND f.dataset = d.dataset AND f.next_attempt_ms <= :wall_ms
     ORDER BY f.next_attempt_ms LIMIT 1)) AS id
FROM datasets AS d WHERE id IS NOT NULL ORDER BY d.claimed_seq LIMIT 1;

-- name: claim_take
-- Only receipts of this very attempt will excuse it: those that are there already are marked.
UPDATE files SET status = 'processing', attempt = attempt + 1, worker = :worker, worker_id = :worker_id,
    next_attempt_ms = NULL, started_at_ms = :wall_ms, parts_mark = max(parts_mark, parts_done)
WHERE id IN (SELECT value FROM json_each(:files))
RETURNING id, key, dataset, date, size, source_etag, source_last_modified_ms, revision, attempt, retry_count, forbidden;

-- name: claim_note_datasets
-- The number of its last claim, by dataset, as a JSON object.
UPDATE datasets SET claimed_seq = c.value FROM json_each(:claimed) AS c WHERE datasets.dataset = c.key;

-- name: attempts_insert
-- New attempts, an array of [file_id, attempt, revision, token].
INSERT INTO attempts (file_id, attempt, revision, token, worker_id, started_ms)
SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]'), json_extract(value, '$[2]'), json_extract(value, '$[3]'),
       :worker_id, :wall_ms
FROM json_each(:attempts);

-- name: attempts_lost
-- An attempt that never ended: its worker died or lost its lease.
UPDATE attempts SET ended_ms = :wall_ms, outcome = 'lost', reason = 'lease_lost'
WHERE file_id = :file_id AND attempt < :attempt AND outcome IS NULL;

-- name: attempts_prune
DELETE FROM attempts WHERE file_id = :file_id AND attempt <= :attempt - :keep;

-- name: attempt_end
UPDATE attempts SET ended_ms = :wall_ms, outcome = :outcome, reason = :reason, error_message = :message
WHERE file_id = :file_id AND attempt = :attempt;

-- name: attempts_completed
UPDATE attempts SET ended_ms = :wall_ms, outcome = 'completed' FROM json_each(:done) AS d
WHERE attempts.file_id = json_extract(d.value, '$.file_id') AND attempts.attempt = json_extract(d.value, '$.attempt');

-- name: attempts_released
-- The attempts of a worker that gives its rows back.
UPDATE attempts SET ended_ms = :wall_ms, outcome = 'release', reason = :reason
WHERE outcome IS NULL AND file_id IN (SELECT id FROM files INDEXED BY files_held WHERE worker = :worker);

-- name: attempts_before
-- The earlier attempts at a revision, and the last one at any: their marks, and how they ended.
SELECT attempt, revision, token, outcome FROM attempts
WHERE file_id = :file_id AND attempt < :attempt AND (revision = :revision OR attempt = :attempt - 1);

-- name: attempts_disown
-- verify --repair: what is in the target is not to be recognised as a result of ours; it is sent anew.
UPDATE attempts SET token = '' WHERE file_id IN (SELECT value FROM json_each(:files));

-- name: queue_waiting
SELECT min(next_attempt_ms) AS next_ms FROM files INDEXED BY files_waiting
WHERE status IN ('failed_download', 'failed_upload');

-- name: queue_pending
SELECT EXISTS (SELECT 1 FROM files INDEXED BY files_pending WHERE status = 'pending') AS pending;

-- name: queue_held
SELECT count(*) AS held FROM files INDEXED BY files_held WHERE worker IS NOT NULL AND worker <> :worker;

-- name: fence
-- Those of the claims, an array of [file_id, attempt, worker], that still hold: the row, the attempt, the worker, its lease.
SELECT f.id, f.revision, f.parts_done > f.parts_mark AS progressed
FROM json_each(:claims) AS c CROSS JOIN files AS f ON f.id = json_extract(c.value, '$[0]')
     CROSS JOIN workers AS w ON w.id = f.worker
WHERE f.attempt = json_extract(c.value, '$[1]') AND f.worker = json_extract(c.value, '$[2]') AND f.status = 'processing'
  AND {live};

-- name: upload_live
SELECT id, revision, dest_key, upload_id, token, size, part_bytes, proof, state FROM uploads
WHERE file_id = :file_id AND state IN ('open', 'completing');

-- name: upload_insert
INSERT INTO uploads (file_id, revision, dest_key, upload_id, token, size, part_bytes, proof, state, created_ms)
VALUES ((SELECT id FROM files WHERE id = :file_id), :revision, :dest_key, :upload_id, :token, :size, :part_bytes, :proof,
        :state, :wall_ms) RETURNING id;

-- name: uploads_done
UPDATE uploads SET state = 'done'
WHERE state IN ('open', 'completing') AND file_id IN (SELECT json_extract(value, '$.file_id') FROM json_each(:done));

-- name: upload_state
UPDATE uploads SET state = :state WHERE id = :upload;

-- name: upload_proof
UPDATE uploads SET proof = :proof WHERE id = :upload;

-- name: uploads_abandon
-- Live uploads of a file, all or those of other revisions than :revision (0 spares none).
UPDATE uploads SET state = 'abandoned' WHERE file_id = :file_id AND revision <> :revision
  AND state IN ('open', 'completing');

-- name: uploads_abandon_waiting
-- Live uploads of files that leave the queue, before they do: all but those that the target holds in a wrong copy.
UPDATE uploads SET state = 'abandoned' WHERE state IN ('open', 'completing') AND file_id IN (
    SELECT f.id FROM json_each(:files) AS w CROSS JOIN files AS f ON f.id = w.value
    WHERE f.status IN ('pending', 'failed_download', 'failed_upload')
      AND (f.mirrored_revision IS NULL OR f.mirrored_revision < f.revision));

-- name: uploads_abandoned_of
SELECT id, revision, dest_key, upload_id, token, size, part_bytes, proof, state FROM uploads
WHERE file_id = :file_id AND state = 'abandoned';

-- name: uploads_abandoned
SELECT id, revision, dest_key, upload_id, token, size, part_bytes, proof, state
FROM uploads INDEXED BY uploads_abandoned WHERE state = 'abandoned' AND id > :after ORDER BY id LIMIT :limit;

-- name: upload_published
SELECT u.id, u.revision, u.dest_key, u.upload_id, u.token, u.size, u.part_bytes, u.proof, u.state
FROM uploads AS u JOIN files AS f ON f.id = u.file_id
WHERE u.file_id = :file_id AND u.state = 'done' AND u.revision = f.mirrored_revision ORDER BY u.id DESC LIMIT 1;

-- name: upload_delete
DELETE FROM uploads WHERE id = :upload AND state = 'abandoned';

-- name: upload_owned
SELECT EXISTS (SELECT 1 FROM uploads WHERE upload_id = :upload_id AND state IN ('open', 'completing')) AS owned;

-- name: parts_of
SELECT number, length, etag, md5 FROM parts WHERE upload = :upload ORDER BY number;

-- name: part_insert
INSERT INTO parts (upload, number, length, etag, md5, done_ms)
VALUES (:upload, :number, :length, :etag, :md5, :wall_ms);

-- name: part_delete
DELETE FROM parts WHERE upload = :upload AND number = :number;

-- name: progress_add
UPDATE files SET bytes_done = bytes_done + :length, parts_done = parts_done + 1, resumable = 1 WHERE id = :file_id;

-- name: progress_recount
-- After parts were dropped or an upload began: what the receipts say.
UPDATE files SET parts_total = :parts_total,
    bytes_done = (SELECT coalesce(sum(length), 0) FROM parts WHERE upload = :upload),
    parts_done = (SELECT count(*) FROM parts WHERE upload = :upload),
    resumable = EXISTS (SELECT 1 FROM parts WHERE upload = :upload)
WHERE id = :file_id;

-- name: progress_none
UPDATE files SET parts_total = NULL, bytes_done = 0, parts_done = 0, resumable = 0 WHERE id = :file_id;

-- name: progress_anew
-- As progress_none, for a newer revision: the receipts of the older one measure nothing.
UPDATE files SET parts_total = NULL, bytes_done = 0, parts_done = 0, parts_mark = 0, resumable = 0 WHERE id = :file_id;

-- name: throughput_add
INSERT INTO throughput (second, bytes) VALUES (:wall_ms / 1000, :length)
ON CONFLICT DO UPDATE SET bytes = bytes + excluded.bytes;

-- name: throughput_prune
DELETE FROM throughput WHERE second < :before_s AND second < (SELECT max(second) FROM throughput);

-- name: throughput_recent
SELECT coalesce(sum(bytes) FILTER (WHERE second > :after_s), 0) AS bytes, count(*) AS seconds FROM throughput;

-- name: throughput_history
SELECT second, bytes FROM throughput ORDER BY second;

-- name: activity_start
-- Since when workers have been at work, of those that are or were within the window.
SELECT min(started_ms) AS started_ms FROM workers AS w WHERE {live} OR w.ended_ms >= :since_ms;

-- name: settle_complete
-- The retries that it took stay on the row, as history; a newer revision begins at zero. As for revisions_mirrored.
UPDATE files SET status = 'completed', reason = NULL, error_message = NULL, forbidden = 0,
    worker = NULL, resumable = 0, bytes_done = files.size,
    parts_total = coalesce(parts_total, 1), parts_done = coalesce(parts_total, 1),
    dest_etag = json_extract(d.value, '$.dest_etag'), dest_version_id = json_extract(d.value, '$.dest_version_id'),
    verification = json_extract(d.value, '$.verification'), mirrored_revision = json_extract(d.value, '$.revision'),
    mirrored_source_etag = json_extract(d.value, '$.etag'), mirrored_size = json_extract(d.value, '$.size'),
    completed_at_ms = :wall_ms
FROM json_each(:done) AS d WHERE files.id = json_extract(d.value, '$.file_id');

-- name: settle_superseded
-- The attempt ended, and a newer revision is listed: it queues with nothing charged. What was mirrored is noted apart.
UPDATE files SET status = 'pending', reason = NULL, error_message = NULL, retry_count = 0, forbidden = 0,
    next_attempt_ms = NULL, worker = NULL, worker_id = NULL, resumable = 0, bytes_done = 0, parts_total = NULL,
    parts_done = 0, parts_mark = 0
WHERE id = :file_id;

-- name: note_mirrored
UPDATE files SET dest_etag = json_extract(d.value, '$.dest_etag'),
    dest_version_id = json_extract(d.value, '$.dest_version_id'), verification = json_extract(d.value, '$.verification'),
    mirrored_revision = json_extract(d.value, '$.revision'), mirrored_source_etag = json_extract(d.value, '$.etag'),
    mirrored_size = json_extract(d.value, '$.size'), completed_at_ms = :wall_ms
FROM json_each(:done) AS d WHERE files.id = json_extract(d.value, '$.file_id');

-- name: settle_failed
UPDATE files SET status = :status, reason = :reason, error_message = :message, retry_count = retry_count + :charged,
    forbidden = :forbidden, next_attempt_ms = :next_attempt_ms, worker = NULL, parts_mark = max(parts_mark, parts_done)
WHERE id = :file_id;

-- name: settle_released
UPDATE files SET status = 'pending', reason = :reason, error_message = :message, worker = NULL, worker_id = NULL
WHERE id = :file_id;

-- name: release_worker
-- A worker that ends gives all its rows back at once.
UPDATE files INDEXED BY files_held SET status = 'pending', reason = :reason, error_message = NULL,
    worker = NULL, worker_id = NULL
WHERE worker = :worker;

-- name: counts
SELECT dataset, status, files, bytes, bytes_done FROM counts WHERE files > 0 ORDER BY dataset, status;

-- name: waiting_since
-- Since when the oldest waiting file of each dataset waits.
SELECT d.dataset, (SELECT min(f.queued_at_ms) FROM files AS f INDEXED BY files_queued
    WHERE f.dataset = d.dataset AND f.status IN ('pending', 'failed_download', 'failed_upload')) AS since_ms
FROM datasets AS d WHERE since_ms IS NOT NULL ORDER BY d.dataset;

-- name: in_flight
SELECT key, size, bytes_done, attempt, worker_id FROM files INDEXED BY files_held
WHERE worker IS NOT NULL ORDER BY started_at_ms, key LIMIT :limit;

-- name: last_errors
-- The newest failures that still stand; of the last thousand, so that it is instant.
SELECT f.key, f.status, f.reason, f.error_message, a.ended_ms, f.next_attempt_ms
FROM (SELECT file_id, attempt, ended_ms FROM attempts INDEXED BY attempts_failed
      WHERE outcome IN ('fail_download', 'fail_upload', 'park', 'refuse') ORDER BY ended_ms DESC LIMIT 1000) AS a
JOIN files AS f ON f.id = a.file_id
WHERE f.attempt = a.attempt AND f.status IN ('failed_download', 'failed_upload', 'permanent_failure', 'not_entitled')
ORDER BY a.ended_ms DESC LIMIT :limit;

-- name: files_page
SELECT id, key, dataset, date, status, reason, size, source_etag, source_last_modified_ms, dest_key, dest_etag,
       dest_version_id, revision, mirrored_revision, mirrored_source_etag, attempt, retry_count, worker_id, bytes_done,
       parts_total, parts_done, verification, error_message, discovered_at_ms, started_at_ms, completed_at_ms,
       next_attempt_ms
FROM files WHERE key > :after AND key <= :last ORDER BY key LIMIT :limit;

-- name: files_of_status
SELECT id, key, dataset, date, status, reason, size, source_etag, source_last_modified_ms, dest_key, dest_etag,
       dest_version_id, revision, mirrored_revision, mirrored_source_etag, attempt, retry_count, worker_id, bytes_done,
       parts_total, parts_done, verification, error_message, discovered_at_ms, started_at_ms, completed_at_ms,
       next_attempt_ms
FROM files WHERE status = :status AND key > :after AND key <= :last ORDER BY key LIMIT :limit;

-- name: files_by_keys
SELECT id, key, dataset, date, status, reason, size, source_etag, source_last_modified_ms, dest_key, dest_etag,
       dest_version_id, revision, mirrored_revision, mirrored_source_etag, attempt, retry_count, worker_id, bytes_done,
       parts_total, parts_done, verification, error_message, discovered_at_ms, started_at_ms, completed_at_ms,
       next_attempt_ms
FROM files WHERE key IN (SELECT value FROM json_each(:keys)) ORDER BY key;

-- name: file_ids_page
SELECT id, key, status FROM files WHERE key > :after AND key <= :last ORDER BY key LIMIT :limit;

-- name: file_ids_of_status
-- The index alone answers it.
SELECT id, key, status FROM files
WHERE status = :status AND key > :after AND key <= :last ORDER BY key LIMIT :limit;

-- name: file_by_key
SELECT id, key, dataset, date, status, reason, size, source_etag, source_last_modified_ms, dest_key, dest_etag,
       dest_version_id, revision, mirrored_revision, mirrored_source_etag, attempt, retry_count, worker_id, bytes_done,
       parts_total, parts_done, verification, error_message, discovered_at_ms, started_at_ms, completed_at_ms,
       next_attempt_ms
FROM files WHERE key = :key;

-- name: revisions_of
SELECT revision, source_etag, size, source_last_modified_ms, first_seen_ms, mirrored_at_ms, dest_etag, dest_version_id,
       verification
FROM revisions WHERE file_id = :file_id ORDER BY revision;

-- name: attempts_of
-- The token is a secret of ours and is not told.
SELECT attempt, revision, worker_id, started_ms, ended_ms, outcome, reason, error_message
FROM attempts WHERE file_id = :file_id ORDER BY attempt;

-- name: datasets
SELECT dataset FROM datasets ORDER BY dataset;

-- name: files_of_days
-- The rows of a dataset and year: their keys are one stretch of the index.
SELECT date, status, reason, size, revision, mirrored_revision
FROM files WHERE key > :after AND key < :before ORDER BY key;

-- name: files_first
SELECT date FROM files WHERE key > :after AND key < :before ORDER BY key LIMIT 1;

-- name: files_last
SELECT date FROM files WHERE key > :after AND key < :before ORDER BY key DESC LIMIT 1;

-- name: listings_of
SELECT month, days, listed_ms FROM listings WHERE dataset = :dataset;

-- name: listings_datasets
SELECT DISTINCT dataset FROM listings;

-- name: listing_set
INSERT INTO listings (dataset, month, days, listed_ms) VALUES (:dataset, :month, :days, :listed_ms)
ON CONFLICT DO UPDATE SET days = excluded.days, listed_ms = excluded.listed_ms;

-- name: listings_forget
-- Before a dataset that was listed as a whole is written down anew.
DELETE FROM listings WHERE dataset = :dataset;

-- name: listings_forget_all
-- Another source: what the one before listed means nothing.
DELETE FROM listings;

-- name: told_get
SELECT 1 FROM told WHERE name = :name;

-- name: told_set
INSERT INTO told (name, told_ms) VALUES (:name, :told_ms) ON CONFLICT DO UPDATE SET told_ms = excluded.told_ms;

-- name: told_forget
-- What is over may be told anew. Names are ASCII words, so that `after` is the prefix and `before` the prefix with a
-- character behind all of them.
DELETE FROM told WHERE name >= :after AND name < :before;

-- name: told_prune
DELETE FROM told WHERE told_ms < :before_ms;

-- name: held_of
-- What is held of a JSON array of keys.
SELECT key, size, source_etag FROM held WHERE key IN (SELECT value FROM json_each(:keys));

-- name: held_between
SELECT key FROM held WHERE key > :after AND key <= :last ORDER BY key LIMIT :limit;

-- name: held_set
-- An array of [key, dataset, date, size, etag, last_modified_ms, replaces]; one that is held already keeps its time.
INSERT INTO held (key, dataset, date, size, source_etag, source_last_modified_ms, replaces, held_ms)
SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]'), json_extract(value, '$[2]'), json_extract(value, '$[3]'),
       json_extract(value, '$[4]'), json_extract(value, '$[5]'), json_extract(value, '$[6]'), :now_ms
FROM json_each(:files) WHERE TRUE
ON CONFLICT DO UPDATE SET size = excluded.size, source_etag = excluded.source_etag, replaces = excluded.replaces,
    source_last_modified_ms = excluded.source_last_modified_ms;

-- name: held_delete
DELETE FROM held WHERE key IN (SELECT value FROM json_each(:keys));

-- name: held_summary
-- A total, not a sum: sizes are what a listing says, and a sum of them may be beyond what an integer holds.
SELECT count(*) AS files, total(size) AS bytes, coalesce(sum(replaces), 0) AS replaced, min(date) AS first, max(date) AS last
FROM held;

-- name: held_dates
SELECT DISTINCT date FROM held ORDER BY date LIMIT :limit;

-- name: held_datasets
SELECT DISTINCT dataset FROM held ORDER BY dataset LIMIT :limit;

-- name: held_days
-- The days of a dataset and year of which a newer revision is held.
SELECT date FROM held WHERE key > :after AND key < :before AND replaces;

-- name: held_forget_all
DELETE FROM held;

-- name: followed
SELECT dataset, since FROM followed;

-- name: followed_set
-- From the earliest day on that a watch ever looked at.
INSERT INTO followed (dataset, since) VALUES (:dataset, :since)
ON CONFLICT DO UPDATE SET since = min(since, excluded.since);

-- name: followed_forget_all
DELETE FROM followed;
