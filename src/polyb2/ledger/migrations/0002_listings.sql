-- The ledger, version 2: what the source's listings showed, so that a day without a file can be told from one not looked for.

-- A row a dataset and month (2024-01) that was listed to its end, and when last. Bit n - 1 of `days`: a file of day n was
-- listed, chosen or not. A row with an empty month: the dataset was listed as a whole, so months without a row have no file.
CREATE TABLE listings (
    dataset   TEXT NOT NULL,
    month     TEXT NOT NULL,
    days      INTEGER NOT NULL,
    listed_ms INTEGER NOT NULL,
    PRIMARY KEY (dataset, month)
) STRICT, WITHOUT ROWID;
