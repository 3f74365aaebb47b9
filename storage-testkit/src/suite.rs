//! The list of all cases, and the running of one.

use std::any::Any;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use storage_core::{Backend, Feature};

use crate::{Cx, Harness, negative};

/// The longest a case may take. One that takes longer hangs.
pub const TIME_LIMIT: Duration = Duration::from_secs(60);

/// The body of a case: it passes unless it panics.
pub type Run = fn(Cx) -> Pin<Box<dyn Future<Output = ()> + Send>>;

/// One case of the suite.
#[derive(Clone, Copy)]
pub struct Case {
    /// The group, such as `crud`.
    pub group: &'static str,
    /// The name within the group, such as `put_overwrites`.
    pub name: &'static str,
    /// What a backend has to offer for the case to make sense.
    pub needs: &'static [Feature],
    /// Whether it stops and cuts the server behind the store.
    pub server: bool,
    /// The body.
    pub run: Run,
}

/// How a case ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// What the case asks of the backend holds.
    Passed,
    /// The backend does not offer this feature, and refuses it as it should: the negative twin passed.
    Refused(Feature),
    /// It does not hold, and why.
    Failed(String),
}

impl Case {
    /// Runs the case, or its negative twin where the backend lacks what it needs, against a new store.
    ///
    /// Needs a tokio runtime with time enabled, best one with several threads.
    pub async fn run(&self, harness: &dyn Harness) -> Outcome {
        match self.attempt(harness).await {
            Ok(None) => Outcome::Passed,
            Ok(Some(feature)) => Outcome::Refused(feature),
            Err(panic) => Outcome::Failed(message(&*panic)),
        }
    }

    /// As [`run`](Self::run), with the panic of a case that failed.
    async fn attempt(&self, harness: &dyn Harness) -> Result<Option<Feature>, Box<dyn Any + Send>> {
        let fixture = harness.create().await.map_err(|error| boxed("making a store", &error))?;
        let cx = Cx::new(Arc::from(fixture)).await.map_err(|error| boxed("opening the store", &error))?;
        let missing = self.needs.iter().copied().find(|feature| !cx.has(*feature));
        let body = match missing {
            None => (self.run)(cx.clone()),
            Some(feature) => twin(cx.clone(), feature),
        };
        // A task of its own, so that a body that blocks its thread cannot hold up the time limit.
        let mut task = tokio::spawn(body);
        match tokio::time::timeout(TIME_LIMIT, &mut task).await {
            Ok(Ok(())) => {}
            Ok(Err(ended)) => {
                return Err(ended.try_into_panic().unwrap_or_else(|ended| Box::new(ended.to_string())));
            }
            Err(_) => {
                task.abort();
                return Err(Box::new(format!("{self:?} did not end within {TIME_LIMIT:?}: it hangs")));
            }
        }
        let finished = tokio::time::timeout(TIME_LIMIT, cx.finish()).await;
        let finished = finished.map_err(|_| Box::new("closing the store hangs".to_owned()) as Box<_>)?;
        finished.map_err(|error| boxed("closing and removing the store", &error))?;
        Ok(missing)
    }
}

impl fmt::Debug for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}::{}", self.group, self.name)
    }
}

/// The panic of a step before or after the case itself.
fn boxed(what: &str, error: &storage_core::Error) -> Box<dyn Any + Send> {
    Box::new(format!("{what} failed: {error} ({error:?})"))
}

fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("the case panicked without a message")
        .into()
}

fn twin(cx: Cx, feature: Feature) -> Pin<Box<dyn Future<Output = ()> + Send>> {
    Box::pin(async move {
        let backend: Arc<dyn Backend> = cx.open().await;
        negative::twin(&*backend, &cx.collection(), feature).await;
    })
}

/// The case of that group and name.
pub fn find(group: &str, name: &str) -> Option<&'static Case> {
    cases().iter().find(|case| case.group == group && case.name == name)
}

