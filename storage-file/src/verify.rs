//! Checking what is stored against itself: every record, item, expiry and index entry.

use redb::{ReadableTable, ReadableTableMetadata};
use storage_core::{MaintenanceReport, Result, Value};

use crate::convert::{self, Stored};
use crate::error::{contain, engine};
use crate::index::entry_record;
use crate::schema::{self, ENTRIES, EXPIRY, ITEMS};
use crate::snapshot::Snapshot;

const MOST_PROBLEMS: usize = 100;

#[derive(Default)]
struct Findings {
    examined: u64,
    problems: Vec<String>,
}

impl Findings {
    fn add(&mut self, problem: String) {
        if self.problems.len() < MOST_PROBLEMS {
            self.problems.push(problem);
        }
    }
}

impl Snapshot {
    pub(crate) fn len(&self) -> Result<u64> {
        self.records.len().map_err(engine)
    }

    pub(crate) fn verify(&self) -> MaintenanceReport {
        let mut findings = Findings::default();
        for check in [Self::verify_records, Self::verify_expiry, Self::verify_entries] {
            if let Err(error) = contain(|| check(self, &mut findings)).flatten() {
                findings.add(error.message().to_owned());
            }
        }
        MaintenanceReport {
            examined: findings.examined,
            problems: findings.problems,
            ..MaintenanceReport::default()
        }
    }

    /// Every record decodes, keys ascend, and what other tables must say of it they say.
    fn verify_records(&self, findings: &mut Findings) -> Result<()> {
        let mut last = Vec::new();
        let (mut items, mut expiring, mut entries) = (0, 0, 0);
        for row in self.records.iter().map_err(engine)? {
            let (key, value) = row.map_err(engine)?;
            let key = key.value();
            findings.examined += 1;
            if key <= last.as_slice() {
                findings.add(format!("keys are out of order at {}", String::from_utf8_lossy(key)));
            }
            last.clear();
            last.extend_from_slice(key);
            match convert::decode(key, value.value()) {
                Ok(stored) => {
                    expiring += u64::from(stored.record.expires_at.is_some());
                    items += self.verify_items(&stored, findings)?;
                    entries += self.verify_record_entries(key, &stored, findings)?;
                }
                Err(error) => findings.add(error.message().to_owned()),
            }
        }
        self.verify_total(
            "list items",
            items,
            self.transaction.open_table(ITEMS).map_err(engine)?.len(),
            findings,
        )?;
        self.verify_total(
            "expiry entries",
            expiring,
            self.transaction.open_table(EXPIRY).map_err(engine)?.len(),
            findings,
        )?;
        self.verify_total(
            "index entries",
            entries,
            self.transaction.open_table(ENTRIES).map_err(engine)?.len(),
            findings,
        )
    }

    fn verify_total(
        &self,
        what: &str,
        expected: u64,
        found: Result<u64, redb::StorageError>,
        findings: &mut Findings,
    ) -> Result<()> {
        let found = found.map_err(engine)?;
        if found != expected {
            findings.add(format!("there are {found} {what}, and the records need {expected}"));
        }
        Ok(())
    }

    fn verify_items(&self, stored: &Stored, findings: &mut Findings) -> Result<u64> {
        let Value::List { length } = stored.record.value else { return Ok(0) };
        let (from, to) = (schema::item_key(stored.list, 0), schema::item_key(stored.list, u64::MAX));
        let table = self.transaction.open_table(ITEMS).map_err(engine)?;
        let mut found = 0;
        for row in table.range::<&[u8]>(from.as_slice()..=to.as_slice()).map_err(engine)? {
            let (key, value) = row.map_err(engine)?;
            if let Err(error) = convert::decode_item(&stored.record.address, key.value(), value.value()) {
                findings.add(format!("item {found}: {}", error.message()));
            }
            found += 1;
        }
        if found != length {
            findings
                .add(format!("{} has {found} items, and its record says {length}", stored.record.address));
        }
        Ok(found)
    }

    fn verify_record_entries(&self, key: &[u8], stored: &Stored, findings: &mut Findings) -> Result<u64> {
        let address = &stored.record.address;
        if let Some(at) = stored.record.expires_at {
            let table = self.transaction.open_table(EXPIRY).map_err(engine)?;
            if table.get(schema::expiry_key(at, key).as_slice()).map_err(engine)?.is_none() {
                findings.add(format!("{address} expires, and no expiry entry says so"));
            }
        }
        let mut count = 0;
        for index in self.indexes.of(&address.collection) {
            let table = self.transaction.open_table(ENTRIES).map_err(engine)?;
            for entry in index.entries(&stored.record)? {
                count += 1;
                if table.get(entry.as_slice()).map_err(engine)?.is_none() {
                    findings.add(format!("{address} is missing from the index {}", index.spec.path));
                }
            }
        }
        Ok(count)
    }

    fn verify_expiry(&self, findings: &mut Findings) -> Result<()> {
        let table = self.transaction.open_table(EXPIRY).map_err(engine)?;
        for row in table.iter().map_err(engine)? {
            let (key, _) = row.map_err(engine)?;
            let known = schema::split_expiry(key.value());
            if known.and_then(|(_, record)| schema::address(record)).is_none() {
                findings.add("an expiry entry is damaged".to_owned());
            }
        }
        Ok(())
    }

    fn verify_entries(&self, findings: &mut Findings) -> Result<()> {
        let table = self.transaction.open_table(ENTRIES).map_err(engine)?;
        for row in table.iter().map_err(engine)? {
            let (key, _) = row.map_err(engine)?;
            let index = key.value().first_chunk().map(|id| u32::from_be_bytes(*id));
            if !self.indexes.0.iter().any(|known| Some(known.id) == index)
                || entry_record(key.value()).is_none()
            {
                findings.add("an index entry is damaged, or of no index".to_owned());
            }
        }
        Ok(())
    }
}
