-- Every statement of the ledger by name, with its parameters as ":name". A store's dialect (sqlite.sql) adds the statements
-- that are announced here as "dialect: name(parameters)", and the words in braces; loader.py refuses what differs. The ledger's
-- clock, :now_ms, :mono_ms and :boot_id, is filled in by the transaction. Plural parameters are arrays.
-- Braces that each dialect defines:
--   {live}        a worker `w` whose lease holds
--   {by(index)}   a hint to the planner after a table's name: this index
--   {plain(c)}    the column without the use of an index on it
--   {keys_in(a)}, {ids_in(a)}   the texts, or the numbers, of an array, for IN
--   {each(a)}     the items of an array, as a table; of an item {text(path)} and {number(path)}, such as $[0] or $.etag

-- define: queued
-- When a row that enters the queue began to wait: now, unless it waited before.
CASE WHEN status IN ('completed', 'permanent_failure', 'not_entitled') THEN :now_ms ELSE queued_at_ms END

-- define: unfinished
-- Not in work, and not as the user wants it: ends as `source_gone` where the file is no longer listed. The keys are to be
-- walked in their order, so the index of statuses is kept out of it.
{plain(status)} IN ('pending', 'failed_download', 'failed_upload', 'not_entitled')

-- define: known_columns
id, key, status, reason, size, source_etag, source_last_modified_ms, revision, mirrored_revision, mirrored_source_etag,
mirrored_size, dest_etag

-- define: file_columns
-- The fields of rows.FileRow.
id AS file_id, key, dataset, date, status, reason, size, source_etag, source_last_modified_ms, dest_key, dest_etag,
dest_version_id, revision, mirrored_revision, mirrored_source_etag, attempt, retry_count, worker_id, bytes_done, parts_total,
parts_done, verification, error_message, discovered_at_ms, started_at_ms, completed_at_ms, next_attempt_ms

-- define: is_sent
-- A notice that was sent, or that another process is sending and did not begin to too long ago.
(notices.sender IS NULL
    OR (notices.sender <> :sender AND notices.noted_ms BETWEEN :now_ms - :sending_ms AND :now_ms))

-- define: mirrored
-- An item says what the target holds.
dest_etag = {text($.dest_etag)}, dest_version_id = {text($.dest_version_id)}, verification = {text($.verification)}

-- define: mirrored_revision
mirrored_revision = {number($.revision)}, mirrored_source_etag = {text($.etag)}, mirrored_size = {number($.size)},
    completed_at_ms = :now_ms

-- define: upload_columns
id, revision, dest_key, upload_id, token, size, part_bytes, proof, state

-- ==== facts ====

-- name: fact_get
SELECT value FROM facts WHERE name = :name;

-- name: fact_set
INSERT INTO facts (name, value) VALUES (:name, :value) ON CONFLICT (name) DO UPDATE SET value = excluded.value;

-- name: fact_delete
DELETE FROM facts WHERE name = :name;

-- name: has_obligations
-- Files, or uploads that wait for their abort: they bind a ledger to its pair.
SELECT EXISTS (SELECT 1 FROM files) OR EXISTS (SELECT 1 FROM uploads WHERE state <> 'done') AS found;

-- name: notices_known
-- Those of the names that were sent, or that another process than :sender is sending.
SELECT name FROM notices WHERE name IN ({keys_in(:names)}) AND {is_sent};

-- name: notices_claim
-- Those of the names, an array of [name], that are now :sender's to send.
INSERT INTO notices (name, noted_ms, sender) SELECT {text($[0])}, :now_ms, :sender FROM {each(:names)} WHERE TRUE
ON CONFLICT (name) DO UPDATE SET noted_ms = excluded.noted_ms, sender = excluded.sender WHERE NOT {is_sent}
RETURNING name;

-- name: notices_unclaim
DELETE FROM notices WHERE name IN ({keys_in(:names)}) AND sender = :sender;

-- name: notices_set
-- An array of [name].
INSERT INTO notices (name, noted_ms, sender) SELECT {text($[0])}, :now_ms, NULL FROM {each(:names)} WHERE TRUE
ON CONFLICT (name) DO UPDATE SET noted_ms = excluded.noted_ms, sender = NULL;

