//! The suite itself: that it has every case that is promised, and that its cases can fail.

use std::collections::BTreeSet;
use std::sync::Arc;

use async_trait::async_trait;
use storage_core::{Backend, Error, ErrorKind, Feature, MemoryBackend, Result};
use storage_testkit::{Fixture, Harness, Outcome, cases, find};

/// The documentation of the trait names the case that checks each sentence; all of them exist.
#[test]
fn every_case_named_in_the_documentation_exists() {
    let documentation = include_str!("../../storage-core/src/backend.rs");
    let text: String = documentation
        .lines()
        .filter_map(|line| line.trim_start().strip_prefix("///"))
        .flat_map(|line| [line, " "])
        .collect();
    let mut named = BTreeSet::new();
    for (open, _) in text.match_indices("(`") {
        let end = open + text[open..].find(')').expect("the parenthesis ends");
        named.extend(text[open..end].split('`').skip(1).step_by(2));
    }
    // Links to items are no cases.
    named.retain(|name| {
        name.contains('_') && name.chars().all(|c| c.is_ascii_lowercase() || c == '_' || c.is_ascii_digit())
    });
    assert!(named.len() > 40, "the documentation was read wrong: {named:?}");
    let known: BTreeSet<&str> = cases().iter().map(|case| case.name).collect();
    let unknown: Vec<_> = named.difference(&known).collect();
    assert!(unknown.is_empty(), "the documentation names cases that do not exist: {unknown:?}");
}

/// A group and a name are one case.
#[test]
fn cases_are_named_once() {
    let mut seen = BTreeSet::new();
    for case in cases() {
        assert!(seen.insert((case.group, case.name)), "{case:?} is there twice");
    }
    assert!(cases().iter().any(|case| case.server), "the cases for servers are in the list");
}

/// A memory store that claims less than it does, or nothing of what it says.
struct Broken {
    opens: bool,
}

#[async_trait]
impl Harness for Broken {
    async fn create(&self) -> Result<Box<dyn Fixture>> {
        Ok(Box::new(Broken { opens: self.opens }))
    }
}

#[async_trait]
impl Fixture for Broken {
    async fn open(&self) -> Result<Arc<dyn Backend>> {
        if !self.opens {
            return Err(Error::new(ErrorKind::Unavailable, "not today"));
        }
        Ok(Arc::new(MemoryBackend::new()))
    }

    fn persistent(&self) -> bool {
        // It is not.
        true
    }

    fn secrets(&self) -> Vec<String> {
        vec!["memory:".into()]
    }

    async fn open_bad_endpoint(&self) -> Result<Arc<dyn Backend>> {
        Ok(Arc::new(MemoryBackend::new()))
    }
}

async fn failure(group: &str, name: &str, harness: &dyn Harness) -> String {
    match find(group, name).expect("there is such a case").run(harness).await {
        Outcome::Failed(message) => message,
        other => panic!("{group}::{name} ended as {other:?}"),
    }
}

#[tokio::test]
async fn what_does_not_hold_fails_with_a_message() {
    let broken = Broken { opens: true };
    let message = failure("errors_and_life", "reopened_store_is_as_it_was", &broken).await;
    assert!(message.contains("after the restart"), "{message}");
    let message = failure("errors_and_life", "bad_endpoint_fails_fast", &broken).await;
    assert!(message.contains("bad endpoint was opened"), "{message}");
    let message = failure("errors_and_life", "debug_and_errors_hide_secrets", &broken).await;
    assert!(message.contains("shows a secret"), "{message}");
    assert!(!message.contains("memory:"), "the message hides the secret too: {message}");
    let message = failure("server", "timeout_kind", &broken).await;
    assert!(message.contains("server()"), "{message}");
}

#[tokio::test]
async fn a_store_that_does_not_open_fails_every_case() {
    let message = failure("crud", "get_missing_none", &Broken { opens: false }).await;
    assert!(message.contains("not today"), "{message}");
}

#[tokio::test]
async fn what_is_not_offered_is_refused() {
    let harness = Broken { opens: true };
    let case = find("crud", "get_missing_none").expect("there is such a case");
    assert_eq!(case.run(&harness).await, Outcome::Passed);
    let needs_changes = storage_testkit::Case { needs: &[Feature::Get, Feature::Changes], ..*case };
    assert_eq!(needs_changes.run(&harness).await, Outcome::Refused(Feature::Changes));
}
