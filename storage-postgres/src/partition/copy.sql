-- What keeps the table to which records move as the records are.
CREATE FUNCTION @records_next_copy@() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'TRUNCATE' THEN
        DELETE FROM @records_next@;
        RETURN NULL;
    END IF;
    IF TG_OP = 'DELETE' OR TG_OP = 'UPDATE' AND (OLD.collection, OLD.key) <> (NEW.collection, NEW.key) THEN
        IF current_setting('transaction_isolation') <> 'read committed' THEN
            -- A copy that this transaction does not see cannot be removed by it: then this fails, and it is begun again.
            INSERT INTO @records_next@ SELECT OLD.* ON CONFLICT (collection, key) DO UPDATE SET version = excluded.version;
        END IF;
        DELETE FROM @records_next@ n WHERE n.collection = OLD.collection AND n.key = OLD.key;
    END IF;
    IF TG_OP <> 'DELETE' THEN
        INSERT INTO @records_next@ SELECT NEW.* ON CONFLICT (collection, key) DO UPDATE SET
            kind = excluded.kind, version = excluded.version, created_at = excluded.created_at,
            updated_at = excluded.updated_at, expires_at = excluded.expires_at, json = excluded.json,
            bytes = excluded.bytes, media_type = excluded.media_type, counters = excluded.counters,
            list_id = excluded.list_id, list_len = excluded.list_len;
    END IF;
    RETURN NULL;
END
$$;

CREATE TRIGGER @.records_next_copy@ AFTER INSERT OR UPDATE OR DELETE ON @records@
    FOR EACH ROW EXECUTE FUNCTION @records_next_copy@();
CREATE TRIGGER @.records_next_empty@ AFTER TRUNCATE ON @records@
    FOR EACH STATEMENT EXECUTE FUNCTION @records_next_copy@();
-- Also for those who have triggers off.
ALTER TABLE @records@ ENABLE ALWAYS TRIGGER @.records_next_copy@;
ALTER TABLE @records@ ENABLE ALWAYS TRIGGER @.records_next_empty@;

-- How far the copy is.
CREATE TABLE @records_next_state@ (
    one boolean PRIMARY KEY DEFAULT true CHECK (one),
    collection text COLLATE "C" NOT NULL DEFAULT '',
    key text COLLATE "C" NOT NULL DEFAULT '',
    copied bigint NOT NULL DEFAULT 0
);
INSERT INTO @records_next_state@ DEFAULT VALUES;