-- name: notices_forget
-- Names are ASCII words: `after` is the prefix, and `before` the prefix with a character behind all of them.
DELETE FROM notices WHERE name >= :after AND name < :before;

-- name: notices_prune
DELETE FROM notices WHERE noted_ms < :now_ms - :kept_ms;

-- name: followed
SELECT dataset, since FROM followed;

-- name: followed_set
-- From the earliest day on that a watch ever looked at.
INSERT INTO followed (dataset, since) VALUES (:dataset, :since) ON CONFLICT (dataset) DO UPDATE
SET since = CASE WHEN excluded.since < followed.since THEN excluded.since ELSE followed.since END;

-- name: followed_forget_all
DELETE FROM followed;

-- ==== rounds ====

-- name: round_get
-- `live`: the lease of the worker that took it last holds.
SELECT turn, worker, day, made_ms, due_ms, problem,
    CASE WHEN EXISTS (SELECT 1 FROM workers AS w WHERE w.id = rounds.worker AND {live}) THEN 1 ELSE 0 END AS live
FROM rounds WHERE name = :name;

-- name: round_take
-- Nothing changes where another worker took this turn meanwhile: the statement waits for its row, and then sees its number.
INSERT INTO rounds (name, turn, worker, day) VALUES (:name, :turn, :worker, :day)
ON CONFLICT (name) DO UPDATE SET turn = excluded.turn, worker = excluded.worker, day = excluded.day,
    made_ms = NULL, due_ms = NULL, problem = NULL
WHERE rounds.turn = excluded.turn - 1;

-- name: round_end
-- Only of the worker that took this turn, while its lease holds.
UPDATE rounds SET made_ms = :now_ms, due_ms = :now_ms + :pause_ms, problem = :problem
WHERE name = :name AND turn = :turn AND worker = :worker AND made_ms IS NULL
  AND EXISTS (SELECT 1 FROM workers AS w WHERE w.id = :worker AND {live});

-- name: rounds_prune
-- Of datasets that no watch was about for long.
DELETE FROM rounds WHERE due_ms < :now_ms - :kept_ms;

-- name: rounds_forget_all
-- Another source or target: there everything is still to be done.
DELETE FROM rounds;

-- ==== workers and claims ====

-- dialect: worker_register(worker_id, host, version, lease_ms)
-- A new worker with a fresh lease and no share yet; its id is returned.

-- dialect: worker_renew(worker)
-- Only a lease that still holds can be renewed: one that ran out is lost, even if no other worker took the rows yet.

-- dialect: shares_lock()
-- Until the end of the transaction nobody else's share grows.

-- name: shares_of_others
-- The other live workers, and what they hold of the account's limits.
SELECT count(*) AS workers, CAST(coalesce(sum(w.share), 0) AS bigint) AS taken
FROM workers AS w WHERE w.id <> :worker AND {live};

-- name: share_set
UPDATE workers SET share = :share WHERE id = :worker AND share <> :share;

-- name: worker_live
-- No row without a lease; the number of its last claim.
SELECT coalesce((SELECT max(claimed_seq) FROM turns WHERE worker = w.id), 0) AS last_claim
FROM workers AS w WHERE w.id = :worker AND {live};

-- name: worker_end
UPDATE workers SET ended_ms = :now_ms WHERE id = :worker AND ended_ms IS NULL;

-- name: workers_prune
-- Workers long gone that no row names any more.
DELETE FROM workers AS w WHERE w.lease_wall_ms < :now_ms - :kept_ms AND NOT {live}
AND NOT EXISTS (SELECT 1 FROM files {by(files_held)} WHERE worker = w.id);

-- name: workers_live
-- The live workers, with the bytes of their receipts within the window; null before the first.
SELECT w.worker_id, w.host, w.version, w.started_ms, l.streams_in_use, l.streams_allowed, l.source_rps, l.target_rps,
       CASE WHEN EXISTS (SELECT 1 FROM throughput AS t WHERE t.worker = w.id) THEN
           (SELECT CAST(coalesce(sum(t.bytes), 0) AS bigint) FROM throughput AS t
            WHERE t.worker = w.id AND t.second > (:now_ms - :window_ms) / 1000) END AS bytes
