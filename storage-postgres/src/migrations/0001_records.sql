-- Records, one row each, and the items of lists. Names between @ are those of this store: with its schema, or after a dot
-- without.

CREATE TABLE @records@ (
    collection text COLLATE "C" NOT NULL,
    key text COLLATE "C" NOT NULL,
    -- j JSON, b bytes, c counters, l a list: which of the columns below hold the value.
    kind "char" NOT NULL DEFAULT 'j',
    -- Another one with every write.
    version bigint NOT NULL
        DEFAULT ('x' || right(replace(gen_random_uuid()::text, '-', ''), 16))::bit(64)::bigint,
    created_at timestamptz NOT NULL DEFAULT date_trunc('milliseconds', now()),
    updated_at timestamptz NOT NULL DEFAULT date_trunc('milliseconds', now()),
    -- From then on the record counts as absent.
    expires_at timestamptz,
    json jsonb,
    bytes bytea,
    media_type text,
    counters jsonb,
    list_id bigint,
    list_len bigint,
    PRIMARY KEY (collection, key),
    CONSTRAINT @.records_kind@ CHECK (
        CASE kind
            WHEN 'j' THEN json IS NOT NULL
            WHEN 'b' THEN bytes IS NOT NULL AND media_type IS NOT NULL
            WHEN 'c' THEN counters IS NOT NULL
            WHEN 'l' THEN list_id IS NOT NULL AND list_len IS NOT NULL
            ELSE false
        END
    )
);

-- For the sweep.
CREATE INDEX @.records_expiry@ ON @records@ (expires_at) WHERE expires_at IS NOT NULL;

CREATE TABLE @list_items@ (
    list_id bigint NOT NULL,
    position bigint NOT NULL,
    item jsonb NOT NULL,
    PRIMARY KEY (list_id, position)
);

-- The items of a list go with it, whoever removes or replaces its record.
CREATE FUNCTION @drop_list_items@() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM @list_items@ WHERE list_id = OLD.list_id;
    RETURN NULL;
END
$$;

CREATE TRIGGER @.records_list_deleted@ AFTER DELETE ON @records@
    FOR EACH ROW WHEN (OLD.kind = 'l') EXECUTE FUNCTION @drop_list_items@();

CREATE TRIGGER @.records_list_replaced@ AFTER UPDATE ON @records@
    FOR EACH ROW WHEN (OLD.kind = 'l' AND NEW.list_id IS DISTINCT FROM OLD.list_id)
    EXECUTE FUNCTION @drop_list_items@();
