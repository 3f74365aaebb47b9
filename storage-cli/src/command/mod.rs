//! The commands, a file for each family.

mod admin;
mod apply;
mod batches;
mod browse;
mod export;
mod import;
mod indexes;
mod maintenance;
mod pick;
mod plugin;
mod records;
mod schema;
mod values;

use std::sync::Arc;

use clap::{CommandFactory as _, Subcommand};
use storage_core::{Backend, Mutation, Store, Written};
use storage_registry::{ErrorKind, OpenPlan, Registry};

use crate::args::Cli;
use crate::exit::{Failure, Status};
use crate::output::Output;
use crate::plugins::PluginArgs;

/// How a command ends.
type Outcome = Result<Status, Failure>;

/// The commands; each is described at its arguments.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Put(records::Put),
    Get(records::Get),
    Delete(records::Delete),
    List(browse::List),
    Query(browse::Find),
    Incr(values::Incr),
    Append(values::Append),
    Range(values::Range),
    Import(import::Import),
    Export(export::Export),
    Apply(apply::Apply),
    Collections(browse::Collections),
    Count(browse::CountRecords),
    Clear(maintenance::Clear),
    /// Add, list and drop indexes
    #[command(subcommand)]
    Index(indexes::Index),
    /// Show and upgrade the tables of a store
    #[command(subcommand)]
    Schema(schema::Schema),
    Types(admin::Types),
    Stats(admin::ShowStats),
    Health(admin::ShowHealth),
    Verify(maintenance::Verify),
    Compact(maintenance::Compact),
    /// Install, check, sign and test plugins: storage types in shared libraries
    #[command(subcommand)]
    Plugin(plugin::Plugin),
    Completions(admin::Completions),
}

impl Command {
    pub(crate) async fn run(self, url: &str, plugins: &PluginArgs, out: &mut Output) -> Outcome {
        match self {
            Self::Types(_) => return admin::types(plugins, out),
            Self::Plugin(plugin) => return plugin.run(plugins, out),
            Self::Schema(schema) => return Box::pin(schema.run(url, plugins, out)).await,
            Self::Completions(shell) => return admin::completions(&shell, &mut Cli::command(), out),
            _ => {}
        }
        let store = open(url, plugins, out).await?;
        let backend = Arc::clone(store.backend());
        let outcome = Box::pin(self.on(&store, &backend, out)).await;
        let closed = backend.close().await;
        // The first thing that went wrong is the one to tell.
        let status = outcome?;
        closed?;
        Ok(status)
    }

    async fn on(self, store: &Store, backend: &Arc<dyn Backend>, out: &mut Output) -> Outcome {
        match self {
            Self::Put(put) => put.run(backend, out).await,
            Self::Get(get) => get.run(backend, out).await,
            Self::Delete(delete) => delete.run(backend, out).await,
            Self::List(list) => list.run(backend, out).await,
            Self::Query(find) => find.run(backend, out).await,
            Self::Incr(incr) => incr.run(backend, out).await,
            Self::Append(append) => append.run(backend, out).await,
            Self::Range(range) => range.run(backend, out).await,
            Self::Import(import) => import.run(backend, out).await,
            Self::Export(export) => export.run(backend, out).await,
            Self::Apply(apply) => apply.run(store, out).await,
            Self::Collections(_) => browse::collections(backend, out).await,
            Self::Count(count) => count.run(backend, out).await,
            Self::Clear(clear) => clear.run(backend, out).await,
            Self::Index(index) => index.run(backend, out).await,
            Self::Stats(_) => admin::stats(backend, out).await,
            Self::Health(_) => admin::health(backend, out).await,
            Self::Verify(_) => maintenance::verify(backend, out).await,
            Self::Compact(_) => maintenance::compact(backend, out).await,
            Self::Types(_) | Self::Plugin(_) | Self::Schema(_) | Self::Completions(_) => Ok(Status::Done),
        }
    }
}

async fn open(url: &str, plugins: &PluginArgs, out: &mut Output) -> Result<Store, Failure> {
    plan(url, plugins, out)?.open().await.map_err(not_opened)
}

/// Finds the store's type, and checks its configuration.
fn plan(url: &str, plugins: &PluginArgs, out: &mut Output) -> Result<OpenPlan, Failure> {
    let loaded = plugins.load();
    match Registry::global().plan(url) {
        Ok(plan) => Ok(plan),
        Err(error) => {
            // Whoever asks for a type that is not there wants to know what was kept out.
            if error.kind() == ErrorKind::NotFound {
                loaded.warn(out)?;
            }
            Err(not_opened(error))
        }
    }
}

/// A URL that leads nowhere is bad input, not a record that is missing.
fn not_opened(error: storage_core::Error) -> Failure {
    let nowhere = error.kind() == ErrorKind::NotFound;
    let failure = Failure::from(error.operation("open"));
    if nowhere { failure.with_status(Status::BadInput) } else { failure }
}

/// Applies one mutation.
async fn write_one(backend: &Arc<dyn Backend>, mutation: Mutation) -> Result<Written, Failure> {
    let batch = storage_core::Batch::independent(vec![mutation]);
    let result = backend.write(&batch).await?.into_iter().next();
    let missing = || Failure::new(ErrorKind::Internal, "write", "the backend gave no result");
    Ok(result.ok_or_else(missing)??)
}