FROM workers AS w LEFT JOIN loads AS l ON l.worker = w.id WHERE {live} ORDER BY w.id;

-- name: activity_start
-- The start of the oldest worker of those that are or were at work within the window.
SELECT min(started_ms) AS started_ms FROM workers AS w WHERE {live} OR w.ended_ms >= :now_ms - :window_ms;

-- name: load_set
INSERT INTO loads (worker, streams_in_use, streams_allowed, source_rps, target_rps)
VALUES (:worker, :streams_in_use, :streams_allowed, :source_rps, :target_rps)
ON CONFLICT (worker) DO UPDATE SET streams_in_use = excluded.streams_in_use, streams_allowed = excluded.streams_allowed,
    source_rps = excluded.source_rps, target_rps = excluded.target_rps;

-- dialect: claim_best(count, backoff_max_ms)
-- The ids of the best :count rows: pending in claim order; failed and due (the 64 longest due); left behind by a dead worker.
-- A next attempt further off than any back-off can be is a clock that was stepped back: due as well.

-- dialect: claim_fair(worker)
-- Every fourth claim of a worker: the best pending file, or else the longest due one, of the dataset whose last claim by this
-- worker is longest ago.

-- name: claim_take
-- Only receipts of this very attempt will excuse it: those that are there already are marked.
UPDATE files SET status = 'processing', attempt = attempt + 1, worker = :worker, worker_id = :worker_id,
    next_attempt_ms = NULL, started_at_ms = :now_ms,
    parts_mark = CASE WHEN parts_done > parts_mark THEN parts_done ELSE parts_mark END
WHERE id IN ({ids_in(:files)})
RETURNING id, key, dataset, size, source_etag, source_last_modified_ms, revision, attempt, retry_count, forbidden;

-- name: claim_note_turns
-- The number of the worker's last claim by dataset, an array of [dataset, number].
INSERT INTO turns (worker, dataset, claimed_seq) SELECT :worker, {text($[0])}, {number($[1])} FROM {each(:claimed)} WHERE TRUE
ON CONFLICT (worker, dataset) DO UPDATE SET claimed_seq = excluded.claimed_seq;

-- name: queue_waiting
SELECT min(next_attempt_ms) AS next_ms FROM files {by(files_waiting)} WHERE status IN ('failed_download', 'failed_upload');

-- name: queue_pending
SELECT EXISTS (SELECT 1 FROM files {by(files_pending)} WHERE status = 'pending') AS pending;

-- name: queue_held
SELECT count(*) AS held FROM files {by(files_held)} WHERE worker IS NOT NULL AND worker <> :worker;

-- dialect: fence(claims)
-- Those of the claims, an array of [file_id, attempt, worker, token], that still hold: row, attempt, worker, lease. Each with
-- `id`, `revision` and `progressed`: more receipts than any attempt before it left.

-- ==== attempts ====

-- name: attempts_insert
-- An array of [file_id, attempt, revision, token].
INSERT INTO attempts (file_id, attempt, revision, token, worker_id, started_ms)
SELECT {number($[0])}, {number($[1])}, {number($[2])}, {text($[3])}, :worker_id, :now_ms FROM {each(:attempts)};

-- name: attempts_lost
-- An attempt that never ended: its worker died or lost its lease.
UPDATE attempts SET ended_ms = :now_ms, outcome = 'lost', reason = 'lease_lost'
WHERE file_id = :file_id AND attempt < :attempt AND outcome IS NULL;

-- name: attempts_prune
DELETE FROM attempts WHERE file_id = :file_id AND attempt <= :attempt - :keep;

-- name: attempt_end
UPDATE attempts SET ended_ms = :now_ms, outcome = :outcome, reason = :reason, error_message = :message
WHERE file_id = :file_id AND attempt = :attempt;

