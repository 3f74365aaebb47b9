-- The values of unique indexes, each with the key of the record that holds it. Triggers on the records keep them; they
-- are made with the index.

CREATE TABLE @unique_values@ (
    -- The name of the index in the database.
    index text COLLATE "C" NOT NULL,
    value text COLLATE "C" NOT NULL,
    key text COLLATE "C" NOT NULL,
    expires_at timestamptz,
    PRIMARY KEY (index, value)
);
