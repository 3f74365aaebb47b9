//! Group commit as one would write it by hand: a thread that commits whatever waits, all at once.

use std::sync::mpsc;
use std::thread::JoinHandle;

use anyhow::{Context, Result, anyhow};
use tokio::sync::oneshot;

/// Most changes in one commit.
const MOST: usize = 4096;

/// One change.
#[derive(Clone, Debug)]
pub(crate) enum Change {
    Put(String, Vec<u8>),
    Increment(String),
}

/// An engine that commits several changes as one, durably, and answers with the new value for each increment
/// and zero for each put.
pub(crate) trait Commit: Send + 'static {
    fn commit(&mut self, changes: &[Change]) -> Result<Vec<i64>>;
}

type Waiting = (Vec<Change>, oneshot::Sender<Result<Vec<i64>, String>>);

/// The committing thread. Dropping it waits for what is under way.
pub(crate) struct GroupCommit {
    queue: Option<mpsc::Sender<Waiting>>,
    thread: Option<JoinHandle<()>>,
}

impl GroupCommit {
    pub(crate) fn start(engine: impl Commit) -> Result<Self> {
        let (queue, waiting) = mpsc::channel();
        let thread = std::thread::Builder::new()
            .name("group-commit".into())
            .spawn(move || commit_what_waits(engine, &waiting))
            .context("starting the committing thread")?;
        Ok(Self { queue: Some(queue), thread: Some(thread) })
    }

    pub(crate) async fn write(&self, changes: Vec<Change>) -> Result<Vec<i64>> {
        let (sender, reply) = oneshot::channel();
        let queue = self.queue.as_ref().context("the committing thread has ended")?;
        queue.send((changes, sender)).map_err(|_| anyhow!("the committing thread has ended"))?;
        reply.await.context("the committing thread has ended")?.map_err(|error| anyhow!(error))
    }

    /// One increment.
    pub(crate) async fn increment(&self, key: &str) -> Result<i64> {
        let values = self.write(vec![Change::Increment(key.to_owned())]).await?;
        values.first().copied().context("no reply to an increment")
    }

    /// Puts, in one commit.
    pub(crate) async fn put_many(&self, records: Vec<(String, Vec<u8>)>) -> Result<()> {
        let puts = records.into_iter().map(|(key, value)| Change::Put(key, value)).collect();
        self.write(puts).await.map(drop)
    }
}

impl Drop for GroupCommit {
    fn drop(&mut self) {
        drop(self.queue.take());
        if let Some(thread) = self.thread.take() {
            // A panic of that thread has reached every waiting caller already.
            let _ = thread.join();
        }
    }
}

fn commit_what_waits(mut engine: impl Commit, waiting: &mpsc::Receiver<Waiting>) {
    while let Ok((mut changes, sender)) = waiting.recv() {
        let mut replies = vec![(changes.len(), sender)];
        while changes.len() < MOST {
            let Ok((more, sender)) = waiting.try_recv() else { break };
            replies.push((more.len(), sender));
            changes.extend(more);
        }
        match engine.commit(&changes) {
            Ok(values) => {
                let mut values = values.into_iter();
                for (count, sender) in replies {
                    // A caller that has gone needs no reply.
                    let _ = sender.send(Ok(values.by_ref().take(count).collect()));
                }
            }
            Err(error) => {
                for (_, sender) in replies {
                    let _ = sender.send(Err(format!("{error:#}")));
                }
            }
        }
    }
}
