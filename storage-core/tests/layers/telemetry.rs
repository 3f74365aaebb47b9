//! Metrics and tracing.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use metrics_util::debugging::{DebugValue, DebuggingRecorder};
use storage_core::layer::{Around, Layer, Layers, Metrics, Tracing};
use storage_core::{Backend, Batch, ErrorKind, Mutation, Retry};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::subscriber::NoSubscriber;
use tracing_subscriber::layer::{Context, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;

use crate::fake::Fake;
use crate::{at, put};

type Fields = BTreeMap<String, String>;

fn run<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(future)
}

fn fields<const N: usize>(pairs: [(&str, &str); N]) -> Fields {
    pairs.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

#[test]
fn metrics_follow_the_conventions() {
    // Made before there is a recorder: it must be heard all the same.
    let stack = Around::new(Metrics::new(), Fake::failing(1, ErrorKind::Busy, Retry::Safe));
    let recorder = DebuggingRecorder::new();
    let snapshotter = recorder.snapshotter();
    metrics::with_local_recorder(&recorder, || {
        run(async {
            stack.write(&put("secret")).await.unwrap_err();
            stack.get(&[at("a"), at("b")]).await.unwrap();
            stack.health().await.unwrap();
            stack.health().await.unwrap();
        });
        // Describes it.
        drop(Around::new(Metrics::new(), Arc::new(Fake::new())));
    });
    let mut recorded = Vec::new();
    for (key, unit, description, value) in snapshotter.snapshot().into_vec() {
        assert_eq!(key.key().name(), "db.client.operation.duration");
        assert_eq!(unit, Some(metrics::Unit::Seconds));
        assert_eq!(description.as_deref(), Some("Duration of database client operations."));
        let DebugValue::Histogram(values) = value else { panic!("{value:?}") };
        assert!(values.iter().all(|value| (0.0..60.0).contains(&value.into_inner())), "{values:?}");
        let labels: Fields = key.key().labels().map(|l| (l.key().to_owned(), l.value().to_owned())).collect();
        recorded.push((labels, values.len()));
    }
    recorded.sort();
    let mut expected = [
        (
            fields([
                ("db.system.name", "fake"),
                ("db.operation.name", "write"),
                ("db.collection.name", "users"),
                ("error.type", "busy"),
            ]),
            1,
        ),
        (
            fields([
                ("db.system.name", "fake"),
                ("db.operation.name", "get"),
                ("db.collection.name", "users"),
            ]),
            1,
        ),
        (fields([("db.system.name", "fake"), ("db.operation.name", "health")]), 2),
    ];
    expected.sort();
    assert_eq!(recorded, expected);
}

#[test]
fn metrics_of_many_collections_are_told_apart() {
    let stack = Around::new(Metrics::new(), Arc::new(Fake::new()));
    let recorder = DebuggingRecorder::new();
    let snapshotter = recorder.snapshotter();
    metrics::with_local_recorder(&recorder, || {
        run(async {
            for _ in 0..3 {
                for i in 0..20 {
                    let address = storage_core::Address::new(format!("c{i}"), "a").unwrap();
                    stack.get(std::slice::from_ref(&address)).await.unwrap();
                    stack.write(&Batch::independent(vec![Mutation::delete(address)])).await.unwrap();
                }
            }
        });
    });
    let recorded: BTreeMap<String, usize> = snapshotter
        .snapshot()
        .into_vec()
        .into_iter()
        .map(|(key, _, _, value)| {
            let DebugValue::Histogram(values) = value else { panic!("{value:?}") };
            let labels: Vec<_> = key.key().labels().map(|label| label.value().to_owned()).collect();
            (labels.join(" "), values.len())
        })
        .collect();
    let expected =
        (0..20).flat_map(|i| ["get", "write"].map(|operation| (format!("fake {operation} c{i}"), 3)));
    assert_eq!(recorded, expected.collect());
}

#[test]
fn metrics_count_all_attempts_as_one_call() {
    let fake = Fake::failing(2, ErrorKind::Busy, Retry::Safe);
    let stack = Layers::default_for(&fake.info().capabilities).apply(fake.clone());
    let recorder = DebuggingRecorder::new();
    let snapshotter = recorder.snapshotter();
    metrics::with_local_recorder(&recorder, || run(stack.get(&[at("a")])).unwrap());
    let recorded = snapshotter.snapshot().into_vec();
    assert_eq!((recorded.len(), fake.count()), (1, 3));
    let DebugValue::Histogram(values) = &recorded[0].3 else { panic!() };
    assert_eq!(values.len(), 1);
}

/// What was recorded: spans with all their fields, and events with the name of their span.
#[derive(Clone, Default)]
struct Capture {
    spans: Arc<Mutex<Vec<(u64, Fields)>>>,
    events: Arc<Mutex<Vec<(String, Fields)>>>,
}

impl Capture {
    fn subscriber(&self) -> impl tracing::Subscriber + use<> {
        // With one subscriber, whoever comes to a span first is asked whether anybody wants it, which may be another
        // test's thread; with two, both are.
        let _ = tracing::subscriber::set_global_default(NoSubscriber::new());
        tracing_subscriber::registry().with(self.clone())
    }
}

struct Into<'a>(&'a mut Fields);

