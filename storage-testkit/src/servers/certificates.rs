//! Certificates for servers with TLS, made anew for each test.

use std::path::PathBuf;

use tempfile::TempDir;

/// A certificate authority with a certificate for a server on this machine and one for a client, as PEM files in a
/// temporary directory.
pub struct Certificates {
    directory: TempDir,
}

/// Files of a certificate and its key.
#[derive(Clone, Debug)]
pub struct Identity {
    /// The certificate.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

impl Certificates {
    /// The authority's certificate.
    pub fn authority(&self) -> PathBuf {
        self.path("ca.crt")
    }

    /// The server's certificate.
    pub fn server(&self) -> Identity {
        Identity { certificate: self.path("server.crt"), key: self.path("server.key") }
    }

    /// The client's certificate.
    pub fn client(&self) -> Identity {
        Identity { certificate: self.path("client.crt"), key: self.path("client.key") }
    }

    /// Leaves the files behind, and says where they are.
    pub fn keep(self) -> PathBuf {
        self.directory.keep()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }
}

#[cfg(feature = "tls")]
mod generate {
    use rcgen::{
        BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    };
    use storage_core::{Error, ErrorKind, Result};

    use super::Certificates;

    impl Certificates {
        /// Makes them. The server's certificate is for `localhost` and `127.0.0.1`.
        ///
        /// # Errors
        /// [`Unavailable`](ErrorKind::Unavailable) if the files cannot be written.
        pub fn generate() -> Result<Self> {
            let directory = tempfile::Builder::new().prefix("storage-test-").tempdir();
            let made = Self { directory: directory.map_err(|error| trouble(&error))? };
            let mut params = CertificateParams::default();
            // Issuer and subject have to differ, or the others look self-signed.
            params.distinguished_name.push(DnType::CommonName, "authority of a storage test");
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            let authority = CertifiedIssuer::self_signed(params, key()?).map_err(|error| trouble(&error))?;
            made.write("ca.crt", &authority.pem())?;
            for (name, usage) in [
                ("server", ExtendedKeyUsagePurpose::ServerAuth),
                ("client", ExtendedKeyUsagePurpose::ClientAuth),
            ] {
                let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
                let mut params = CertificateParams::new(names).map_err(|error| trouble(&error))?;
                params.distinguished_name.push(DnType::CommonName, name);
                params.extended_key_usages = vec![usage];
                let key = key()?;
                let certificate = params.signed_by(&key, &authority).map_err(|error| trouble(&error))?;
                made.write(&format!("{name}.crt"), &certificate.pem())?;
                made.write(&format!("{name}.key"), &key.serialize_pem())?;
            }
            Ok(made)
        }

        fn write(&self, name: &str, text: &str) -> Result<()> {
            std::fs::write(self.path(name), text).map_err(|error| trouble(&error))
        }
    }

    fn key() -> Result<KeyPair> {
        KeyPair::generate().map_err(|error| trouble(&error))
    }

    fn trouble(error: &dyn std::fmt::Display) -> Error {
        Error::new(ErrorKind::Unavailable, format!("certificates for a test: {error}"))
    }
}
