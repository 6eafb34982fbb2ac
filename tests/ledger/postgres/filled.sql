-- A ledger as it is after months: most files are completed, some wait, few failed, fewer are in work.

INSERT INTO workers (worker_id, host, version, started_ms, lease_ms, lease_wall_ms, ended_ms)
    SELECT 'worker-' || n, 'host', 'version', 0, 60000, CASE WHEN n > 190 THEN polyb2.now_ms() + 60000 ELSE n END, NULL
    FROM generate_series(1, 200) AS n;

INSERT INTO files (key, dataset, date, size, source_etag, source_last_modified_ms, status, attempt, worker, next_attempt_ms,
                   dest_key, verification, mirrored_revision, discovered_at_ms, queued_at_ms, resumable)
    SELECT 'prefix/type_' || n % 20 || '/2024/01/' || n, 'prefix/type_' || n % 20, '20' || n % 24 || '-01-02', n, 'etag', 0,
           status, 1, CASE WHEN status = 'processing' THEN n % 200 + 1 END,
           CASE WHEN status IN ('failed_download', 'failed_upload') THEN n * 7919 % :files END,
           'key', 'etag', 1, n, n, CASE WHEN n % 1000 = 0 THEN 1 ELSE 0 END
    FROM generate_series(1, :files) AS n
    CROSS JOIN LATERAL (SELECT CASE WHEN n % 100 < 84 THEN 'completed' WHEN n % 100 < 92 THEN 'pending'
        WHEN n % 100 < 98 THEN 'failed_upload' WHEN n % 200 = 98 THEN 'processing' ELSE 'permanent_failure' END) AS s (status);

INSERT INTO attempts (file_id, attempt, revision, worker_id, token, started_ms, ended_ms, outcome)
    SELECT id, 1, 1, 'worker', 'token', id, id, CASE status WHEN 'completed' THEN 'completed' WHEN 'failed_upload' THEN 'fail_upload' END
    FROM files;

INSERT INTO uploads (file_id, revision, dest_key, upload_id, token, size, part_bytes, proof, state)
    SELECT id, 1, 'key', 'upload-' || id, 'token', 1, 1, 'etag',
           CASE WHEN id % 500 = 1 THEN 'abandoned' WHEN status = 'completed' THEN 'done' ELSE 'open' END FROM files WHERE id % 4 = 1;

INSERT INTO parts (upload, number, length, etag) SELECT id, number, 1, 'etag' FROM uploads, generate_series(1, 4) AS number;

INSERT INTO turns SELECT w, 'prefix/type_' || n, n FROM generate_series(1, 200) AS w, generate_series(0, 19) AS n;

INSERT INTO listings SELECT 'prefix/type_' || d, 'month-' || m, 1, 1 FROM generate_series(0, 19) AS d, generate_series(1, 200) AS m;

INSERT INTO held SELECT 'prefix/type_1/2024/02/' || n, 'prefix/type_1', '2024-02-02', 1, 'etag', 1 FROM generate_series(1, 5000) AS n;

INSERT INTO notices SELECT 'late ' || n, n FROM generate_series(1, 2000) AS n;

INSERT INTO throughput SELECT s, w, 1 FROM generate_series(1, 600) AS s, generate_series(1, 10) AS w;

ANALYZE;