-- name: attempts_completed
UPDATE attempts SET ended_ms = :now_ms, outcome = 'completed' FROM {each(:done)}
WHERE attempts.file_id = {number($.file_id)} AND attempts.attempt = {number($.attempt)};

-- name: attempts_released
-- The attempts of a worker that gives its rows back.
UPDATE attempts SET ended_ms = :now_ms, outcome = 'release', reason = :reason
WHERE outcome IS NULL AND file_id IN (SELECT id FROM files {by(files_held)} WHERE worker = :worker);

-- name: attempts_before
-- The earlier attempts at a revision, and the last one at any: their marks, and how they ended.
SELECT attempt, revision, token, outcome FROM attempts
WHERE file_id = :file_id AND attempt < :attempt AND (revision = :revision OR attempt = :attempt - 1);

-- name: attempts_disown
-- verify --repair: what is in the target is not to be recognised as a result of ours; the file is sent again.
UPDATE attempts SET token = '' WHERE file_id IN ({ids_in(:files)});

-- name: attempts_of
-- The token is a secret of ours and is not shown.
SELECT attempt, revision, worker_id, started_ms, ended_ms, outcome, reason, error_message
FROM attempts WHERE file_id = :file_id ORDER BY attempt;

-- name: last_errors
-- The newest failures that still stand; of the last thousand, so that it is instant.
SELECT f.key, f.status, f.reason, f.error_message, a.ended_ms AS failed_ms, f.next_attempt_ms
FROM (SELECT file_id, attempt, ended_ms FROM attempts {by(attempts_failed)}
      WHERE outcome IN ('fail_download', 'fail_upload', 'park', 'refuse') ORDER BY ended_ms DESC LIMIT 1000) AS a
JOIN files AS f ON f.id = a.file_id
WHERE f.attempt = a.attempt AND f.status IN ('failed_download', 'failed_upload', 'permanent_failure', 'not_entitled')
ORDER BY a.ended_ms DESC LIMIT :limit;

-- ==== uploads ====

-- name: upload_live
SELECT {upload_columns} FROM uploads WHERE file_id = :file_id AND state IN ('open', 'completing');

-- name: upload_insert
INSERT INTO uploads (file_id, revision, dest_key, upload_id, token, size, part_bytes, proof, state)
VALUES ((SELECT id FROM files WHERE id = :file_id), :revision, :dest_key, :upload_id, :token, :size, :part_bytes, :proof,
        :state) RETURNING id;

-- name: uploads_done
-- The live uploads of files that are mirrored.
UPDATE uploads SET state = 'done'
WHERE state IN ('open', 'completing') AND file_id IN (SELECT {number($.file_id)} FROM {each(:done)});

-- name: upload_completing
UPDATE uploads SET state = 'completing' WHERE id = :upload;

-- name: upload_proof
UPDATE uploads SET proof = :proof WHERE id = :upload;

-- name: uploads_abandon
-- Live uploads of a file, all or those of other revisions than :revision (0 spares none).
UPDATE uploads SET state = 'abandoned' WHERE file_id = :file_id AND revision <> :revision
  AND state IN ('open', 'completing');

-- name: uploads_abandon_waiting
-- Live uploads of files that leave the queue, before they do: all but those that the target holds in a wrong copy.
UPDATE uploads SET state = 'abandoned' WHERE state IN ('open', 'completing') AND file_id IN (
    SELECT id FROM files WHERE id IN ({ids_in(:files)}) AND {plain(status)} IN ('pending', 'failed_download', 'failed_upload')
      AND (mirrored_revision IS NULL OR mirrored_revision < revision));

-- name: uploads_abandoned_of
SELECT {upload_columns} FROM uploads WHERE file_id = :file_id AND state = 'abandoned';

-- name: uploads_abandoned
SELECT {upload_columns} FROM uploads {by(uploads_abandoned)}
WHERE state = 'abandoned' AND id > :after ORDER BY id LIMIT :limit;

