//! From URLs and configurations to open stores.

use crate::common::{registry, test_type, version};
use proptest::prelude::*;
use serde_json::json;
use storage_registry::layer::Layers;
use storage_registry::{Address, Batch, ErrorKind, Json, Mutation, Origin, Registry, Status, StoreConfig};

fn config(tree: serde_json::Value) -> StoreConfig {
    serde_json::from_value(tree).unwrap()
}

#[tokio::test]
async fn memory_opens_by_url_and_by_configuration() {
    let store = storage_registry::open("memory:").await.unwrap();
    assert_eq!(store.backend().info().name, "memory");
    storage_registry::open("MEMORY:").await.expect("schemes have no case");
    let backend = storage_registry::open_backend("memory:").await.unwrap();
    assert_eq!(backend.info().name, "memory");
    let registry = Registry::linked();
    let store = registry.open_config(&config(json!({"type": "memory"}))).await.unwrap();
    assert_eq!(store.backend().info().name, "memory");
    assert!(registry.open_config(&config(json!({"type": "memory@^99"}))).await.is_err());
}

#[test]
fn the_url_and_the_keys_beside_it_make_one_configuration() {
    let registry = registry(&["redis@1.0.0", "redis@2.0.0"]);
    let plan = registry.plan("redis://h/0?pool=5").unwrap();
    assert_eq!(plan.config(), &json!({"url": "redis://h/0", "pool": 5}));
    assert_eq!(plan.entry().version, version("2.0.0"));

    let both = config(json!({"type": "redis@^1", "url": "redis://h/0", "pool": 7}));
    let plan = registry.plan_config(&both).unwrap();
    assert_eq!(plan.config(), &json!({"url": "redis://h/0", "pool": 7}));
    assert_eq!(plan.entry().version, version("1.0.0"));

    let built = StoreConfig::from_type("redis@^1").option("pool", 7);
    assert_eq!(registry.plan_config(&built).unwrap().config(), &json!({"pool": 7}));
    assert_eq!(StoreConfig::from_url("redis://h").url.as_deref(), Some("redis://h"));

    let twice = config(json!({"url": "redis://h/0?pool=5", "pool": 7}));
    let error = registry.plan_config(&twice).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert!(error.to_string().contains("\"pool\" is given twice"), "{error}");
}

#[test]
fn layers_are_part_of_the_plan() {
    let registry = registry(&["redis@1.0.0"]);
    let plan = registry.plan_config(&config(json!({"type": "redis", "layers": ["tracing"]}))).unwrap();
    assert_eq!(plan.layers().unwrap().to_string(), "tracing > guard");
    assert_eq!(registry.plan("redis://h").unwrap().layers(), None);
    assert!(serde_json::from_value::<StoreConfig>(json!({"type": "redis", "layers": ["tracin"]})).is_err());
}

#[tokio::test]
async fn a_configuration_that_names_layers_gets_just_these() {
    let registry = Registry::linked();
    for (layers, stack) in [(json!(["tracing"]), "tracing > guard > "), (json!([]), "guard > ")] {
        let config = config(json!({"type": "memory", "layers": layers.clone()}));
        let store = registry.open_config(&config).await.unwrap();
        assert_eq!(serde_json::to_value(store.layers()).unwrap(), layers);
        let shown = format!("{:?}", store.backend());
        assert!(shown.starts_with(stack), "{shown}");
        assert_eq!(shown.matches(" > ").count(), stack.matches(" > ").count(), "{shown}");
    }
    let store = registry.open("memory:").await.unwrap();
    assert_eq!(store.layers(), &Layers::default_for(&store.backend().info().capabilities));
}

