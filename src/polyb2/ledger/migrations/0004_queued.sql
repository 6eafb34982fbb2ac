-- The ledger, version 4: since when a file waits, so that the age of the oldest one is known at once.

-- When the row last entered the queue: it was new, re-published, or put back. Retries and releases do not change it.
ALTER TABLE files ADD COLUMN queued_at_ms INTEGER NOT NULL DEFAULT 0;

UPDATE files SET queued_at_ms = coalesce(
    (SELECT r.first_seen_ms FROM revisions AS r WHERE r.file_id = files.id AND r.revision = files.revision),
    discovered_at_ms);

CREATE INDEX files_queued ON files (dataset, queued_at_ms)
    WHERE status IN ('pending', 'failed_download', 'failed_upload');