-- name: upload_published
SELECT {upload_columns} FROM uploads WHERE file_id = :file_id AND state = 'done'
  AND revision = (SELECT mirrored_revision FROM files WHERE id = :file_id) ORDER BY id DESC LIMIT 1;

-- name: upload_delete
DELETE FROM uploads WHERE id = :upload AND state = 'abandoned';

-- name: upload_owned
SELECT EXISTS (SELECT 1 FROM uploads WHERE upload_id = :upload_id AND state IN ('open', 'completing')) AS owned;

-- name: parts_of
SELECT number, length, etag, md5 FROM parts WHERE upload = :upload ORDER BY number;

-- name: part_insert
INSERT INTO parts (upload, number, length, etag, md5) VALUES (:upload, :number, :length, :etag, :md5);

-- name: part_delete
DELETE FROM parts WHERE upload = :upload AND number = :number;

-- name: progress_add
UPDATE files SET bytes_done = bytes_done + :length, parts_done = parts_done + 1, resumable = 1 WHERE id = :file_id;

-- name: progress_recount
-- After parts were dropped or an upload began: what the receipts say.
UPDATE files SET parts_total = :parts_total,
    bytes_done = (SELECT coalesce(sum(length), 0) FROM parts WHERE upload = :upload),
    parts_done = (SELECT count(*) FROM parts WHERE upload = :upload),
    resumable = CASE WHEN EXISTS (SELECT 1 FROM parts WHERE upload = :upload) THEN 1 ELSE 0 END
WHERE id = :file_id;

-- name: progress_none
-- No upload under way. For a newer revision (:fresh = 1) the receipts of the older one measure nothing.
UPDATE files SET parts_total = NULL, bytes_done = 0, parts_done = 0, resumable = 0,
    parts_mark = CASE WHEN :fresh = 1 THEN 0 ELSE parts_mark END
WHERE id = :file_id;

-- name: throughput_add
INSERT INTO throughput (second, worker, bytes) VALUES (:now_ms / 1000, :worker, :length)
ON CONFLICT (second, worker) DO UPDATE SET bytes = throughput.bytes + excluded.bytes;

-- name: throughput_prune
DELETE FROM throughput WHERE second < (:now_ms - :kept_ms) / 1000 AND second < (SELECT max(second) FROM throughput);

-- name: throughput_recent
-- The bytes of receipts within the window; null before the first receipt ever.
SELECT CASE WHEN EXISTS (SELECT 1 FROM throughput) THEN
    (SELECT CAST(coalesce(sum(bytes), 0) AS bigint) FROM throughput
     WHERE second > (:now_ms - :window_ms) / 1000) END AS bytes;

-- name: throughput_history
SELECT second, CAST(sum(bytes) AS bigint) AS bytes FROM throughput GROUP BY second ORDER BY second;

-- ==== settlements ====

-- name: settle_complete
-- An array of objects: file_id, attempt, revision, etag, size, dest_etag, dest_version_id, verification. The retries that it
-- took stay on the row, as history; a newer revision begins at zero.
UPDATE files SET status = 'completed', reason = NULL, error_message = NULL, forbidden = 0,
    worker = NULL, resumable = 0, bytes_done = files.size,
    parts_total = coalesce(parts_total, 1), parts_done = coalesce(parts_total, 1), {mirrored}, {mirrored_revision}
FROM {each(:done)} WHERE files.id = {number($.file_id)};

-- name: note_mirrored
-- As settle_complete, for a revision that is no longer the newest: what the target holds is noted, the status is not.
UPDATE files SET {mirrored}, {mirrored_revision}
FROM {each(:done)} WHERE files.id = {number($.file_id)};

-- name: settle_superseded
-- The attempt ended, and a newer revision is listed: it queues with nothing charged. What was mirrored is noted apart.
UPDATE files SET status = 'pending', reason = NULL, error_message = NULL, retry_count = 0, forbidden = 0,
    next_attempt_ms = NULL, worker = NULL, worker_id = NULL, resumable = 0, bytes_done = 0, parts_total = NULL,
    parts_done = 0, parts_mark = 0
WHERE id = :file_id;