#[tokio::test]
async fn times_to_live_are_part_of_the_configuration() {
    let config = config(json!({"type": "memory", "layers": ["tracing", {"time_to_live": {
        "collections": {"sessions": {"sliding": {"ttl": "30m", "jitter": 0.1}}}
    }}]}));
    let store = Registry::linked().open_config(&config).await.unwrap();
    assert_eq!(store.layers().to_string(), "tracing > time_to_live > guard");
    let session = Address::new("sessions", "ada").unwrap();
    let put = Mutation::put(session.clone(), Json::parse("{}").unwrap());
    store.write(Batch::independent(vec![put])).await.unwrap();
    assert!(store.get(&session).await.unwrap().unwrap().expires_at.is_some());
}

#[test]
fn wrong_urls_say_what_is_wrong() {
    let registry = registry(&["redis@1.0.0"]);
    for (url, kind, part) in [
        (
            "reids://h",
            ErrorKind::NotFound,
            "unknown URL scheme \"reids\"; did you mean \"redis\"? Known: redis",
        ),
        ("nothing://h", ErrorKind::NotFound, "unknown URL scheme \"nothing\". Known: redis"),
        ("redis", ErrorKind::InvalidInput, "has no scheme: did you mean \"redis:\"?"),
        ("./data", ErrorKind::InvalidInput, "has no scheme: write such as \"file:./data\""),
        ("", ErrorKind::InvalidInput, "has no scheme"),
        ("redis://h?pol=1", ErrorKind::InvalidInput, "\"pol\" of redis; did you mean \"pool\"? Known: "),
        (
            "redis://h?pool=x",
            ErrorKind::InvalidInput,
            "parameter \"pool\" of the redis: URL is not a whole number",
        ),
        ("redis://h?pool=-1", ErrorKind::InvalidInput, "u16"),
    ] {
        let error = registry.plan(url).expect_err(url);
        assert_eq!(error.kind(), kind, "{url}: {error}");
        assert!(error.to_string().contains(part), "{url}: {error}");
    }
}

#[test]
fn wrong_configurations_say_what_is_wrong() {
    let registry = registry(&["redis@1.0.0"]);
    for (tree, kind, part) in [
        (json!({}), ErrorKind::InvalidInput, "neither a type nor a URL"),
        (json!({"type": "reids"}), ErrorKind::NotFound, "did you mean \"redis\"?"),
        (json!({"type": "redis", "passwrd": "x"}), ErrorKind::InvalidInput, "did you mean \"password\"?"),
        (json!({"type": "redis", "layer": []}), ErrorKind::InvalidInput, "did you mean \"layers\"?"),
        (json!({"tpye": "redis", "url": "redis://h"}), ErrorKind::InvalidInput, "did you mean \"type\"?"),
        (json!({"type": "redis", "pool": "many"}), ErrorKind::InvalidInput, "redis"),
    ] {
        let error = registry.plan_config(&config(tree.clone())).expect_err(&tree.to_string());
        assert_eq!(error.kind(), kind, "{tree}: {error}");
        assert!(error.to_string().contains(part), "{tree}: {error}");
    }
}

#[test]
fn a_disabled_type_opens_nothing() {
    let registry = registry(&["redis@1.0.0"]);
    registry.set_status("redis", &version("1.0.0"), Status::Disabled).unwrap();
    assert_eq!(registry.plan("redis://h").unwrap_err().kind(), ErrorKind::Unavailable);
}

