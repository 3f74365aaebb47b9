//! Connections with TLS, and who may use a server: passwords and certificates.
#![allow(clippy::unwrap_used, reason = "a panic is the failing test's message, also in helpers")]

mod harness;

use std::path::Path;
use std::sync::Arc;

use serde_json::json;
use storage_core::{Backend, CollectionName, ErrorKind, Result};
use storage_testkit::helpers::{get_json, put_json};
use storage_testkit::servers::{Certificates, Identity, MongoServer, MongoSettings, MongoTls};

use harness::{PASSWORD, with};

fn server(password: Option<&str>, verify_clients: bool) -> (MongoServer, Arc<Certificates>) {
    let certificates = Arc::new(Certificates::generate().unwrap());
    let tls = MongoTls { certificates: certificates.clone(), verify_clients };
    let password = password.map(str::to_owned);
    let settings = MongoSettings { password, tls: Some(tls), ..MongoSettings::default() };
    (MongoServer::start(&settings).unwrap(), certificates)
}

/// A certificate and its key in one file, as the driver takes them.
fn both(identity: &Identity) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().unwrap();
    let text = [&identity.certificate, &identity.key].map(|path| std::fs::read_to_string(path).unwrap());
    std::fs::write(file.path(), text.concat()).unwrap();
    file
}

async fn open(url: &str, files: &[(&str, &Path)]) -> Result<Arc<dyn Backend>> {
    let url = files
        .iter()
        .fold(with(url, "timeout", "4s"), |url, (name, path)| with(&url, name, &path.to_string_lossy()));
    harness::open(&url).await
}

#[track_caller]
fn refused(opened: Result<Arc<dyn Backend>>, kind: ErrorKind, text: &str) {
    let error = opened.expect_err("it has to be refused");
    assert_eq!(error.kind(), kind, "{error:?}");
    assert!(error.message().to_lowercase().contains(text), "no {text:?} in {error:?}");
    assert!(!format!("{error:?}").contains(PASSWORD), "{error:?}");
}

async fn works(opened: Result<Arc<dyn Backend>>) {
    let backend = opened.unwrap();
    let users = CollectionName::new("users").unwrap();
    put_json(&*backend, &users, "ada", json!(1)).await;
    assert_eq!(get_json(&*backend, &users, "ada").await, Some(json!(1)));
    backend.close().await.unwrap();
}

/// A server whose certificate is verified is used, and no other one.
#[tokio::test]
async fn a_verified_server_is_used() {
    let (server, certificates) = server(Some(PASSWORD), false);
    let (server, ca) = (&server, &certificates.authority());
    let verified = async |host: &str| {
        let url = with(&server.url_of(&format!("{host}:{}", server.port())), "directConnection", "true");
        works(open(&url, &[("ca_file", ca)]).await).await;
        works(open(&with(&url, "tls", "true"), &[("tlsCAFile", ca)]).await).await;
        let others = Certificates::generate().unwrap();
        refused(open(&url, &[("ca_file", &others.authority())]).await, ErrorKind::Unauthenticated, "ca_file");
        // Nor is it one that everybody knows.
        refused(open(&with(&url, "tls", "true"), &[]).await, ErrorKind::Unauthenticated, "certificate");
        refused(open(&with(&url, "tls", "false"), &[]).await, ErrorKind::Unavailable, "no server");
    };
    tokio::join!(verified("127.0.0.1"), verified("localhost"));
}

/// A server that does not encrypt is told apart from one whose certificate is bad.
#[tokio::test]
async fn a_server_without_tls_is_told() {
    let (_, certificates) = server(None, false);
    let plain = MongoServer::start(&MongoSettings::default()).unwrap();
    refused(
        open(&plain.url(), &[("ca_file", &certificates.authority())]).await,
        ErrorKind::Unavailable,
        "no server",
    );
    works(open(&plain.url(), &[]).await).await;
}

/// A server that asks for a certificate takes clients that have one, and no others; one that has a user needs no password.
#[tokio::test]
async fn a_client_shows_its_certificate() {
    let (server, certificates) = server(Some(PASSWORD), true);
    let (ca, client) = (certificates.authority(), both(&certificates.client()));
    let files = [("ca_file", ca.as_path()), ("cert_file", client.path())];
    works(open(&server.url(), &files).await).await;
    let x509 = format!("mongodb://{}/storage?authMechanism=MONGODB-X509", server.address());
    works(open(&x509, &files).await).await;
    refused(open(&server.url(), &files[..1]).await, ErrorKind::Unauthenticated, "certificate");
    let stranger = both(&Certificates::generate().unwrap().client());
    let files = [("ca_file", ca.as_path()), ("cert_file", stranger.path())];
    refused(open(&server.url(), &files).await, ErrorKind::Unauthenticated, "certificate");
}

/// A password is asked for, over TLS as without, and the mechanism can be named.
#[tokio::test]
async fn passwords_are_asked_for() {
    let (encrypted, certificates) = server(Some(PASSWORD), false);
    let settings = MongoSettings { password: Some(PASSWORD.to_owned()), ..MongoSettings::default() };
    let plain = MongoServer::start(&settings).unwrap();
    let ca = certificates.authority();
    for (server, files) in [(&encrypted, &[("ca_file", ca.as_path())][..]), (&plain, &[])] {
        let wrong = server.url().replace(PASSWORD, "wrong");
        refused(open(&wrong, files).await, ErrorKind::Unauthenticated, "password");
        let nobody = server.url().replace("storage:", "nobody:");
        refused(open(&nobody, files).await, ErrorKind::Unauthenticated, "password");
        for mechanism in ["SCRAM-SHA-256", "SCRAM-SHA-1"] {
            works(open(&with(&server.url(), "authMechanism", mechanism), files).await).await;
        }
        let without = format!("mongodb://{}/storage", server.address());
        let opened = open(&without, files).await;
        let result = match opened {
            // Who is nobody may say hello.
            Ok(backend) => backend.get(&[storage_core::Address::new("c", "k").unwrap()]).await.map(drop),
            Err(error) => Err(error),
        };
        let error = result.expect_err("a user is needed");
        assert!(
            matches!(error.kind(), ErrorKind::Unauthenticated | ErrorKind::PermissionDenied),
            "{error:?}"
        );
        // The user may use one database only.
        let other = format!("mongodb://storage:{PASSWORD}@{}/other?authSource=storage", server.address());
        let backend = open(&other, files).await.unwrap();
        let users = CollectionName::new("users").unwrap();
        let put = storage_testkit::helpers::put(&users, "ada", json!(1));
        let error = storage_testkit::helpers::write_one(&*backend, put).await.expect_err("another database");
        assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{error:?}");
    }
}

/// A file that is missing, or has no certificate in it, is named.
#[tokio::test]
async fn files_that_are_no_certificates_are_named() {
    let (server, certificates) = server(None, true);
    let missing = Path::new("/nowhere/ca.pem");
    refused(open(&server.url(), &[("ca_file", missing)]).await, ErrorKind::InvalidInput, "/nowhere/ca.pem");
    let text = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(text.path(), "no certificate").unwrap();
    let (ca, client) = (certificates.authority(), certificates.client());
    // It trusts nobody.
    refused(open(&server.url(), &[("ca_file", text.path())]).await, ErrorKind::Unauthenticated, "ca_file");
    for file in [text.path(), &client.certificate, &client.key] {
        let files = [("ca_file", ca.as_path()), ("cert_file", file)];
        refused(open(&server.url(), &files).await, ErrorKind::InvalidInput, "");
    }
}