/// Runs one case as a `#[test]`, on a runtime of its own, and panics if it fails.
#[doc(hidden)]
#[expect(clippy::print_stdout, reason = "a test says so when its negative twin ran in its place")]
pub fn run_as_test(group: &str, name: &str, harness: impl Harness) {
    let case = find(group, name).expect("tests are made from the list of cases");
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(4).enable_all().build();
    let runtime = runtime.expect("a tokio runtime");
    let outcome = runtime.block_on(Box::pin(case.run(&harness)));
    runtime.shutdown_background();
    match outcome {
        Outcome::Passed => {}
        Outcome::Refused(feature) => {
            println!("{case:?}: {feature} is not offered, and refused as it should be")
        }
        Outcome::Failed(message) => panic!("{case:?}: {message}"),
    }
}

/// Makes a test of every case of the suite: the one line in a backend's `tests/conformance.rs`.
///
/// - `conformance!(harness)` for a backend without a server;
/// - `conformance!(server: harness)` for one with: then the cases that stop the server and cut its connections are there too;
/// - `conformance!(only crud text: harness)` for these groups alone, where the others run elsewhere.
///
/// The expression is evaluated for each test anew. Each test is `group::case`; in one file the macro can be used once, or in
/// several modules.
///
/// A case that the server of the tests cannot pass, though the backend does, is named with the reason:
/// `conformance!(harness, ignored: [query::exists = "the server has no nulls"])`. It counts as ignored, and runs with
/// `cargo test -- --include-ignored`. What is not the name of a case does not compile.
#[macro_export]
macro_rules! conformance {
    (server: $harness:expr $(, ignored: [$($ignored:tt)*])? $(,)?) => {
        $crate::conformance!($harness, ignored: [$($($ignored)*)?]);
        $crate::for_each_server_case! { __conformance_tests {} }
    };
    (only $($group:ident)+: $harness:expr $(, ignored: [$($ignored:tt)*])? $(,)?) => {
        $crate::__conformance_test! { ($) [$($($ignored)*)?] $(($group))+ }
        $(#[cfg(test)] use self::$group as _;)+
        fn conformance_harness() -> impl $crate::Harness {
            $harness
        }
        $crate::for_each_case! { __conformance_tests {} }
        $crate::for_each_server_case! { __conformance_tests {} }
    };
    ($harness:expr $(, ignored: [$($ignored:tt)*])? $(,)?) => {
        $crate::__conformance_test! { ($) [$($($ignored)*)?] }
        fn conformance_harness() -> impl $crate::Harness {
            $harness
        }
        $crate::for_each_case! { __conformance_tests {} }
    };
}

/// Makes `conformance_test!`, which is given each case and its test, and keeps, ignores or drops the test.
#[doc(hidden)]
#[macro_export]
macro_rules! __conformance_test {
    (($d:tt) [$($ignored:tt)*]) => {
        $crate::__conformance_test! { ($d) [$($ignored)*] ($d group:ident) }
    };
    (($d:tt) [$($group:ident::$name:ident = $reason:literal),* $(,)?] $(($($selected:tt)+))+) => {
        macro_rules! conformance_test {
            $(($group $name $d($d test:tt)*) => { #[ignore = $reason] $d($d test)* };)*
            $(($($selected)+ $d name:ident $d($d test:tt)*) => { $d($d test)* };)+
            ($d($d test:tt)*) => {};
        }
        $(#[cfg(test)] const _: fn() = $group::$name;)*
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __conformance_tests {
    ({} $($group:ident { $($name:ident [$($feature:ident)*],)* })*) => {
        $(mod $group {
            $(conformance_test! { $group $name
                #[test]
                pub(super) fn $name() {
                    $crate::run_as_test(stringify!($group), stringify!($name), super::conformance_harness());
                }
            })*
        })*
    };
}

macro_rules! __case_list {
    ({$server:literal} $($group:ident { $($name:ident [$($feature:ident)*],)* })*) => {
        &[$($(Case {
            group: stringify!($group),
            name: stringify!($name),
            needs: &[$(Feature::$feature),*],
            server: $server,
            run: |cx| Box::pin($crate::cases::$group::$name(cx)),
        },)*)*]
    };
}

pub(crate) use __case_list;

/// Every case, those that need a server last.
pub fn cases() -> &'static [Case] {
    const EMBEDDED: &[Case] = crate::for_each_case! { __case_list {false} };
    const SERVER: &[Case] = crate::for_each_server_case! { __case_list {true} };
    static ALL: std::sync::LazyLock<Vec<Case>> = std::sync::LazyLock::new(|| [EMBEDDED, SERVER].concat());
    &ALL
}
