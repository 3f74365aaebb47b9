//! Connections with TLS: whom a store trusts, and who trusts it.
#![allow(clippy::unwrap_used, reason = "a panic is the failing test's message, also in helpers")]

mod harness;

use std::path::Path;
use std::sync::Arc;

use serde_json::json;
use storage_core::{Backend, CollectionName, ErrorKind, Result};
use storage_testkit::helpers::{get_json, put_json};
use storage_testkit::servers::{Certificates, Identity, PostgresServer, PostgresSettings, PostgresTls};

use harness::{PASSWORD, with};

fn server(verify_clients: bool) -> (PostgresServer, Arc<Certificates>) {
    let certificates = Arc::new(Certificates::generate().unwrap());
    let tls = PostgresTls { certificates: certificates.clone(), verify_clients };
    let settings = PostgresSettings {
        password: Some(PASSWORD.to_owned()),
        tls: Some(tls),
        // To be reached under a name that its certificate does not have.
        more: vec!["listen_addresses = '127.0.0.1,127.0.0.2'".to_owned()],
    };
    (PostgresServer::start(&settings).unwrap(), certificates)
}

async fn open(
    server: &PostgresServer,
    host: &str,
    mode: &str,
    files: &[(&str, &Path)],
) -> Result<Arc<dyn Backend>> {
    let url = with(&server.url_of(&format!("{host}:{}", server.port())), "tls", mode);
    let url = files.iter().fold(url, |url, (name, path)| with(&url, name, &path.to_string_lossy()));
    harness::open(&url).await
}

#[track_caller]
fn refused(opened: Result<Arc<dyn Backend>>, kind: ErrorKind, text: &str) {
    let error = opened.expect_err("it has to be refused");
    assert_eq!(error.kind(), kind, "{error:?}");
    assert!(error.message().to_lowercase().contains(text), "no {text:?} in {error:?}");
    assert!(!format!("{error:?}").contains(PASSWORD), "{error:?}");
}

/// A store that was opened works, over a connection that is encrypted or not.
async fn works(server: &PostgresServer, opened: Result<Arc<dyn Backend>>, encrypted: bool) {
    let backend = opened.unwrap();
    let users = CollectionName::new("users").unwrap();
    put_json(&*backend, &users, "ada", json!(encrypted)).await;
    assert_eq!(get_json(&*backend, &users, "ada").await, Some(json!(encrypted)));
    let ssl =
        "SELECT DISTINCT ssl FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE usename = 'storage'";
    assert_eq!(server.psql(ssl).unwrap(), if encrypted { "t" } else { "f" });
    backend.close().await.unwrap();
}

/// A server whose certificate is verified is used, under each of its names; `verify-full` is what is not said.
#[tokio::test]
async fn a_verified_server_is_used() {
    let (server, certificates) = server(false);
    let ca = certificates.authority();
    for host in ["127.0.0.1", "localhost"] {
        for mode in ["verify-full", "verify-ca", "require", "prefer"] {
            works(&server, open(&server, host, mode, &[("ca_file", &ca)]).await, true).await;
        }
    }
    refused(open(&server, "127.0.0.1", "disable", &[]).await, ErrorKind::Unauthenticated, "");
}

/// A server whose certificate is of another authority, or of another name, is not talked to where that is asked for.
#[tokio::test]
async fn an_unknown_server_is_refused() {
    let (server, certificates) = server(false);
    let (ca, others) = (certificates.authority(), Certificates::generate().unwrap());
    for mode in ["verify-full", "verify-ca"] {
        let unknown = open(&server, "127.0.0.1", mode, &[("ca_file", &others.authority())]).await;
        refused(unknown, ErrorKind::Unauthenticated, "ca_file");
        // Nor is it one that the system knows.
        refused(open(&server, "127.0.0.1", mode, &[]).await, ErrorKind::Unauthenticated, "certificate");
    }
    let misnamed = open(&server, "127.0.0.2", "verify-full", &[("ca_file", &ca)]).await;
    refused(misnamed, ErrorKind::Unauthenticated, "certificate");
    // The name is not looked at where only the authority is.
    works(&server, open(&server, "127.0.0.2", "verify-ca", &[("ca_file", &ca)]).await, true).await;
    // And nothing is, where only encryption is asked for.
    for mode in ["require", "prefer"] {
        works(&server, open(&server, "127.0.0.2", mode, &[]).await, true).await;
    }
}