-- name: settle_failed
UPDATE files SET status = :status, reason = :reason, error_message = :message, retry_count = retry_count + :charged,
    forbidden = :forbidden, next_attempt_ms = :next_attempt_ms, worker = NULL,
    parts_mark = CASE WHEN parts_done > parts_mark THEN parts_done ELSE parts_mark END
WHERE id = :file_id;

-- name: settle_released
UPDATE files SET status = 'pending', reason = :reason, error_message = :message, worker = NULL, worker_id = NULL
WHERE id = :file_id;

-- name: release_worker
-- A worker that ends gives all its rows back at once.
UPDATE files {by(files_held)} SET status = 'pending', reason = :reason, error_message = NULL, worker = NULL, worker_id = NULL
WHERE worker = :worker;

-- ==== listings and the queue ====

-- name: known_by_keys
SELECT {known_columns} FROM files WHERE key IN ({keys_in(:keys)});

-- name: known_between
SELECT {known_columns} FROM files WHERE key > :after AND key <= :last ORDER BY key LIMIT :limit;

-- name: unfinished_between
SELECT key FROM files WHERE key > :after AND key <= :last AND {unfinished} ORDER BY key LIMIT :limit;

-- name: files_insert
-- An array of [key, dataset, date, size, etag, last_modified_ms]; the schema adds the first revision of each. One statement
-- for a page of files: a statement each costs twice as much, most of it around the triggers.
INSERT INTO files (key, dataset, date, size, source_etag, source_last_modified_ms, dest_key, discovered_at_ms, queued_at_ms)
SELECT {text($[0])}, {text($[1])}, {text($[2])}, {number($[3])}, {text($[4])}, {number($[5])},
       :dest_prefix || {text($[0])}, :now_ms, :now_ms
FROM {each(:files)};

-- name: files_adopt
-- New files that the target holds already; as for revisions_mirrored.
UPDATE files SET status = 'completed', bytes_done = size, completed_at_ms = :now_ms, {mirrored},
    mirrored_revision = files.revision, mirrored_source_etag = source_etag, mirrored_size = size
FROM {each(:done)} WHERE files.id = {number($.file_id)};

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

-- name: file_gone
UPDATE files SET status = 'permanent_failure', reason = 'source_gone', next_attempt_ms = NULL, resumable = 0,
    bytes_done = 0, parts_total = NULL, parts_done = 0,
    error_message = :message
WHERE id = :file_id AND {unfinished};

-- name: files_requeue
-- retry, a relisted key, verify --repair: to be done at once, with nothing charged. A live upload is kept.
UPDATE files SET status = 'pending', reason = NULL, error_message = NULL, retry_count = 0, forbidden = 0,
    next_attempt_ms = NULL, worker_id = NULL, parts_mark = 0, queued_at_ms = {queued},
    bytes_done = CASE WHEN status = 'completed' THEN 0 ELSE bytes_done END,
    parts_done = CASE WHEN status = 'completed' THEN 0 ELSE parts_done END
WHERE id IN ({ids_in(:files)}) AND {plain(status)} NOT IN ('processing', 'pending') RETURNING id;

-- name: files_restore
-- unqueue of re-published files: what the target holds is what the row says again. Not of one that verify --repair
-- queued in the revision that is mirrored: what the target holds of that is known to be wrong.
UPDATE files SET status = 'completed', reason = NULL, error_message = NULL, retry_count = 0, forbidden = 0,
    next_attempt_ms = NULL, resumable = 0, bytes_done = mirrored_size, parts_total = NULL, parts_done = 0,
    revision = mirrored_revision, source_etag = mirrored_source_etag, size = mirrored_size,
    source_last_modified_ms = (SELECT r.source_last_modified_ms FROM revisions AS r
                               WHERE r.file_id = files.id AND r.revision = files.mirrored_revision)
WHERE id IN ({ids_in(:files)}) AND mirrored_revision < revision
  AND {plain(status)} IN ('pending', 'failed_download', 'failed_upload') RETURNING id;

