//! Which type answers to a reference or a scheme.

use crate::common::{plugin, registry, test_type, version};
use storage_registry::{ErrorKind, Origin, Registry, Retry, Status, TypeRef};

#[test]
fn the_highest_active_match_answers() {
    let registry = registry(&["redis@1.2.0", "redis@1.10.0", "redis@1.9.3", "redis@2.0.0", "mongo@9.0.0"]);
    for (reference, expected) in [
        ("redis", "2.0.0"),
        ("redis@*", "2.0.0"),
        ("redis@1", "1.10.0"),
        ("redis@^1.2", "1.10.0"),
        ("redis@~1.9", "1.9.3"),
        ("redis@1.2.0", "1.2.0"),
        ("redis@=1.2.0", "1.2.0"),
        ("redis@>=1.2, <1.10", "1.9.3"),
        (" redis @ ^1 ", "1.10.0"),
    ] {
        let entry = registry.resolve(reference).unwrap();
        assert_eq!(
            (entry.name.as_str(), entry.version.to_string().as_str()),
            ("redis", expected),
            "{reference}"
        );
    }
}

#[test]
fn status_decides_before_version() {
    use Status::{Active, Deprecated, Disabled, Experimental};
    let quarantined = || Status::Quarantined { reason: "ended the process".to_owned() };
    for (statuses, reference, expected) in [
        ([Active, Active, Active], "redis", Some("1.2.0")),
        ([Active, Active, Experimental], "redis", Some("1.1.0")),
        ([Active, Active, Deprecated], "redis", Some("1.1.0")),
        ([Active, Disabled, Disabled], "redis", Some("1.0.0")),
        ([Active, quarantined(), Experimental], "redis", Some("1.0.0")),
        ([Deprecated, Experimental, Disabled], "redis", Some("1.0.0")),
        ([Experimental, Experimental, quarantined()], "redis", Some("1.1.0")),
        ([Active, Active, Experimental], "redis@1.2.0", Some("1.2.0")),
        ([Active, Active, Experimental], "redis@=1.2.0", Some("1.2.0")),
        ([Active, Active, Deprecated], "redis@1.2.0", Some("1.2.0")),
        ([Active, Active, Disabled], "redis@1.2.0", None),
        ([Active, Active, quarantined()], "redis@1.2.0", None),
        ([Disabled, quarantined(), Disabled], "redis", None),
    ] {
        let registry = registry(&["redis@1.0.0", "redis@1.1.0", "redis@1.2.0"]);
        for (number, status) in ["1.0.0", "1.1.0", "1.2.0"].iter().zip(statuses.clone()) {
            registry.set_status("redis", &version(number), status).unwrap();
        }
        let found = registry.resolve(reference).map(|entry| entry.version.to_string());
        assert_eq!(found.as_deref().ok(), expected, "{statuses:?} {reference}");
    }
}

#[test]
fn an_unusable_type_says_why() {
    let registry = registry(&["redis@1.0.0", "redis@1.1.0"]);
    registry.set_status("redis", &version("1.0.0"), Status::Disabled).unwrap();
    let reason = "ended the process".to_owned();
    registry.set_status("redis", &version("1.1.0"), Status::Quarantined { reason }).unwrap();
    let error = registry.resolve("redis").unwrap_err();
    assert_eq!((error.kind(), error.retry()), (ErrorKind::Unavailable, Retry::Never));
    let message = error.to_string();
    assert!(message.contains("redis@1.0.0 is disabled"), "{message}");
    assert!(message.contains("redis@1.1.0 is quarantined: ended the process"), "{message}");
}

#[test]
fn pre_releases_begin_experimental_and_wait_to_be_asked() {
    let registry = registry(&["redis@1.0.0", "redis@2.0.0-rc.1"]);
    assert_eq!(registry.get("redis", &version("2.0.0-rc.1")).unwrap().status, Status::Experimental);
    assert_eq!(registry.resolve("redis").unwrap().version, version("1.0.0"));
    assert_eq!(registry.resolve("redis@2.0.0-rc.1").unwrap().version, version("2.0.0-rc.1"));
    // Even an active pre-release goes after a release.
    registry.set_status("redis", &version("2.0.0-rc.1"), Status::Active).unwrap();
    assert_eq!(registry.resolve("redis").unwrap().version, version("1.0.0"));
    registry.unregister("redis", &version("1.0.0")).unwrap();
    assert_eq!(registry.resolve("redis").unwrap().version, version("2.0.0-rc.1"));
}

#[test]
fn linked_in_goes_before_plugin_on_a_tie() {
    let registry = Registry::new();
    registry.register(test_type("redis@1.0.0+plugin", &[]), plugin()).unwrap();
    registry.register(test_type("redis@1.0.0+linked", &[]), Origin::Linked).unwrap();
    assert_eq!(registry.resolve("redis").unwrap().origin, Origin::Linked);
    assert_eq!(registry.resolve("redis@1.0.0").unwrap().origin, Origin::Linked);
    assert_eq!(registry.resolve("redis@1.0.0+plugin").unwrap().origin, plugin());
    // Only on a tie: a higher version wins wherever it came from.
    registry.register(test_type("redis@1.0.1", &[]), plugin()).unwrap();
    assert_eq!(registry.resolve("redis").unwrap().version, version("1.0.1"));
}