#[tokio::test]
async fn debug_and_errors_hide_secrets() {
    let registry = registry(&["redis@1.0.0"]);
    let mut texts = Vec::new();
    for url in [
        "redis://ada:hunter2@unreachable/0",
        "redis://ada:hunter2@h/careless",
        "redis://ada:hunter2@h/0#fragment",
        "redis://ada:hunter2@h/0?pool=99",
        "redis://ada:hunter2@h/0?hunger=1",
        "redis://h/unreachable?password=hunter2",
        "reids://ada:hunter2@h/0",
        "ada:hunter2@h",
        "hunter2@h",
        "//ada:hunter2@h",
    ] {
        let error = registry.open(url).await.expect_err(url);
        texts.push(format!(
            "{error} {error:?} {:?}",
            std::error::Error::source(&error).map(ToString::to_string)
        ));
    }
    for tree in [
        json!({"type": "redis://ada:hunter2@h"}),
        json!({"type": "redis", "url": "redis://ada:hunter2@unreachable"}),
        json!({"type": "redis", "password": "hunter2", "pool": 99, "url": "redis://h"}),
        json!({"type": "redis", "password": ["hunter2"]}),
    ] {
        let config = config(tree);
        texts.push(format!("{config:?}"));
        match registry.plan_config(&config) {
            Ok(plan) => {
                texts.push(format!("{plan:?}"));
                texts.push(format!("{:?}", plan.open().await.map(drop).unwrap_err()));
            }
            Err(error) => texts.push(format!("{error} {error:?}")),
        }
    }
    for text in &texts {
        assert!(!text.contains("hunter2"), "{text}");
    }
    // What is no secret is still told.
    assert!(texts[0].contains("redis open: redis://ada:***@unreachable/0 does not answer"), "{}", texts[0]);
}

#[tokio::test]
async fn versions_side_by_side_open_each_their_own() {
    let registry = Registry::new();
    registry.register(test_type("redis@1.0.0", &["redis"]), Origin::Linked).unwrap();
    registry.register(test_type("redis@2.0.0", &["redis"]), Origin::Linked).unwrap();
    for (reference, expected) in [("redis@1", "1.0.0"), ("redis@2", "2.0.0"), ("redis", "2.0.0")] {
        let plan = registry.plan_config(&StoreConfig::from_type(reference)).unwrap();
        assert_eq!(plan.entry().version, version(expected));
        plan.open().await.unwrap();
    }
}

#[cfg(feature = "file")]
#[tokio::test]
async fn file_urls_open_directories() {
    let registry = Registry::linked();
    let plan = registry.plan("file:./my%20data?durability=eventual").unwrap();
    assert_eq!(plan.config()["path"], "./my data", "relative paths stay relative");
    assert_eq!(plan.config()["durability"], "eventual");
    assert_eq!(registry.plan("file:///var/lib/app").unwrap().config()["path"], "/var/lib/app");
    let error = registry.plan("file:./data?durabilty=eventual").unwrap_err();
    assert!(error.to_string().contains("did you mean \"durability\"?"), "{error}");

    let dir = tempfile::tempdir().unwrap();
    let url = format!("file://{}/my%20data", dir.path().display());
    let store = registry.open(&url).await.unwrap();
    assert_eq!(store.backend().info().name, "file");
    assert!(dir.path().join("my data").is_dir());
    store.backend().close().await.unwrap();
}

proptest! {
    #[test]
    fn no_text_panics(text in "\\PC{0,40}", url in "(redis|file|memory|x):(//)?[ -~]{0,30}") {
        let registry = Registry::linked();
        for text in [&text, &url] {
            let _ = (registry.plan(text), registry.resolve(text), registry.resolve_scheme(text));
            let _ = registry.plan_config(&StoreConfig::from_type(text.as_str()).option(text.as_str(), 1));
        }
    }

    #[test]
    fn no_password_is_shown(password in "[0-9][0-9:/?#%&=+]{2,12}[0-9]") {
        let registry = registry(&["redis@1.0.0"]);
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        for url in [
            format!("redis://ada:{password}@unreachable/0"),
            format!("redis://ada:{password}@h/careless"),
            format!("redis://unreachable/0?password={password}"),
            format!("ada:{password}@h"),
            format!("{password}@h"),
        ] {
            if let Err(error) = runtime.block_on(registry.open(&url)) {
                let source = std::error::Error::source(&error).map(ToString::to_string);
                let shown = format!("{error} {error:?} {source:?} {:?}", StoreConfig::from_url(url));
                prop_assert!(!shown.contains(&password), "{}", shown);
            }
        }
    }
}
