-- The server reads the text of a check and of a trigger's condition anew in every statement: a shorter check, and a trigger that
-- is only looked at by statements which set its column, take a tenth off a write of one record.

-- One value, not of two kinds, and JSON where the kind, or its default, says so. The column bytes may stand beside json. What is
-- there is not looked at again.
ALTER TABLE @records@ DROP CONSTRAINT @.records_kind@;
ALTER TABLE @records@ ADD CONSTRAINT @.records_kind@ CHECK (
    num_nonnulls(json, media_type, counters, list_id) = 1 AND (kind = 'j') = (json IS NOT NULL)
) NOT VALID;

-- The table that records are being moved to, if they are.
ALTER TABLE IF EXISTS @records_next@ DROP CONSTRAINT IF EXISTS @.records_kind@;
ALTER TABLE IF EXISTS @records_next@ ADD CONSTRAINT @.records_kind@ CHECK (
    num_nonnulls(json, media_type, counters, list_id) = 1 AND (kind = 'j') = (json IS NOT NULL)
) NOT VALID;

DROP TRIGGER @.records_list_replaced@ ON @records@;
CREATE TRIGGER @.records_list_replaced@ AFTER UPDATE OF list_id ON @records@
    FOR EACH ROW WHEN (OLD.kind = 'l' AND NEW.list_id IS DISTINCT FROM OLD.list_id)
    EXECUTE FUNCTION @drop_list_items@();
