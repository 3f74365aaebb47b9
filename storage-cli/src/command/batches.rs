//! Records on their way into the store: a few batches at once, in order where order counts.

use std::collections::HashSet;
use std::sync::Arc;

use storage_core::{
    Address, Backend, Batch, Change, Error, ErrorKind, ListRange, Mutation, Precondition, Result as Stored,
    Timestamp, Written,
};
use tokio::task::JoinSet;

use crate::exit::Failure;

/// What one record of the input asks for.
#[derive(Debug)]
pub(crate) enum Entry {
    /// Replaces the record.
    Put(Mutation),
    /// Items of a list from its beginning: replaces the record.
    Head(Mutation),
    /// Items of a list that was begun before.
    More { append: Mutation, start: u64 },
}

impl Entry {
    pub(crate) fn mutation(&self) -> &Mutation {
        match self {
            Self::Put(mutation) | Self::Head(mutation) | Self::More { append: mutation, .. } => mutation,
        }
    }
}

/// A record of the input and the line on which it begins.
pub(crate) type Numbered = (u64, Entry);

/// What came of the records so far.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) imported: u64,
    /// Left as they were, because of `--if-absent`.
    pub(crate) existing: u64,
    /// Records that the store refused, by line.
    pub(crate) refused: Vec<(u64, Failure)>,
}

/// Writes batches of records, several at once.
pub(crate) struct Batches {
    backend: Arc<dyn Backend>,
    if_absent: bool,
    flying: JoinSet<Flown>,
    /// The keys in flight: a later record of the same key waits, so that the last one wins.
    keys: HashSet<Address>,
    /// Lists that `--if-absent` left as they were: what follows of them is left out too.
    left: HashSet<Address>,
    pub(crate) tally: Tally,
}

/// A batch that has landed: the line of each mutation (0: of no interest) and what came of it.
struct Flown {
    batch: Batch,
    lines: Vec<u64>,
    results: Stored<Vec<Stored<Written>>>,
}

impl Batches {
    /// The most batches in flight: enough to keep a store busy while the next one is read.
    const MOST: usize = 4;

    pub(crate) fn new(backend: Arc<dyn Backend>, if_absent: bool) -> Self {
        Self {
            backend,
            if_absent,
            flying: JoinSet::new(),
            keys: HashSet::new(),
            left: HashSet::new(),
            tally: Tally::default(),
        }
    }

    /// Starts writing records, and waits while too many batches are in flight.
    pub(crate) async fn send(&mut self, entries: Vec<Numbered>) -> Result<(), Failure> {
        if entries.iter().any(|(_, entry)| self.keys.contains(&entry.mutation().address)) {
            self.drain().await?;
        }
        let (mut mutations, mut lines) =
            (Vec::with_capacity(entries.len()), Vec::with_capacity(entries.len()));
        for (line, entry) in entries {
            let mutation = match entry {
                Entry::Put(mutation) => mutation,
                Entry::Head(mutation) => {
                    if !self.if_absent {
                        mutations.push(Mutation::delete(mutation.address.clone()));
                        lines.push(0);
                    }
                    mutation
                }
                Entry::More { append, start } => {
                    // It goes alone, after what was before it.
                    self.fly(std::mem::take(&mut mutations), std::mem::take(&mut lines)).await?;
                    self.drain().await?;
                    self.more(line, append, start).await?;
                    continue;
                }
            };
            mutations.push(if self.if_absent { mutation.on(Precondition::Absent) } else { mutation });
            lines.push(line);
        }
        self.fly(mutations, lines).await
    }

    async fn fly(&mut self, mutations: Vec<Mutation>, lines: Vec<u64>) -> Result<(), Failure> {
        if mutations.is_empty() {
            return Ok(());
        }
        while self.flying.len() >= Self::MOST {
            self.land().await?;
        }
        self.keys.extend(mutations.iter().map(|mutation| mutation.address.clone()));
        let (backend, batch) = (Arc::clone(&self.backend), Batch::independent(mutations));
        self.flying.spawn(async move {
            let results = backend.write(&batch).await;
            Flown { batch, lines, results }
        });
        Ok(())
    }

    /// Waits until nothing is in flight.
    pub(crate) async fn drain(&mut self) -> Result<(), Failure> {
        while !self.flying.is_empty() {
            self.land().await?;
        }
        Ok(())
    }

