-- The ledger, version 3: what its owner was notified of, so that a restart does not say it again.

-- A row a piece of news, by a name that says what it is about, such as `late us_stocks_sip/day_aggs_v1 2024-01-02`.
CREATE TABLE told (
    name    TEXT NOT NULL PRIMARY KEY,
    told_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
