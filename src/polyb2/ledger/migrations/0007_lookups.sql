-- The ledger, version 7: rows are found by their status; what a watch follows, and what it found and may not queue unasked.

-- Rows of a status within a stretch of keys, in their order.
CREATE INDEX files_status ON files (status, key);

-- What a watch found and did not queue, because it is more than POLYB2_MAX_PLAN_BYTES and nobody was there to ask: until a
-- discovery is told --yes, or the source lists something else. `replaces`: the ledger has an older revision of the file.
CREATE TABLE held (
    key                     TEXT NOT NULL PRIMARY KEY,
    dataset                 TEXT NOT NULL,
    date                    TEXT NOT NULL,
    size                    INTEGER NOT NULL,
    source_etag             TEXT NOT NULL,
    source_last_modified_ms INTEGER NOT NULL,
    replaces                INTEGER NOT NULL CHECK (replaces IN (0, 1)),
    held_ms                 INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- The datasets that a watch looked after: files dated `since` or later are its to queue, whenever they come.
CREATE TABLE followed (
    dataset TEXT NOT NULL PRIMARY KEY,
    since   TEXT NOT NULL
) STRICT, WITHOUT ROWID;

-- A watch of an earlier version left no more than the time when it last listed everything; it looked back seven days.
INSERT INTO followed (dataset, since)
SELECT d.dataset, date(CAST(m.value AS INTEGER) / 1000, 'unixepoch', '-8 days')
FROM datasets AS d CROSS JOIN meta AS m WHERE m.name = 'full_listing_ms';

-- The counts as they were, but a size that no target holds counts as nothing: such a file is parked unsent, and a few sizes
-- near 2^63 would overflow a sum. The bound is that of core/parts.py.
DROP TRIGGER files_count_insert;
DROP TRIGGER files_count_delete;
DROP TRIGGER files_count_update;

CREATE TRIGGER files_count_insert AFTER INSERT ON files BEGIN
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