#[test]
fn unknown_names_list_the_known_ones_and_the_nearest() {
    let registry = registry(&["redis@1.0.0", "mongo@1.0.0"]);
    let error = registry.resolve("reids").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert_eq!(
        error.to_string(),
        "unknown storage type \"reids\"; did you mean \"redis\"? Known: mongo, redis"
    );
    let error = registry.resolve("elsewhere").unwrap_err();
    assert_eq!(error.to_string(), "unknown storage type \"elsewhere\". Known: mongo, redis");
    let error = Registry::new().resolve("redis").unwrap_err();
    assert!(error.to_string().contains("no type is registered"), "{error}");
}

#[test]
fn an_unknown_version_lists_the_known_ones() {
    let registry = registry(&["redis@1.0.0", "redis@1.1.0"]);
    for reference in ["redis@^2", "redis@1.0.1", "redis@1.0.0-rc.1"] {
        let error = registry.resolve(reference).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound, "{reference}");
        assert!(error.to_string().contains(reference), "{error}");
        assert!(error.to_string().ends_with("Known: 1.0.0, 1.1.0"), "{error}");
    }
}

#[test]
fn bad_references_are_invalid_input() {
    for text in
        ["", "@1", "Redis", "1redis", "red is", "redis@", "redis@x.y", "redis@1.2.3.4", "réd", "redis:"]
    {
        let error = text.parse::<TypeRef>().expect_err(text);
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{text}");
    }
    assert!("a".repeat(32).parse::<TypeRef>().is_ok());
    assert!("a".repeat(33).parse::<TypeRef>().is_err());
    for text in ["redis", "redis@1.2.3", "redis@^1.2"] {
        assert_eq!(text.parse::<TypeRef>().unwrap().to_string(), text);
    }
}

#[test]
fn a_scheme_of_two_types_has_one_owner() {
    let registry = Registry::new();
    let resolved = || registry.resolve_scheme("kv").map(|entry| entry.to_string()).ok();
    registry.register(test_type("zeta@1.0.0", &["kv"]), plugin()).unwrap();
    registry.register(test_type("beta@9.0.0", &["kv"]), plugin()).unwrap();
    assert_eq!(resolved().as_deref(), Some("beta@9.0.0"), "the first by name");
    registry.register(test_type("gamma@1.0.0", &["kv"]), Origin::Linked).unwrap();
    assert_eq!(resolved().as_deref(), Some("gamma@1.0.0"), "linked-in before plugin");
    registry.register(test_type("kv@1.0.0", &["kv"]), plugin()).unwrap();
    assert_eq!(resolved().as_deref(), Some("kv@1.0.0"), "the scheme's own name before all");
    registry.register(test_type("kv@2.0.0", &["other"]), plugin()).unwrap();
    assert_eq!(resolved().as_deref(), Some("kv@1.0.0"), "only versions that claim the scheme");

    // No status but `disabled` moves the scheme to another type.
    registry.set_status("kv", &version("1.0.0"), Status::Deprecated).unwrap();
    assert_eq!(resolved().as_deref(), Some("kv@1.0.0"));
    let reason = "ended the process".to_owned();
    registry.set_status("kv", &version("1.0.0"), Status::Quarantined { reason }).unwrap();
    assert_eq!(registry.resolve_scheme("kv").unwrap_err().kind(), ErrorKind::Unavailable);
    registry.set_status("kv", &version("1.0.0"), Status::Disabled).unwrap();
    assert_eq!(resolved().as_deref(), Some("gamma@1.0.0"));
    for (name, number) in [("zeta", "1.0.0"), ("beta", "9.0.0"), ("gamma", "1.0.0")] {
        registry.set_status(name, &version(number), Status::Disabled).unwrap();
    }
    assert_eq!(registry.resolve_scheme("kv").unwrap_err().kind(), ErrorKind::Unavailable);
    assert_eq!(registry.resolve_scheme("vk").unwrap_err().kind(), ErrorKind::NotFound);
}

#[test]
fn deprecated_and_experimental_types_warn() {
    let registry = registry(&["redis@1.0.0", "mongo@1.0.0", "file@1.0.0"]);
    registry.set_status("redis", &version("1.0.0"), Status::Deprecated).unwrap();
    registry.set_status("mongo", &version("1.0.0"), Status::Experimental).unwrap();
    // With one subscriber, whoever comes to a warning first is asked whether anybody wants it, which may be another
    // test's thread; with two, both are.
    let _ = tracing::subscriber::set_global_default(tracing::subscriber::NoSubscriber::new());
    let warnings = |reference: &str| {
        let (reader, writer) = std::io::pipe().unwrap();
        let subscriber =
            tracing_subscriber::fmt().with_ansi(false).with_writer(std::sync::Mutex::new(writer));
        tracing::subscriber::with_default(subscriber.finish(), || registry.resolve(reference).unwrap());
        std::io::read_to_string(reader).unwrap()
    };
    let deprecated = warnings("redis");
    assert!(deprecated.contains("WARN") && deprecated.contains("redis@1.0.0"), "{deprecated}");
    assert!(deprecated.contains("deprecated"), "{deprecated}");
    let experimental = warnings("mongo@^1");
    assert!(experimental.contains("WARN") && experimental.contains("mongo@1.0.0"), "{experimental}");
    assert_eq!(warnings("mongo@1.0.0"), "", "asked for by its exact version");
    assert_eq!(warnings("file"), "");
}
