-- The log of changes: that a record changed, not how. Triggers on the records write it; they are made when a store that
-- offers the feed is opened.

CREATE TABLE @changes@ (
    -- The transaction: what is below every running one is complete.
    xid xid8 NOT NULL DEFAULT pg_current_xact_id(),
    seq bigint NOT NULL GENERATED ALWAYS AS IDENTITY,
    at timestamptz NOT NULL DEFAULT date_trunc('milliseconds', clock_timestamp()),
    collection text COLLATE "C" NOT NULL,
    key text COLLATE "C" NOT NULL,
    PRIMARY KEY (xid, seq)
);

CREATE INDEX @.changes_at@ ON @changes@ (at);

-- Up to where the log was removed; one row.
CREATE TABLE @changes_removed@ (
    one boolean PRIMARY KEY DEFAULT true CHECK (one),
    xid xid8 NOT NULL DEFAULT '0',
    seq bigint NOT NULL DEFAULT 0
);

INSERT INTO @changes_removed@ DEFAULT VALUES;

-- The arguments: the channel and the lock of those who wait.
CREATE FUNCTION @log_changes@() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO @changes@ (collection, key)
    -- Not what holds a place within a transaction.
    SELECT c.collection, c.key FROM changed c WHERE c.expires_at IS DISTINCT FROM '-infinity';
    IF FOUND THEN
        -- Transactions that notify commit one after the other, so only if somebody waits: then the lock is taken.
        IF pg_try_advisory_lock(TG_ARGV[1]::bigint) THEN
            PERFORM pg_advisory_unlock(TG_ARGV[1]::bigint);
        ELSE
            PERFORM pg_notify(TG_ARGV[0], '');
        END IF;
    END IF;
    RETURN NULL;
END
$$;
