//! A service of OpenDAL as a peer.

use anyhow::{Result, bail};
use async_trait::async_trait;
use bytes::Bytes;
use opendal::{ErrorKind, Operator};

use crate::peer::{Feature, Page, Peer, PeerInfo};

/// A service of OpenDAL.
pub(crate) struct OpenDal {
    pub(crate) info: PeerInfo,
    pub(crate) operator: Operator,
}

#[async_trait]
impl Peer for OpenDal {
    fn info(&self) -> &PeerInfo {
        &self.info
    }

    /// Its listings have names without values, and it has no read-modify-write.
    fn has(&self, _: Feature) -> bool {
        false
    }

    async fn get(&self, key: &str) -> Result<Option<Bytes>> {
        match self.operator.read(key).await {
            Ok(buffer) => Ok(Some(buffer.to_bytes())),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    async fn put(&self, key: String, value: Vec<u8>) -> Result<()> {
        self.operator.write(&key, value).await?;
        Ok(())
    }

    async fn get_many(&self, keys: &[String]) -> Result<Vec<Option<Bytes>>> {
        let mut found = Vec::with_capacity(keys.len());
        for key in keys {
            found.push(self.get(key).await?);
        }
        Ok(found)
    }

    async fn put_many(&self, records: Vec<(String, Vec<u8>)>) -> Result<()> {
        for (key, value) in records {
            self.put(key, value).await?;
        }
        Ok(())
    }

    async fn scan(&self, _: &str, _: Option<&str>, _: usize) -> Result<Page> {
        bail!("OpenDAL has no scan with values")
    }

    async fn increment(&self, _: &str) -> Result<i64> {
        bail!("OpenDAL has no increment")
    }
}
