-- The text of an item as it was given, where its numbers have more digits than compare: see the column of the same name of
-- the records.

ALTER TABLE @list_items@ ADD COLUMN bytes bytea;
