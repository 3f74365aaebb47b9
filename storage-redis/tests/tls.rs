//! Encrypted connections, to servers that show a certificate and ask for one.
#![allow(clippy::unwrap_used, reason = "a panic is the failing test's message, also in helpers")]

mod harness;

use std::path::Path;
use std::sync::Arc;

use serde_json::json;
use storage_core::{Backend, CollectionName, Error, ErrorKind, Result};
use storage_testkit::helpers::{get_json, put_json};
use storage_testkit::servers::{Certificates, RedisServer, RedisSettings, RedisTls};

const PASSWORD: &str = "correct-horse-battery";

/// A server with TLS and a password.
fn server(verify_clients: bool) -> (RedisServer, Arc<Certificates>) {
    let certificates = Arc::new(Certificates::generate().unwrap());
    let tls = RedisTls { certificates: certificates.clone(), verify_clients };
    let settings =
        RedisSettings { password: Some(PASSWORD.to_owned()), tls: Some(tls), ..RedisSettings::default() };
    (RedisServer::start(&settings).unwrap(), certificates)
}

async fn open(server: &RedisServer, host: &str, parameters: &[(&str, &Path)]) -> Result<Arc<dyn Backend>> {
    let parameters: Vec<String> =
        parameters.iter().map(|(name, path)| format!("{name}={}", path.display())).collect();
    let url = format!("rediss://:{PASSWORD}@{host}:{}?{}", server.port(), parameters.join("&"));
    harness::open(&url).await
}

#[track_caller]
fn refused(opened: Result<Arc<dyn Backend>>, kind: ErrorKind, text: &str) -> Error {
    let error = opened.expect_err("it must not connect");
    assert_eq!(error.kind(), kind, "{error:?}");
    assert!(error.message().to_lowercase().contains(text), "no {text:?} in {error:?}");
    assert!(!format!("{error} {error:?}").contains(PASSWORD));
    error
}

/// What is written is read back over TLS, by address and by name.
#[tokio::test]
async fn a_verified_server_is_used() {
    let (server, certificates) = server(false);
    let users = CollectionName::new("users").unwrap();
    for host in ["127.0.0.1", "localhost"] {
        let backend = open(&server, host, &[("tls_ca", &certificates.authority())]).await.unwrap();
        put_json(&*backend, &users, "ada", json!(host)).await;
        assert_eq!(get_json(&*backend, &users, "ada").await, Some(json!(host)));
    }
}

/// A server whose certificate is of another authority, or of another name, is not talked to.
#[tokio::test]
async fn an_unknown_server_is_refused() {
    let (server, certificates) = server(false);
    let others = Certificates::generate().unwrap();
    let unknown = open(&server, "127.0.0.1", &[("tls_ca", &others.authority())]).await;
    refused(unknown, ErrorKind::Unauthenticated, "tls_ca");
    // Nor is it one that the system knows.
    refused(open(&server, "127.0.0.1", &[]).await, ErrorKind::Unauthenticated, "certificate");
    let misnamed = open(&server, "127.0.0.2", &[("tls_ca", &certificates.authority())]).await;
    // Where 127.0.0.2 is not this machine's, nothing answers.
    assert!(misnamed.is_err());
}

/// A server that asks for a certificate takes clients that have one, and no others.
#[tokio::test]
async fn a_client_shows_its_certificate() {
    let (server, certificates) = server(true);
    let (ca, client) = (certificates.authority(), certificates.client());
    let with = |identity: &storage_testkit::servers::Identity| {
        [
            ("tls_ca", ca.clone()),
            ("tls_cert", identity.certificate.clone()),
            ("tls_key", identity.key.clone()),
        ]
    };
    let files = with(&client);
    let files = files.each_ref().map(|(name, path)| (*name, path.as_path()));
    let backend = open(&server, "127.0.0.1", &files).await.unwrap();
    let users = CollectionName::new("users").unwrap();
    put_json(&*backend, &users, "ada", json!(1)).await;

    refused(open(&server, "127.0.0.1", &[("tls_ca", &ca)]).await, ErrorKind::Unauthenticated, "tls_cert");
    let stranger = Certificates::generate().unwrap();
    let files = with(&stranger.client());
    let files = files.each_ref().map(|(name, path)| (*name, path.as_path()));
    refused(open(&server, "127.0.0.1", &files).await, ErrorKind::Unauthenticated, "certificate");
}

/// A client without TLS learns what is wrong, and so does one with TLS at a server without.
#[tokio::test]
async fn plain_and_encrypted_do_not_mix() {
    let (encrypted, certificates) = server(false);
    let url = format!("redis://:{PASSWORD}@127.0.0.1:{}?connect_timeout=2s", encrypted.port());
    refused(harness::open(&url).await, ErrorKind::Unavailable, "tls");
    let plain = RedisServer::start(&RedisSettings::default()).unwrap();
    let ca = certificates.authority();
    let url = format!("rediss://{}?connect_timeout=1s&tls_ca={}", plain.address(), ca.display());
    // It waits for the rest of what it takes for a command.
    refused(harness::open(&url).await, ErrorKind::Timeout, "tls");
}

/// A file that is missing, or has no certificate in it, is named.
#[tokio::test]
async fn files_that_are_no_certificates_are_named() {
    let (server, certificates) = server(false);
    let missing = Path::new("/nowhere/ca.pem");
    refused(
        open(&server, "127.0.0.1", &[("tls_ca", missing)]).await,
        ErrorKind::InvalidInput,
        "/nowhere/ca.pem",
    );
    let (ca, client) = (certificates.authority(), certificates.client());
    let opened = open(&server, "127.0.0.1", &[("tls_ca", &client.key)]).await;
    refused(opened, ErrorKind::InvalidInput, "tls_ca");
    let swapped = [("tls_ca", ca.as_path()), ("tls_cert", &*client.key), ("tls_key", &*client.certificate)];
    refused(open(&server, "127.0.0.1", &swapped).await, ErrorKind::InvalidInput, "tls_");
}

/// Passwords and topologies are asked for over TLS as without.
#[tokio::test]
async fn a_password_is_asked_for_over_tls_too() {
    let (server, certificates) = server(false);
    let ca = certificates.authority();
    let url = format!("rediss://:wrong@127.0.0.1:{}?tls_ca={}", server.port(), ca.display());
    refused(harness::open(&url).await, ErrorKind::Unauthenticated, "password");
    // One server is no cluster, and says so over an encrypted connection.
    let url = format!("rediss+cluster://:{PASSWORD}@127.0.0.1:{}?tls_ca={}", server.port(), ca.display());
    let error = harness::open(&url).await.expect_err("it is no cluster");
    assert!(error.message().to_lowercase().contains("cluster"), "{error:?}");
}
