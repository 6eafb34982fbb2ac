-- The ledger, version 6: the transitions as they were, checked without the table that a long IN builds at every change.

DROP TRIGGER files_transition;

-- The transitions of core/status.py, and no others.
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
