//! The set of types: registration, status, events, listings.

use std::sync::Arc;

use crate::common::{plugin, registry, test_type, version};
use serde_json::json;
use storage_registry::{ErrorKind, Origin, Registry, RegistryEvent, Status};
use tokio::sync::broadcast::error::TryRecvError;

#[test]
fn a_duplicate_is_refused_and_names_both_origins() {
    let registry = registry(&["redis@1.0.0"]);
    let error = registry.register(test_type("redis@1.0.0", &["other"]), plugin()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    let message = error.to_string();
    assert!(message.contains("redis@1.0.0"), "{message}");
    assert!(message.contains("linked-in") && message.contains("plugins/libredis.so"), "{message}");
    let kept = registry.get("redis", &version("1.0.0")).unwrap();
    assert_eq!((kept.schemes.as_slice(), &kept.origin), (&["redis".into()][..], &Origin::Linked));
    assert_eq!(registry.list().len(), 1);
}

#[test]
fn names_and_schemes_are_validated() {
    let registry = Registry::new();
    let long = format!("{}@1.0.0", "a".repeat(33));
    for reference in ["@1.0.0", "Redis@1.0.0", "1a@1.0.0", "-a@1.0.0", "a_b@1.0.0", "ä@1.0.0", &long] {
        let error = registry.register(test_type(reference, &[]), Origin::Linked).expect_err(reference);
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{reference}");
    }
    for scheme in ["", "Redis", "1a", "a:", "a/b"] {
        assert!(registry.register(test_type("a@1.0.0", &[scheme]), Origin::Linked).is_err(), "{scheme}");
    }
    assert!(registry.list().is_empty());
    registry.register(test_type("a-1@1.0.0", &["a+b-c.d1"]), Origin::Linked).unwrap();
}

#[test]
fn versions_live_side_by_side_in_order() {
    let registry = registry(&["redis@1.10.0", "redis@1.9.0", "mongo@3.0.0"]);
    let listed: Vec<_> = registry.list().iter().map(ToString::to_string).collect();
    assert_eq!(listed, ["mongo@3.0.0", "redis@1.9.0", "redis@1.10.0"]);
    assert!(registry.get("redis", &version("1.9.0")).is_some());
    assert!(registry.get("redis", &version("1.9.1")).is_none());
    registry.unregister("redis", &version("1.10.0")).unwrap();
    assert_eq!(registry.resolve("redis").unwrap().version, version("1.9.0"));
}

#[test]
fn what_is_missing_cannot_be_changed() {
    let registry = registry(&["redis@1.0.0"]);
    let missing = version("2.0.0");
    assert_eq!(registry.unregister("redis", &missing).unwrap_err().kind(), ErrorKind::NotFound);
    let error = registry.set_status("redis", &missing, Status::Disabled).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(error.to_string().contains("2.0.0"), "{error}");
}

#[test]
fn events_tell_each_change_once_and_in_order() {
    let registry = Registry::new();
    let mut events = registry.subscribe();
    let one = version("1.0.0");
    registry.register(test_type("redis@1.0.0", &[]), Origin::Linked).unwrap();
    registry.register(test_type("redis@1.0.0", &[]), Origin::Linked).unwrap_err();
    registry.set_status("redis", &one, Status::Active).unwrap();
    registry.set_status("redis", &one, Status::Disabled).unwrap();
    registry.unregister("redis", &one).unwrap();
    registry.unregister("redis", &one).unwrap_err();

    let Ok(RegistryEvent::Registered(entry)) = events.try_recv() else { panic!("not registered") };
    assert_eq!(entry.to_string(), "redis@1.0.0");
    assert_eq!(RegistryEvent::Registered(entry).to_string(), "registered redis@1.0.0 (linked-in)");
    let changed = events.try_recv().unwrap();
    assert_eq!(changed.to_string(), "redis@1.0.0 was active, is disabled");
    assert_eq!(
        serde_json::to_value(&changed).unwrap(),
        json!({
            "event": "status_changed", "name": "redis", "version": "1.0.0",
            "from": {"status": "active"}, "to": {"status": "disabled"},
        })
    );
    let removed = serde_json::to_value(events.try_recv().unwrap()).unwrap();
    assert_eq!(removed, json!({"event": "unregistered", "name": "redis", "version": "1.0.0"}));
    assert!(matches!(events.try_recv(), Err(TryRecvError::Empty)));
}

#[test]
fn snapshots_keep_the_status_they_had() {
    let registry = registry(&["redis@1.0.0"]);
    let before = registry.resolve("redis").unwrap();
    let after = registry.set_status("redis", &before.version, Status::Deprecated).unwrap();
    assert_eq!((&before.status, &after.status), (&Status::Active, &Status::Deprecated));
    assert_eq!(registry.resolve("redis").unwrap().status, Status::Deprecated);
}

#[test]
fn entries_serialise_flat() {
    let registry = Registry::new();
    registry.register(test_type("redis@1.0.0", &["redis", "rediss"]), plugin()).unwrap();
    let reason = "ended the process".to_owned();
    let entry = registry.set_status("redis", &version("1.0.0"), Status::Quarantined { reason }).unwrap();
    let mut tree = serde_json::to_value(&*entry).unwrap();
    let fields = tree.as_object_mut().unwrap();
    assert!(fields.remove("capabilities").unwrap().get("features").is_some());
    assert_eq!(fields.remove("config_schema").unwrap()["additionalProperties"], json!(false));
    assert_eq!(
        tree,
        json!({
            "name": "redis", "version": "1.0.0", "summary": "a type for tests",
            "origin": "plugin", "path": "plugins/libredis.so", "sha256": "0123456789abcdef".repeat(4),
            "status": "quarantined", "reason": "ended the process",
            "schemes": ["redis", "rediss"],
        })
    );
}

#[test]
fn every_enabled_backend_is_linked_in() {
    let names: Vec<_> = Registry::linked().list().iter().map(|entry| entry.name.to_string()).collect();
    let enabled = [
        ("file", cfg!(feature = "file")),
        ("memory", true),
        ("mongo", cfg!(feature = "mongo")),
        ("postgres", cfg!(feature = "postgres")),
        ("redis", cfg!(feature = "redis")),
    ];
    let expected: Vec<_> = enabled.into_iter().filter(|(_, on)| *on).map(|(name, _)| name).collect();
    assert_eq!(names, expected);
    assert!(std::ptr::eq(Registry::global(), Registry::global()));
    assert!(Registry::global().resolve("memory").is_ok());
}

#[test]
fn threads_change_and_read_at_once() {
    const THREADS: u64 = 8;
    const EACH: u64 = 25;
    let registry = Arc::new(Registry::new());
    let mut events = registry.subscribe();
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let registry = &registry;
            scope.spawn(move || {
                for patch in 0..EACH {
                    let reference = format!("redis@{thread}.0.{patch}");
                    registry.register(test_type(&reference, &["redis"]), Origin::Linked).unwrap();
                    // All threads race for this one; one wins.
                    let _ = registry.register(test_type(&format!("shared@1.0.{patch}"), &[]), Origin::Linked);
                    let listed = registry.list();
                    assert!(listed.is_sorted_by_key(|entry| (entry.name.clone(), entry.version.clone())));
                    assert!(registry.resolve(&reference).is_ok());
                    if patch % 5 == 0 {
                        registry.unregister("redis", &version(&format!("{thread}.0.{patch}"))).unwrap();
                    }
                }
            });
        }
    });
    let listed = registry.list();
    let count = |name: &str| listed.iter().filter(|entry| entry.name == name).count() as u64;
    assert_eq!(count("redis"), THREADS * (EACH - EACH.div_ceil(5)));
    assert_eq!(count("shared"), EACH);
    // More events than are kept: the receiver is told, and goes on.
    assert!(matches!(events.try_recv(), Err(TryRecvError::Lagged(_))));
    assert!(events.try_recv().is_ok());
}
