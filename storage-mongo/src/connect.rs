//! From a configuration to the driver's options.

use std::fmt::Write as _;
use std::time::Duration;

use mongodb::options::{ClientOptions, ConnectionString, ReadConcern, WriteConcern};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use storage_core::{Error, Result, Secret};

use crate::config::MongoConfig;
use crate::error::driver;

/// What stands for itself in a connection string.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

impl MongoConfig {
    /// Checks what the driver checks, without looking for a server or reading a file.
    pub(crate) fn check_connection(&self) -> Result<()> {
        ConnectionString::parse(self.connection_string(None)).map(drop).map_err(driver)
    }

    /// The driver's options. Looks up the names of `mongodb+srv`.
    pub(crate) async fn driver_options(&self) -> Result<ClientOptions> {
        let password = self.read_password()?;
        let string = self.connection_string(password.as_ref());
        let mut options = ClientOptions::parse(string).await.map_err(driver)?;
        options.app_name.get_or_insert_with(|| "storage".to_owned());
        // Before the call's own time ends: so it is known that nothing was sent.
        let half = self.timeout / 2;
        let selection = options.server_selection_timeout.get_or_insert(Duration::from_secs(5));
        *selection = half.min(*selection);
        let connect = options.connect_timeout.get_or_insert(Duration::from_secs(5));
        *connect = half.min(*connect);
        // What is acknowledged outlives the loss of a primary, and what is read does.
        options.write_concern.get_or_insert_with(WriteConcern::majority);
        options.read_concern.get_or_insert_with(ReadConcern::majority);
        Ok(options)
    }

    fn connection_string(&self, password: Option<&Secret>) -> String {
        let escape = |text: &str| utf8_percent_encode(text, ESCAPED).to_string();
        let mut string = if self.srv { "mongodb+srv://" } else { "mongodb://" }.to_owned();
        if let Some(user) = &self.user {
            string.push_str(&escape(user));
            // Whether there is one counts even before it is read.
            if self.password.is_some() || self.password_file.is_some() {
                string.push(':');
                string
                    .push_str(&password.map_or_else(|| "-".to_owned(), |password| escape(password.reveal())));
            }
            string.push('@');
        }
        string.push_str(&self.hosts.join(","));
        string.push('/');
        // A database that is not named is not where the users are.
        if let Some(database) = &self.database {
            string.push_str(&escape(database));
        }
        let mut separator = '?';
        let mut option = |name: &str, value: &str| {
            // Writing to a text does not fail.
            let _ = write!(string, "{separator}{name}={}", escape(value));
            separator = '&';
        };
        if let Some(tls) = self.tls_mode() {
            option("tls", if tls { "true" } else { "false" });
        }
        for (name, file) in [("tlsCAFile", &self.ca_file), ("tlsCertificateKeyFile", &self.cert_file)] {
            if let Some(file) = file {
                option(name, &file.to_string_lossy());
            }
        }
        for (name, value) in &self.options {
            option(name, value);
        }
        string
    }

    /// Whether connections are encrypted; `None`: as the driver does it, which is yes for SRV.
    fn tls_mode(&self) -> Option<bool> {
        let local = |host: &String| {
            let name = host
                .rsplit_once(':')
                .filter(|(_, port)| !port.contains(']'))
                .map_or(host.as_str(), |(name, _)| name);
            let bare = name.trim_start_matches('[').trim_end_matches(']');
            let loopback = bare.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback());
            bare == "localhost" || loopback || host.ends_with(".sock")
        };
        let certificates = self.ca_file.is_some() || self.cert_file.is_some();
        self.tls.or_else(|| if self.srv { None } else { Some(certificates || !self.hosts.iter().all(local)) })
    }

    fn read_password(&self) -> Result<Option<Secret>> {
        let Some(path) = &self.password_file else { return Ok(self.password.clone()) };
        let text = std::fs::read_to_string(path).map_err(|error| {
            Error::invalid(format!("the configuration of mongo: password_file {}: {error}", path.display()))
        })?;
        let text =
            text.strip_suffix('\n').map_or(text.as_str(), |line| line.strip_suffix('\r').unwrap_or(line));
        Ok(Some(Secret::from(text)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_passes_a_network_is_encrypted() {
        for (url, tls) in [
            ("mongodb://localhost", Some(false)),
            ("mongodb://127.0.0.1:1,[::1]:27017", Some(false)),
            ("mongodb://localhost?ca_file=/x", Some(true)),
            ("mongodb://db", Some(true)),
            ("mongodb://localhost,db", Some(true)),
            ("mongodb://db?tls=false", Some(false)),
            ("mongodb+srv://db.example", None),
        ] {
            assert_eq!(MongoConfig::from_url(url).unwrap().tls_mode(), tls, "{url}");
        }
    }

    #[tokio::test]
    async fn the_driver_gets_what_was_configured_and_our_defaults() {
        let url = "mongodb://a%2Fda:p%40s%3As@localhost:27018/app?replicaSet=rs0&maxPoolSize=5&timeout=4s&authSource=admin";
        let options = MongoConfig::from_url(url).unwrap().driver_options().await.unwrap();
        let credential = options.credential.unwrap();
        assert_eq!(
            (credential.username.as_deref(), credential.password.as_deref()),
            (Some("a/da"), Some("p@s:s"))
        );
        assert_eq!(credential.source.as_deref(), Some("admin"));
        assert_eq!((options.repl_set_name.as_deref(), options.max_pool_size), (Some("rs0"), Some(5)));
        assert_eq!(options.server_selection_timeout, Some(Duration::from_secs(2)));
        assert_eq!(options.write_concern, Some(WriteConcern::majority()));
        assert_eq!(options.read_concern, Some(ReadConcern::majority()));

        let own = MongoConfig::from_url("mongodb://localhost?w=1&readConcernLevel=local").unwrap();
        let options = own.driver_options().await.unwrap();
        assert_eq!(options.write_concern, Some(WriteConcern::nodes(1)));
        assert_eq!(options.read_concern, Some(ReadConcern::local()));
    }
}