fn files<'a>(ca: &'a Path, identity: &'a Identity) -> [(&'a str, &'a Path); 3] {
    [("ca_file", ca), ("cert_file", &identity.certificate), ("key_file", &identity.key)]
}

/// A server that asks for a certificate takes clients that have one, and no others.
#[tokio::test]
async fn a_client_shows_its_certificate() {
    let (server, certificates) = server(true);
    let (ca, client) = (certificates.authority(), certificates.client());
    works(&server, open(&server, "127.0.0.1", "verify-full", &files(&ca, &client)).await, true).await;
    let without = open(&server, "127.0.0.1", "verify-full", &[("ca_file", &ca)]).await;
    refused(without, ErrorKind::Unauthenticated, "certificate");
    let stranger = Certificates::generate().unwrap().client();
    // Its files are gone with the authority that made it.
    refused(
        open(&server, "127.0.0.1", "verify-full", &files(&ca, &stranger)).await,
        ErrorKind::InvalidInput,
        "cert_file",
    );
    let others = Certificates::generate().unwrap();
    let stranger = others.client();
    refused(
        open(&server, "127.0.0.1", "verify-full", &files(&ca, &stranger)).await,
        ErrorKind::Unauthenticated,
        "certificate",
    );
}

/// A server without TLS is told apart from one whose certificate is bad.
#[tokio::test]
async fn a_server_without_tls_is_told() {
    let server = PostgresServer::start(&PostgresSettings::default()).unwrap();
    for mode in ["verify-full", "verify-ca", "require"] {
        refused(open(&server, "127.0.0.1", mode, &[]).await, ErrorKind::Unavailable, "tls");
    }
    works(&server, open(&server, "127.0.0.1", "prefer", &[]).await, false).await;
    works(&server, open(&server, "127.0.0.1", "disable", &[]).await, false).await;
}

/// A file that is missing, or has no certificate in it, is named.
#[tokio::test]
async fn files_that_are_no_certificates_are_named() {
    let (server, certificates) = server(false);
    let missing = Path::new("/nowhere/ca.pem");
    let opened = open(&server, "127.0.0.1", "verify-full", &[("ca_file", missing)]).await;
    refused(opened, ErrorKind::InvalidInput, "/nowhere/ca.pem");
    let (ca, client) = (certificates.authority(), certificates.client());
    let text = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(text.path(), "no certificate").unwrap();
    for name in ["ca_file", "cert_file", "key_file"] {
        let mut files = files(&ca, &client);
        for file in files.iter_mut().filter(|(key, _)| *key == name) {
            file.1 = text.path();
        }
        refused(open(&server, "127.0.0.1", "verify-full", &files).await, ErrorKind::InvalidInput, name);
    }
    let swapped = Identity { certificate: client.key.clone(), key: client.certificate.clone() };
    refused(
        open(&server, "127.0.0.1", "verify-full", &files(&ca, &swapped)).await,
        ErrorKind::InvalidInput,
        "_file",
    );
}

/// Passwords are asked for over TLS as without.
#[tokio::test]
async fn a_password_is_asked_for_over_tls_too() {
    let (server, certificates) = server(false);
    let url = format!("postgres://storage:wrong@{}/storage?tls=verify-full", server.address());
    let url = with(&url, "ca_file", &certificates.authority().to_string_lossy());
    refused(harness::open(&url).await, ErrorKind::Unauthenticated, "password");
}