impl Visit for Into<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        self.0.insert(field.name().to_owned(), format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.insert(field.name().to_owned(), value.to_owned());
    }
}

impl<S: tracing::Subscriber + for<'a> LookupSpan<'a>> tracing_subscriber::Layer<S> for Capture {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, _: Context<'_, S>) {
        let mut fields = Fields::new();
        attributes.record(&mut Into(&mut fields));
        self.spans.lock().unwrap().push((id.into_u64(), fields));
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, _: Context<'_, S>) {
        let mut spans = self.spans.lock().unwrap();
        let (_, fields) = spans.iter_mut().rev().find(|(span, _)| *span == id.into_u64()).unwrap();
        values.record(&mut Into(fields));
    }

    fn on_event(&self, event: &tracing::Event<'_>, context: Context<'_, S>) {
        let mut fields = Fields::new();
        event.record(&mut Into(&mut fields));
        let span = context.event_span(event).map(|span| span.name()).unwrap_or_default();
        self.events.lock().unwrap().push((format!("{} {span}", event.metadata().level()), fields));
    }
}

#[test]
fn tracing_follows_the_conventions_and_shows_no_keys() {
    let capture = Capture::default();
    let subscriber = capture.subscriber();
    let fake = Fake::failing(1, ErrorKind::Unavailable, Retry::Never);
    let stack = Around::new(Tracing, fake);
    tracing::subscriber::with_default(subscriber, || {
        run(async {
            stack.write(&put("secret")).await.unwrap_err();
            stack.get(&[at("secret"), at("b")]).await.unwrap();
            stack.get(&[at("bad-secret")]).await.unwrap_err();
            stack.health().await.unwrap();
        });
    });
    let spans: Vec<Fields> = capture.spans.lock().unwrap().drain(..).map(|(_, fields)| fields).collect();
    let common = |operation, name| {
        fields([
            ("otel.name", name),
            ("otel.kind", "client"),
            ("db.system.name", "fake"),
            ("db.operation.name", operation),
        ])
    };
    let with = |mut fields: Fields, more: &[(&str, &str)]| {
        fields.extend(more.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        fields
    };
    let users = ("db.collection.name", "users");
    let failed = ("otel.status_code", "ERROR");
    assert_eq!(
        spans,
        [
            with(common("write", "write users"), &[users, failed, ("error.type", "unavailable")]),
            with(common("get", "get users"), &[users, ("db.operation.batch.size", "2")]),
            with(common("get", "get users"), &[users, failed, ("error.type", "invalid_input")]),
            common("health", "health"),
        ]
    );
    let events = capture.events.lock().unwrap();
    let levels: Vec<&str> = events.iter().map(|(level, _)| level.as_str()).collect();
    assert_eq!(levels, ["WARN storage", "DEBUG storage"]);
    assert_eq!(events[0].1["error"], "told to");
}

#[test]
fn tracing_holds_all_attempts_in_one_span() {
    let capture = Capture::default();
    let subscriber = capture.subscriber();
    let fake = Fake::failing(2, ErrorKind::Busy, Retry::Safe);
    let stack =
        Layers::none().with(Layer::Tracing).with(Layer::Retry(Default::default())).apply(fake.clone());
    tracing::subscriber::with_default(subscriber, || run(stack.get(&[at("a")])).unwrap());
    assert_eq!((capture.spans.lock().unwrap().len(), fake.count()), (1, 3));
    assert!(!capture.spans.lock().unwrap()[0].1.contains_key("error.type"));
}
