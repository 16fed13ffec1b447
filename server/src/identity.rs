//! Who a data directory is.
//!
//! Owns: the file that says so, `member.json`, written once when the member is made and changed only in what follows it.
//!
//! - Flags make an identity where there is none; afterwards they do not touch it.
//! - The file appears whole or not at all, and before anything that is said in its name.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
};

use raft::{ClusterId, MemberId};
use serde::{Deserialize, Serialize};
use tempfile::NamedTempFile;

/// The file's name in a data directory.
const FILE: &str = "member.json";

/// Why the file is of no use.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The disk's.
    #[error("{}: {source}", .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is not what this program writes.
    #[error("{}: {reason}; restore it from a backup, or replace the member", .path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
}

/// Whose data directory it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Identity {
    #[serde(with = "hexadecimal")]
    cluster: u64,
    #[serde(with = "hexadecimal")]
    member: u64,
    /// It was added to a cluster that others had formed, and waits for their log.
    pub(crate) joined: bool,
    /// The name that it was last started with.
    pub(crate) name: String,
    /// The peer addresses that it was last started with: only a change of them is one.
    pub(crate) peer_urls: Vec<String>,
}

impl Identity {
    /// A member that forms its cluster.
    pub(crate) fn founder(cluster: ClusterId, member: MemberId, name: String, peer_urls: Vec<String>) -> Self {
        Self { cluster: cluster.0, member: member.0, joined: false, name, peer_urls }
    }

    /// A member that was added to a cluster.
    pub(crate) fn joiner(cluster: ClusterId, member: MemberId, name: String, peer_urls: Vec<String>) -> Self {
        Self { joined: true, ..Self::founder(cluster, member, name, peer_urls) }
    }

    /// The same, started with another name and other addresses.
    pub(crate) fn started_with(&self, name: String, peer_urls: Vec<String>) -> Self {
        Self { name, peer_urls, ..self.clone() }
    }

    pub(crate) fn cluster(&self) -> ClusterId {
        ClusterId(self.cluster)
    }

    pub(crate) fn member(&self) -> MemberId {
        MemberId(self.member)
    }

    /// Reads the file; `None` if the data directory is nobody's yet.
    pub(crate) fn load(data_dir: &Path) -> Result<Option<Self>, IdentityError> {
        let path = data_dir.join(FILE);
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(IdentityError::Io { path, source }),
        };
        let malformed = |reason: serde_json::Error| IdentityError::Malformed { path, reason: reason.to_string() };
        serde_json::from_slice(&text).map(Some).map_err(malformed)
    }

    /// Writes the file in the place of the one that was there.
    pub(crate) fn save(&self, data_dir: &Path) -> Result<(), IdentityError> {
        let write = || {
            let mut file = NamedTempFile::new_in(data_dir)?;
            serde_json::to_writer_pretty(&mut file, self)?;
            file.write_all(b"\n")?;
            file.as_file().sync_all()?;
            file.persist(data_dir.join(FILE)).map_err(|error| error.error)?;
            File::open(data_dir)?.sync_all()
        };
        write().map_err(|source| IdentityError::Io { path: data_dir.join(FILE), source })
    }
}

/// Ids as etcd prints them: JSON's numbers do not hold them.
mod hexadecimal {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for it")]
    pub(super) fn serialize<S: Serializer>(id: &u64, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{id:x}"))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
        let text = String::deserialize(deserializer)?;
        u64::from_str_radix(&text, 16).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_is_read_as_it_was_written() {
        let dir = tempfile::tempdir().expect("a folder");
        assert_eq!(Identity::load(dir.path()).expect("readable"), None);
        let urls = vec!["https://10.0.0.2:2380".to_owned()];
        let identity = Identity::joiner(ClusterId(u64::MAX), MemberId(0xb), "b".to_owned(), urls);
        identity.save(dir.path()).expect("saved");
        assert_eq!(Identity::load(dir.path()).expect("readable"), Some(identity.clone()));
        let later = Identity { name: "c".to_owned(), ..identity };
        later.save(dir.path()).expect("saved again");
        assert_eq!(Identity::load(dir.path()).expect("readable"), Some(later));
        assert_eq!(fs::read_dir(dir.path()).expect("a folder").count(), 1, "nothing else is left there");
    }

    #[test]
    fn a_damaged_file_is_no_empty_one() {
        let dir = tempfile::tempdir().expect("a folder");
        for text in ["", "{}", r#"{"cluster": 1}"#, r#"{"cluster":"x","member":"1","joined":false}"#] {
            fs::write(dir.path().join(FILE), text).expect("written");
            let error = Identity::load(dir.path()).expect_err("malformed");
            assert!(matches!(error, IdentityError::Malformed { .. }), "{text}: {error}");
        }
    }
}