    async fn land(&mut self) -> Result<(), Failure> {
        let Some(flown) = self.flying.join_next().await else { return Ok(()) };
        let flown = flown.map_err(|error| {
            Failure::new(ErrorKind::Internal, "import", format!("a writer ended: {error}"))
        })?;
        let Flown { batch, lines, results } = flown;
        for mutation in &batch.mutations {
            self.keys.remove(&mutation.address);
        }
        for ((mutation, line), result) in batch.mutations.into_iter().zip(lines).zip(results?) {
            match result {
                Ok(_) if line == 0 => {}
                Ok(_) => self.tally.imported += 1,
                Err(error) if self.if_absent && error.kind() == ErrorKind::PreconditionFailed => {
                    self.tally.existing += 1;
                    if matches!(mutation.change, Change::Append { .. }) {
                        self.left.insert(mutation.address);
                    }
                }
                Err(error) => self.refuse(line, error)?,
            }
        }
        Ok(())
    }

    /// Goes on with a list, if it is where the line says that it is.
    async fn more(&mut self, line: u64, append: Mutation, start: u64) -> Result<(), Failure> {
        let address = append.address.clone();
        if self.left.contains(&address) {
            return Ok(());
        }
        let expired = match &append.change {
            Change::Append { expires_at, .. } => expires_at.is_some_and(|at| at <= Timestamp::now()),
            _ => false,
        };
        if expired {
            return Ok(());
        }
        let range = ListRange { address: address.clone(), start, limit: 1 };
        let length = self.backend.list_range(&range).await?.map_or(0, |page| page.length);
        if length != start {
            let error = Error::invalid(format!(
                "the items of {address} begin at {start}, but the list has {length}: the lines before are missing"
            ));
            return self.refuse(line, error);
        }
        let batch = Batch::independent(vec![append.on(Precondition::Present)]);
        for result in self.backend.write(&batch).await? {
            if let Err(error) = result {
                self.refuse(line, error)?;
            }
        }
        Ok(())
    }

    /// Notes a record that the store does not take; what a store cannot do for any record ends the import.
    fn refuse(&mut self, line: u64, error: Error) -> Result<(), Failure> {
        match error.kind() {
            ErrorKind::InvalidInput
            | ErrorKind::TooLarge
            | ErrorKind::Conflict
            | ErrorKind::PreconditionFailed
            | ErrorKind::TypeMismatch
            | ErrorKind::OutOfRange => {
                self.tally.refused.push((line, error.into()));
                Ok(())
            }
            _ => Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::time::Duration;

    use storage_core::layer::{Around, Call, Policy, Reply};
    use storage_core::{Json, MemoryBackend, Request};

    use super::*;

    /// The later a write comes, the sooner it is done.
    #[derive(Debug)]
    struct Overtaking(AtomicU64);

    impl Policy for Overtaking {
        fn name(&self) -> &'static str {
            "overtaking"
        }

        async fn around<T, N, F>(&self, call: Call<'_>, next: N) -> Stored<T>
        where
            T: Reply,
            N: Fn() -> F + Send + Sync,
            F: Future<Output = Stored<T>> + Send,
        {
            if matches!(call.request, Request::Write(_)) {
                let before = self.0.fetch_add(1, Ordering::Relaxed);
                tokio::time::sleep(Duration::from_millis(50_u64.saturating_sub(before * 10))).await;
            }
            next().await
        }
    }

    fn put(key: &str, value: u64) -> Numbered {
        let address = Address::new("c", key).unwrap();
        (value, Entry::Put(Mutation::put(address, Json::parse(value.to_string()).unwrap())))
    }

    #[tokio::test]
    async fn batches_do_not_overtake_others_with_the_same_key() {
        let backend: Arc<dyn Backend> =
            Arc::new(Around::new(Overtaking(AtomicU64::new(0)), Arc::new(MemoryBackend::new())));
        let mut batches = Batches::new(Arc::clone(&backend), false);
        for value in 1..=4 {
            batches.send(vec![put("same", value), put(&format!("other-{value}"), value)]).await.unwrap();
        }
        batches.drain().await.unwrap();
        assert_eq!(batches.tally.imported, 8);
        let found = backend.get(&[Address::new("c", "same").unwrap()]).await.unwrap();
        let value = found[0].as_ref().and_then(|record| record.value.as_json()).unwrap();
        assert_eq!(value.as_str(), "4");
    }
}
