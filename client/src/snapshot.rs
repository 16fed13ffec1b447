//! Snapshots: everything that a member has, as one stream of bytes.
//!
//! - The stream ends with the SHA-256 of all bytes before it; what does not match it ends in an error.

use crate::{
    Client, ClientError,
    transport::{MESSAGE_BYTES_MAX, Repeat},
};
use bytes::{Bytes, BytesMut};
use proto::etcdserverpb::{self as pb, maintenance_client::MaintenanceClient};
use sha2::{Digest, Sha256};
use tonic::{Status, Streaming};

/// The length of the digest at the end.
const DIGEST_BYTES: usize = 32;

/// A snapshot that is being received.
#[derive(Debug)]
pub struct Snapshot {
    chunks: Streaming<pb::SnapshotResponse>,
    check: Check,
    remaining: u64,
}

impl Client {
    /// Asks the preferred endpoint for a snapshot of everything that it has. Source: etcd v3 `Maintenance.Snapshot`.
    ///
    /// # Errors
    /// As [`ClientError`] says.
    pub async fn snapshot(&self) -> Result<Snapshot, ClientError> {
        let open = |link| async move {
            let mut client = MaintenanceClient::new(link).max_decoding_message_size(MESSAGE_BYTES_MAX);
            client.snapshot(pb::SnapshotRequest {}).await
        };
        let chunks = self.transport.call(Repeat::Always, open).await?;
        Ok(Snapshot { chunks, check: Check::default(), remaining: 0 })
    }
}

impl Snapshot {
    /// The next bytes; `None` when all were received and their digest matches.
    ///
    /// # Errors
    /// [`ClientError::Unavailable`] when the stream breaks off, and [`ClientError::Protocol`] when the bytes are not those
    /// that were sent. The snapshot is then of no use.
    pub async fn next(&mut self) -> Result<Option<Bytes>, ClientError> {
        match self.chunks.message().await.map_err(|status| broken_off(&status))? {
            Some(chunk) => {
                self.remaining = chunk.remaining_bytes;
                self.check.add(&chunk.blob);
                Ok(Some(chunk.blob))
            }
            None if self.check.matches() => Ok(None),
            None => Err(ClientError::Protocol("a snapshot does not match its checksum")),
        }
    }

    /// How many bytes are still to come, as the server counts them.
    pub fn remaining_bytes(&self) -> u64 {
        self.remaining
    }
}

fn broken_off(status: &Status) -> ClientError {
    match crate::error::Failure::of(status) {
        crate::error::Failure::Answered => ClientError::answered(status),
        _ => ClientError::Unavailable { text: format!("the snapshot broke off: {}", status.message()) },
    }
}

/// Hashes all but the last bytes, which are the digest.
#[derive(Debug, Default)]
struct Check {
    hashed: Sha256,
    held: BytesMut,
}

impl Check {
    fn add(&mut self, bytes: &[u8]) {
        self.held.extend_from_slice(bytes);
        let hashed = self.held.split_to(self.held.len().saturating_sub(DIGEST_BYTES));
        self.hashed.update(&hashed);
    }

    fn matches(&self) -> bool {
        self.held.len() == DIGEST_BYTES && self.hashed.clone().finalize()[..] == self.held[..]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_bytes_are_the_digest_of_the_others() {
        let data: Vec<u8> = (0..200_u8).collect();
        let mut whole = data.clone();
        whole.extend_from_slice(&Sha256::digest(&data));
        for size in [1, 7, 32, 33, 1000] {
            let mut check = Check::default();
            whole.chunks(size).for_each(|chunk| check.add(chunk));
            assert!(check.matches(), "{size}");
            let mut check = Check::default();
            whole[..whole.len() - 1].chunks(size).for_each(|chunk| check.add(chunk));
            assert!(!check.matches(), "{size}");
        }
        whole[3] ^= 1;
        let mut check = Check::default();
        check.add(&whole);
        assert!(!check.matches() && !Check::default().matches());
    }
}
