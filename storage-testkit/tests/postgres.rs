//! The PostgreSQL servers of the testkit: what they promise to tests, and that nothing of them is left.
#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "a panic is the failing test's message, also in helpers")]

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use storage_testkit::servers::{
    Certificates, PgBouncer, PostgresReplica, PostgresServer, PostgresSettings, PostgresTls,
};

/// Has the test binary, started once more, leave a server behind.
const LEAVE: &str = "STORAGE_TESTKIT_LEAVE";

fn plain() -> PostgresServer {
    PostgresServer::start(&PostgresSettings::default()).unwrap()
}

/// Connects as a client does, by `psql`: the first column of the first row, or what went wrong.
fn client(url: &str, sql: &str) -> Result<String, String> {
    let newest = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let newest = newest.map(|entry| entry.path().join("bin/psql")).filter(|path| path.exists()).max();
    let output = Command::new(newest.unwrap_or_else(|| "psql".into()))
        .args(["-X", "-w", "-A", "-t", "-q", "-c", sql, url])
        .stdin(Stdio::null())
        .output()
        .unwrap();
    if output.status.success() {
        Ok(String::from_utf8(output.stdout).unwrap().trim().to_owned())
    } else {
        Err(String::from_utf8_lossy(&output.stderr).into_owned())
    }
}