-- name: files_delete
DELETE FROM files WHERE id IN ({ids_in(:files)}) AND mirrored_revision IS NULL
  AND {plain(status)} IN ('pending', 'failed_download', 'failed_upload');

-- name: revision_insert
INSERT INTO revisions (file_id, revision, source_etag, size, source_last_modified_ms, first_seen_ms)
VALUES (:file_id, :revision, :etag, :size, :last_modified_ms, :now_ms);

-- name: revisions_mirrored
-- What the target holds: an array of objects with file_id, revision, dest_etag, dest_version_id, verification, and more.
UPDATE revisions SET mirrored_at_ms = :now_ms, {mirrored}
FROM {each(:done)}
WHERE revisions.file_id = {number($.file_id)} AND revisions.revision = {number($.revision)};

-- name: revisions_after
-- What is newer than the revision that is mirrored, of files that the target holds.
DELETE FROM revisions WHERE file_id IN ({ids_in(:files)})
  AND revision > (SELECT f.mirrored_revision FROM files AS f WHERE f.id = revisions.file_id);

-- name: revisions_delete_between
-- The first revisions that the schema gave to files that a copy filled in; their own follow.
DELETE FROM revisions WHERE file_id BETWEEN :first AND :last;

-- name: revisions_of
SELECT revision, source_etag, size, source_last_modified_ms, first_seen_ms, mirrored_at_ms, dest_etag, dest_version_id,
       verification
FROM revisions WHERE file_id = :file_id ORDER BY revision;

-- name: listings_of
SELECT month, days, listed_ms FROM listings WHERE dataset = :dataset;

-- name: listings_datasets
SELECT DISTINCT dataset FROM listings;

-- name: listing_set
INSERT INTO listings (dataset, month, days, listed_ms) VALUES (:dataset, :month, :days, :listed_ms)
ON CONFLICT (dataset, month) DO UPDATE SET days = excluded.days, listed_ms = excluded.listed_ms;

-- name: listings_forget
-- Before a dataset that was listed as a whole is written down again.
DELETE FROM listings WHERE dataset = :dataset;

-- name: listings_forget_all
-- Another source: what the one before listed means nothing.
DELETE FROM listings;

-- ==== what is held ====

-- name: held_of
SELECT key, size, source_etag FROM held WHERE key IN ({keys_in(:keys)});

-- name: held_between
SELECT key FROM held WHERE key > :after AND key <= :last ORDER BY key LIMIT :limit;

-- name: held_set
-- An array of [key, dataset, date, size, etag, replaces].
INSERT INTO held (key, dataset, date, size, source_etag, replaces)
SELECT {text($[0])}, {text($[1])}, {text($[2])}, {number($[3])}, {text($[4])}, {number($[5])} FROM {each(:files)} WHERE TRUE
ON CONFLICT (key) DO UPDATE SET size = excluded.size, source_etag = excluded.source_etag, replaces = excluded.replaces;

-- name: held_delete
DELETE FROM held WHERE key IN ({keys_in(:keys)});

-- dialect: held_summary()
-- files, bytes, replaced, last date. Sizes are what a listing says: a sum of them may be beyond what an integer holds.

-- name: held_dates
SELECT DISTINCT date FROM held ORDER BY date LIMIT :limit;

-- name: held_datasets
SELECT DISTINCT dataset FROM held ORDER BY dataset LIMIT :limit;

-- name: held_days
-- The days of a dataset and year of which a newer revision is held.
SELECT date FROM held WHERE key > :after AND key < :before AND replaces = 1;

-- name: held_forget_all
DELETE FROM held;

-- ==== for people ====

-- name: counts
SELECT dataset, status, CAST(sum(files) AS bigint) AS files, CAST(sum(bytes) AS bigint) AS bytes,
       CAST(sum(bytes_done) AS bigint) AS bytes_done
FROM counts GROUP BY dataset, status HAVING sum(files) > 0 ORDER BY dataset, status;

-- name: datasets
SELECT dataset FROM datasets ORDER BY dataset;

