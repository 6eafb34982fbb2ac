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
-- SQLite uses no index on a column behind a unary plus.
+{column}

-- define: keys_in(array)
SELECT value FROM json_each({array})

-- define: ids_in(array)
SELECT value FROM json_each({array})

-- define: each(array)
json_each({array}) AS d

-- define: text(path)
json_extract(d.value, '{path}')

-- define: number(path)
json_extract(d.value, '{path}')

-- name: worker_register
-- Differs: the lease is kept by the clocks of this host.
INSERT INTO workers (worker_id, host, version, boot_id, started_ms, lease_ms, lease_mono_ms, lease_wall_ms)
VALUES (:worker_id, :host, :version, :boot_id, :now_ms, :lease_ms, :mono_ms + :lease_ms, :now_ms + :lease_ms)
RETURNING id;

-- name: shares_lock
-- Differs: there is one writer.
SELECT TRUE AS locked;

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

-- name: claim_fair
-- Differs: there is one writer, so rows need no lock.
SELECT id FROM (
    SELECT coalesce(t.claimed_seq, 0) AS claimed_seq, coalesce(
        (SELECT f.id FROM files AS f INDEXED BY files_pending_dataset WHERE f.status = 'pending' AND f.dataset = d.dataset
         ORDER BY f.resumable DESC, f.date DESC, f.size, f.id LIMIT 1),
        (SELECT f.id FROM files AS f INDEXED BY files_waiting_dataset
         WHERE f.status IN ('failed_download', 'failed_upload') AND f.dataset = d.dataset AND f.next_attempt_ms <= :now_ms
         ORDER BY f.next_attempt_ms LIMIT 1)) AS id
    FROM datasets AS d LEFT JOIN turns AS t ON t.worker = :worker AND t.dataset = d.dataset) AS waiting
WHERE id IS NOT NULL ORDER BY claimed_seq LIMIT 1;

-- name: fence
-- Differs: there is one writer, so that what holds now still holds at the end of the transaction.
SELECT f.id, f.revision, f.parts_done > f.parts_mark AS progressed
FROM json_each(:claims) AS c CROSS JOIN files AS f ON f.id = json_extract(c.value, '$[0]')
     CROSS JOIN workers AS w ON w.id = f.worker
WHERE f.attempt = json_extract(c.value, '$[1]') AND f.worker = json_extract(c.value, '$[2]') AND f.status = 'processing'
  AND {live};

-- name: held_summary
-- Differs: total() adds without overflow.
SELECT count(*) AS files, total(size) AS bytes, coalesce(sum(replaces), 0) AS replaced, max(date) AS last FROM held;
