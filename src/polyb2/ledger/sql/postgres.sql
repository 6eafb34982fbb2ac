-- The statements that PostgreSQL needs in its own words; common.sql announces them and says what they mean.

-- define: live
-- By the server's clock alone, read when it is asked: a transaction may have waited. A lease from beyond its length is one of
-- before the clock was set back; a minute is what the clocks of a server and its standby may differ by.
(w.ended_ms IS NULL AND w.lease_wall_ms BETWEEN polyb2.now_ms() AND polyb2.now_ms() + w.lease_ms + 60000)

-- define: by(index)
-- The planner takes no hints; tests/ledger/postgres/test_plans.py looks at what it chooses.

-- define: plain(column)
{column}

-- define: keys_in(array)
SELECT jsonb_array_elements_text({array}::jsonb)

-- define: ids_in(array)
SELECT jsonb_array_elements_text({array}::jsonb)::bigint

-- define: each(array)
jsonb_array_elements({array}::jsonb) AS d (value)

-- define: text(path)
(jsonb_path_query_first(d.value, '{path}') #>> ARRAY[]::text[])

-- define: number(path)
(jsonb_path_query_first(d.value, '{path}') #>> ARRAY[]::text[])::bigint

-- name: worker_register
-- Differs: the server's clock grants the lease.
INSERT INTO workers (worker_id, host, version, started_ms, lease_ms, lease_wall_ms)
VALUES (:worker_id, :host, :version, :now_ms, :lease_ms, polyb2.now_ms() + :lease_ms)
RETURNING id;

-- name: shares_lock
-- Differs: there are many writers, and two might take the same rest. "PB2S".
SELECT pg_advisory_xact_lock(x'50423253'::bigint) AS locked;

-- name: worker_renew
-- Differs: the server's clock grants the lease.
UPDATE workers AS w SET lease_wall_ms = polyb2.now_ms() + w.lease_ms WHERE w.id = :worker AND {live};

-- name: claim_best
-- Differs: rows are locked as they are chosen, and those that another transaction chose are passed over; the update by their
-- ids is in the same transaction. A UNION takes no locks, so each kind of row is a query of its own.
WITH pending AS MATERIALIZED (
    SELECT id, resumable, date, size FROM files
    WHERE status = 'pending' ORDER BY resumable DESC, date DESC, size, id LIMIT :count FOR NO KEY UPDATE SKIP LOCKED),
due AS MATERIALIZED (
    SELECT id, resumable, date, size FROM files
    WHERE status IN ('failed_download', 'failed_upload') AND next_attempt_ms <= :now_ms
    ORDER BY next_attempt_ms LIMIT 64 FOR NO KEY UPDATE SKIP LOCKED),
stepped AS MATERIALIZED (
    SELECT id, resumable, date, size FROM files
    WHERE status IN ('failed_download', 'failed_upload') AND next_attempt_ms > :now_ms + :backoff_max_ms
    ORDER BY next_attempt_ms LIMIT 1 FOR NO KEY UPDATE SKIP LOCKED),
dead AS MATERIALIZED (SELECT w.id FROM workers AS w WHERE NOT {live}),
left_behind AS MATERIALIZED (
    SELECT held.* FROM dead CROSS JOIN LATERAL (
        SELECT f.id, f.resumable, f.date, f.size FROM files AS f WHERE f.worker = dead.id
        ORDER BY f.resumable DESC, f.date DESC, f.size, f.id LIMIT :count FOR NO KEY UPDATE SKIP LOCKED) AS held)
SELECT id FROM (SELECT * FROM pending UNION ALL SELECT * FROM due UNION ALL SELECT * FROM stepped
                UNION ALL SELECT * FROM left_behind) AS found
ORDER BY resumable DESC, date DESC, size, id LIMIT :count;

-- name: claim_fair
-- Differs: the row is locked as it is chosen. Datasets are tried in the order of their turns until one has a row.
SELECT found.id FROM (
    SELECT d.dataset FROM datasets AS d LEFT JOIN turns AS t ON t.worker = :worker AND t.dataset = d.dataset
    ORDER BY coalesce(t.claimed_seq, 0), d.dataset) AS turn
CROSS JOIN LATERAL (
    SELECT id FROM (SELECT f.id FROM files AS f WHERE f.status = 'pending' AND f.dataset = turn.dataset
                    ORDER BY f.resumable DESC, f.date DESC, f.size, f.id LIMIT 1 FOR NO KEY UPDATE SKIP LOCKED) AS pending
    UNION ALL
    SELECT id FROM (SELECT f.id FROM files AS f
                    WHERE f.status IN ('failed_download', 'failed_upload') AND f.dataset = turn.dataset
                      AND f.next_attempt_ms <= :now_ms
                    ORDER BY f.next_attempt_ms LIMIT 1 FOR NO KEY UPDATE SKIP LOCKED) AS due
    LIMIT 1) AS found
LIMIT 1;

-- name: fence
-- Differs: the rows are locked in the order of their ids until the end of the transaction; and the attempt's own token is
-- compared, as a promoted standby may have lost a claim, and then two workers have the same number of an attempt. The claims
-- are put in order, and each row is looked up by its id: to put the rows in order, the planner would walk all of them.
WITH claim AS MATERIALIZED (
    SELECT {number($[0])} AS file_id, {number($[1])} AS attempt, {number($[2])} AS worker, {text($[3])} AS token
    FROM {each(:claims)} ORDER BY 1)
SELECT held.* FROM claim CROSS JOIN LATERAL (
    SELECT f.id, f.revision, f.parts_done > f.parts_mark AS progressed
    FROM files AS f JOIN workers AS w ON w.id = f.worker
         JOIN attempts AS a ON a.file_id = f.id AND a.attempt = f.attempt
    WHERE f.id = claim.file_id AND f.attempt = claim.attempt AND f.worker = claim.worker AND f.status = 'processing'
      AND a.token = claim.token AND {live}
    LIMIT 1 FOR NO KEY UPDATE OF f) AS held;

-- name: held_summary
-- Differs: sum() has as many digits as it takes.
SELECT count(*) AS files, coalesce(sum(size), 0) AS bytes, coalesce(sum(replaces), 0) AS replaced, max(date) AS last FROM held;
