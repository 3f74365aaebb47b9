//! Coalescing as one would write it by hand: what waits goes together.

use std::future::Future;
use std::sync::Arc;

use anyhow::{Context, Result, anyhow};
use tokio::sync::{Mutex, mpsc, oneshot};

/// Requests of one kind under way at once.
const IN_FLIGHT: usize = 3;
/// Most callers that share a request.
const MOST: usize = 1_000;

type Waiting<T, R> = (T, oneshot::Sender<Result<R, String>>);

/// Callers who wait, and tasks that each serve all that wait at once.
pub(super) struct Queue<T, R> {
    sender: mpsc::UnboundedSender<Waiting<T, R>>,
}

impl<T: Send + 'static, R: Send + 'static> Queue<T, R> {
    pub(super) fn start<F: Future<Output = Result<Vec<R>>> + Send + 'static>(
        serve: impl Fn(Vec<T>) -> F + Clone + Send + Sync + 'static,
    ) -> Self {
        let (sender, receiver) = mpsc::unbounded_channel();
        let receiver = Arc::new(Mutex::new(receiver));
        for _ in 0..IN_FLIGHT {
            tokio::spawn(work(receiver.clone(), serve.clone()));
        }
        Self { sender }
    }

    pub(super) async fn call(&self, what: T) -> Result<R> {
        let (sender, reply) = oneshot::channel();
        self.sender.send((what, sender)).map_err(|_| anyhow!("the queue has ended"))?;
        reply.await.context("the queue has ended")?.map_err(|error| anyhow!(error))
    }
}

/// Serves until the queue is dropped.
async fn work<T, R, F: Future<Output = Result<Vec<R>>>>(
    receiver: Arc<Mutex<mpsc::UnboundedReceiver<Waiting<T, R>>>>,
    serve: impl Fn(Vec<T>) -> F,
) {
    loop {
        let mut waiting = Vec::new();
        if receiver.lock().await.recv_many(&mut waiting, MOST).await == 0 {
            return;
        }
        let (calls, callers): (Vec<_>, Vec<_>) = waiting.into_iter().unzip();
        // A caller that has gone needs no reply.
        match serve(calls).await {
            Ok(replies) => {
                for (caller, reply) in callers.into_iter().zip(replies) {
                    let _ = caller.send(Ok(reply));
                }
            }
            Err(error) => {
                for caller in callers {
                    let _ = caller.send(Err(format!("{error:#}")));
                }
            }
        }
    }
}