/// Waits until something holds, for twenty seconds.
#[track_caller]
fn soon(what: &str, until: impl Fn() -> bool) {
    let started = Instant::now();
    while !until() {
        assert!(started.elapsed() < Duration::from_secs(20), "not within 20 seconds: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn runs(process: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
}

/// The role of tests owns its database and is no superuser, writes are durable, and texts are not in code-point order
/// unless a statement says so, where the server knows another order.
#[test]
fn a_server_is_as_tests_need_it() {
    let server = plain();
    let role = "SELECT rolsuper FROM pg_roles WHERE rolname = current_user";
    assert_eq!(client(&server.url(), role).unwrap(), "f");
    client(&server.url(), "CREATE SCHEMA own; CREATE TABLE own.t (a int)").unwrap();
    for durable in ["fsync", "synchronous_commit", "full_page_writes"] {
        assert_eq!(client(&server.url(), &format!("SHOW {durable}")).unwrap(), "on", "{durable}");
    }
    let version: u32 = server.psql("SHOW server_version_num").unwrap().parse().unwrap();
    if version >= 150_000 {
        assert_eq!(server.psql("SELECT 'a' < 'B'").unwrap(), "t");
    }
    assert!(server.psql("SELECT no_such_column").is_err(), "what fails is told");
    server.set("work_mem", "7MB").unwrap();
    assert_eq!(client(&server.url(), "SHOW work_mem").unwrap(), "7MB");
    let more = PostgresServer::start(&PostgresSettings::with(["max_connections = 17"])).unwrap();
    assert_eq!(more.psql("SHOW max_connections").unwrap(), "17");
}

/// A password is asked for where one is set, and what was committed outlives a stop and a kill.
#[test]
fn a_server_with_a_password_stops_dies_and_comes_back() {
    let settings =
        PostgresSettings { password: Some("it's secret".to_owned()), ..PostgresSettings::default() };
    let server = PostgresServer::start(&settings).unwrap();
    let connection = |password: &str| {
        format!("host=127.0.0.1 port={} user=storage dbname=storage password='{password}'", server.port())
    };
    let (right, wrong) = (connection(r"it\'s secret"), connection("wrong"));
    assert!(client(&wrong, "SELECT 1").unwrap_err().contains("password"));
    client(&right, "CREATE SCHEMA own; CREATE TABLE own.t (a int); INSERT INTO own.t VALUES (1)").unwrap();

    server.stop().unwrap();
    assert!(client(&right, "SELECT 1").is_err());
    server.restart().unwrap();
    client(&right, "INSERT INTO own.t VALUES (2)").unwrap();
    server.kill().unwrap();
    assert!(client(&right, "SELECT 1").is_err());
    server.restart().unwrap();
    assert_eq!(client(&right, "SELECT sum(a) FROM own.t").unwrap(), "3");
    assert!(client(&wrong, "SELECT 1").is_err());
}

/// A frozen server takes connections and says nothing; then it goes on.
#[test]
fn a_server_freezes_and_goes_on() {
    let server = plain();
    server.freeze().unwrap();
    let url = server.url();
    let waiting = std::thread::spawn(move || client(&url, "SELECT 1"));
    std::thread::sleep(Duration::from_millis(500));
    assert!(!waiting.is_finished(), "it answers");
    server.thaw().unwrap();
    assert_eq!(waiting.join().unwrap().unwrap(), "1");
    // One that is frozen when its value goes does not stay either.
    let (id, directory) = (server.process().id().unwrap(), server.process().directory().to_owned());
    server.freeze().unwrap();
    drop(server);
    assert!(!runs(id) && !directory.exists());
}

/// Connections of the role are ended in the middle of a statement.
#[test]
fn connections_are_terminated() {
    let server = plain();
    let url = server.url();
    let waiting = std::thread::spawn(move || client(&url, "SELECT pg_sleep(30)"));
    soon("the statement runs", || server.terminate().unwrap() == 1);
    assert!(waiting.join().unwrap().unwrap_err().contains("terminating"));
}

/// A replica has what its primary has, takes no writes, and takes them when it is promoted.
#[test]
fn a_replica_follows_and_is_promoted() {
    let primary = plain();
    let replica = PostgresReplica::start(&primary).unwrap();
    client(&primary.url(), "CREATE SCHEMA own; CREATE TABLE own.t (a int); INSERT INTO own.t VALUES (1)")
        .unwrap();
    replica.catch_up(&primary).unwrap();
    let url = replica.server().url();
    assert_eq!(client(&url, "SELECT sum(a) FROM own.t").unwrap(), "1");
    assert!(client(&url, "INSERT INTO own.t VALUES (2)").unwrap_err().contains("read-only"));
    primary.kill().unwrap();
    replica.promote().unwrap();
    client(&url, "INSERT INTO own.t VALUES (2)").unwrap();
}

/// Plain connections are refused, and where asked for, those without a certificate.
#[test]
fn a_server_with_tls_takes_nothing_else() {
    for verify_clients in [false, true] {
        let certificates = Arc::new(Certificates::generate().unwrap());
        let tls = PostgresTls { certificates: certificates.clone(), verify_clients };
        let server = PostgresServer::start(&PostgresSettings {
            password: Some("secret".to_owned()),
            tls: Some(tls),
            ..PostgresSettings::default()
        });
        let server = server.unwrap();
        let (ca, identity) = (certificates.authority(), certificates.client());
        let ca = format!("{}?sslmode=verify-full&sslrootcert={}", server.url(), ca.display());
        let key = private(&identity.key);
        let shown = format!("{ca}&sslcert={}&sslkey={}", identity.certificate.display(), key.display());
        assert!(client(&format!("{}?sslmode=disable", server.url()), "SELECT 1").is_err());
        assert_eq!(client(&ca, "SELECT 1").is_ok(), !verify_clients);
        assert_eq!(client(&shown, "SELECT 1").unwrap(), "1");
    }
}

/// The program psql takes no key that others can read.
fn private(key: &Path) -> PathBuf {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(key, std::fs::Permissions::from_mode(0o600)).unwrap();
    key.to_owned()
}

/// The pooler gives each transaction a connection, more clients than it has connections.
#[test]
fn a_pooler_shares_connections_between_transactions() {
    for password in [None, Some("secret".to_owned())] {
        let server =
            PostgresServer::start(&PostgresSettings { password, ..PostgresSettings::default() }).unwrap();
        let pooler = PgBouncer::start(&server).unwrap();
        let clients = (0..8).map(|_| {
            let url = pooler.url();
            std::thread::spawn(move || client(&url, "SELECT pg_backend_pid() FROM pg_sleep(0.1)").unwrap())
        });
        let clients: Vec<_> = clients.collect();
        let connections: std::collections::BTreeSet<String> =
            clients.into_iter().map(|client| client.join().unwrap()).collect();
        assert!((1..=5).contains(&connections.len()), "{connections:?}");
    }
}

/// A test process that is killed leaves neither a server nor its files, frozen or not.
#[test]
fn a_server_ends_with_its_test_process() {
    for how in ["running", "frozen"] {
        let output = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "leaves_a_server", "--nocapture"])
            .env(LEAVE, how)
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let told = String::from_utf8(output.stdout).unwrap();
        let left: Vec<&str> =
            told.lines().find_map(|line| line.strip_prefix("left ")).unwrap().split(' ').collect();
        let (postmaster, connection) = (left[0].parse().unwrap(), left[1].parse().unwrap());
        soon("the server and its connection end", || !runs(postmaster) && !runs(connection));
        soon("its files go", || !Path::new(left[2]).exists());
    }
}

/// What the test above starts; by itself, it has nothing to do.
#[test]
fn leaves_a_server() {
    let Ok(how) = std::env::var(LEAVE) else { return };
    let server = plain();
    let url = server.url();
    std::thread::spawn(move || client(&url, "SELECT pg_sleep(60)"));
    let sleeping = "SELECT pid FROM pg_stat_activity WHERE usename = 'storage' AND state = 'active'";
    soon("the statement runs", || !server.psql(sleeping).unwrap().is_empty());
    let connection = server.psql(sleeping).unwrap();
    let told = format!(
        "\nleft {} {connection} {}\n",
        server.process().id().unwrap(),
        server.process().directory().display()
    );
    std::io::Write::write_all(&mut std::io::stdout(), told.as_bytes()).unwrap();
    if how == "frozen" {
        server.freeze().unwrap();
    }
    std::process::abort();
}