-- name: waiting_since
-- When the oldest waiting file of each dataset began to wait.
SELECT dataset, since_ms FROM (
    SELECT d.dataset, (SELECT min(f.queued_at_ms) FROM files AS f {by(files_queued)}
        WHERE f.dataset = d.dataset AND f.status IN ('pending', 'failed_download', 'failed_upload')) AS since_ms
    FROM datasets AS d) AS waiting
WHERE since_ms IS NOT NULL ORDER BY dataset;

-- name: in_flight
SELECT key, size, bytes_done, attempt, worker_id FROM files {by(files_held)}
WHERE worker IS NOT NULL ORDER BY started_at_ms, key LIMIT :limit;

-- name: files_page
SELECT {file_columns} FROM files WHERE key > :after AND key <= :last ORDER BY key LIMIT :limit;

-- name: files_of_status
SELECT {file_columns} FROM files WHERE status = :status AND key > :after AND key <= :last ORDER BY key LIMIT :limit;

-- name: files_by_keys
-- In any order: to sort them, PostgreSQL would walk all keys.
SELECT {file_columns} FROM files WHERE key IN ({keys_in(:keys)});

-- name: file_ids_page
SELECT id, key FROM files WHERE key > :after AND key <= :last ORDER BY key LIMIT :limit;

-- name: file_ids_of_status
-- The index alone answers it.
SELECT id, key FROM files WHERE status = :status AND key > :after AND key <= :last ORDER BY key LIMIT :limit;

-- name: files_of_days
-- The rows of a dataset and year: their keys are one stretch of the index.
SELECT date, status, reason, size, revision, mirrored_revision
FROM files WHERE key > :after AND key < :before ORDER BY key;

-- name: files_first
SELECT date FROM files WHERE key > :after AND key < :before ORDER BY key LIMIT 1;

-- name: files_last
SELECT date FROM files WHERE key > :after AND key < :before ORDER BY key DESC LIMIT 1;

-- ==== the soundness of the rows: `wrong`, and which is the first; all rows are read ====

-- name: check_counts
-- Counts by dataset and status that differ from a recount, with the bound on sizes that the triggers have.
SELECT count(*) AS wrong, min(name) AS first FROM (
    SELECT dataset || ' ' || status AS name FROM (
        SELECT dataset, status, files, bytes, bytes_done FROM counts
        UNION ALL
        SELECT dataset, status, -1, CASE WHEN size <= 10000000000000 THEN -size ELSE 0 END, -bytes_done FROM files) AS compared
    GROUP BY dataset, status HAVING sum(files) <> 0 OR sum(bytes) <> 0 OR sum(bytes_done) <> 0) AS differing;

-- name: check_parents
SELECT count(*) AS wrong, min(name) AS first FROM (
    SELECT 'revisions ' || file_id AS name FROM revisions WHERE NOT EXISTS (SELECT 1 FROM files AS f WHERE f.id = file_id)
    UNION ALL SELECT 'attempts ' || file_id FROM attempts WHERE NOT EXISTS (SELECT 1 FROM files AS f WHERE f.id = file_id)
    UNION ALL SELECT 'parts ' || upload FROM parts WHERE NOT EXISTS (SELECT 1 FROM uploads AS u WHERE u.id = upload)
    UNION ALL SELECT 'uploads ' || id FROM uploads
        WHERE file_id IS NOT NULL AND NOT EXISTS (SELECT 1 FROM files AS f WHERE f.id = file_id)
    UNION ALL SELECT 'uploads ' || id FROM uploads WHERE file_id IS NULL AND state IN ('open', 'completing')) AS orphans;

-- name: check_revisions
SELECT count(*) AS wrong, min(key) AS first FROM files AS f
WHERE NOT EXISTS (SELECT 1 FROM revisions AS r WHERE r.file_id = f.id AND r.revision = f.revision);

-- name: check_claims
SELECT count(*) AS wrong, min(key) AS first FROM files AS f
WHERE worker IS NOT NULL AND NOT (EXISTS (SELECT 1 FROM workers AS w WHERE w.id = f.worker)
    AND EXISTS (SELECT 1 FROM attempts AS a WHERE a.file_id = f.id AND a.attempt = f.attempt));
