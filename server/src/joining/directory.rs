//! The data directory of a member that joins.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
};

use bytes::Bytes;
use ca::{AuthorityError, Handover};
use proto::member as pb;
use raft::{ClusterId, MemberId};
use tempfile::NamedTempFile;
use tracing::warn;
use zeroize::Zeroizing;

use crate::{
    custody::{member_custody, workload_custody},
    identity::{Identity, IdentityError},
};

/// Holds the number of a try to join, until there is a member.
const NONCE_FILE: &str = "joining.nonce";
/// Its length.
const NONCE_BYTES: usize = 32;

/// Why no data directory was made.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// It belongs to somebody.
    #[error("data directory {} is member {member} of cluster {cluster} already", .path.display())]
    Taken {
        /// The data directory.
        path: PathBuf,
        /// Whose.
        member: MemberId,
        /// Of which cluster.
        cluster: ClusterId,
    },
    /// The disk's.
    #[error("{}: {source}", .path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Who it is can not be read or written.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The keys that were given can not be kept.
    #[error(transparent)]
    Authority(#[from] AuthorityError),
    /// The answer is not one of ours.
    #[error("the cluster's answer lacks {0}")]
    Malformed(&'static str),
}

/// A member that a data directory was made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Joined {
    /// Its cluster.
    pub cluster: ClusterId,
    /// Its id.
    pub member: MemberId,
}

/// What a data directory remembers of the flags that its member was last started with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remembered {
    /// The name among people.
    pub name: String,
    /// Where the others reach it.
    pub peer_urls: Vec<String>,
}

/// What was remembered; `None` if the data directory is nobody's yet.
///
/// # Errors
/// [`IdentityError`] if it can not be read.
pub fn remembered(data_dir: &Path) -> Result<Option<Remembered>, IdentityError> {
    let known = Identity::load(data_dir)?;
    Ok(known.map(|Identity { name, peer_urls, .. }| Remembered { name, peer_urls }))
}

/// Refuses a data directory that is somebody's, or has anything else in it.
pub(super) fn check_is_free(data_dir: &Path) -> Result<(), JoinError> {
    if let Some(identity) = Identity::load(data_dir)? {
        let (member, cluster) = (identity.member(), identity.cluster());
        return Err(JoinError::Taken { path: data_dir.to_owned(), member, cluster });
    }
    Ok(())
}

/// Begins a try to join, and gives the number by which the cluster recognizes it if it is made again: whoever shows the
/// same one with the same invitation is given the same answer. It is kept in the data directory, on stable storage, until
/// the directory is somebody's; so a try that was cut short, by a crash even, is taken up.
///
/// # Errors
/// See [`JoinError`]: the directory is somebody's, or cannot be written.
pub fn begin(data_dir: &Path) -> Result<[u8; NONCE_BYTES], JoinError> {
    check_is_free(data_dir)?;
    make_private(data_dir)?;
    let path = data_dir.join(NONCE_FILE);
    let kept = match fs::read(&path) {
        Ok(kept) => kept,
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        Err(source) => return Err(JoinError::Io { path, source }),
    };
    if let Ok(nonce) = kept.try_into() {
        return Ok(nonce);
    }
    let nonce: [u8; NONCE_BYTES] = rand::random();
    keep(data_dir, &nonce).map_err(|source| JoinError::Io { path, source })?;
    Ok(nonce)
}

/// Writes the number, for nobody else to read: with the invitation it stands for the cluster's keys.
fn keep(data_dir: &Path, nonce: &[u8]) -> io::Result<()> {
    let mut file = NamedTempFile::new_in(data_dir)?;
    file.write_all(nonce)?;
    file.as_file().sync_all()?;
    file.persist(data_dir.join(NONCE_FILE)).map_err(|error| error.error)?;
    File::open(data_dir)?.sync_all()
}

/// Makes the data directory of a member that was let in: its keys first, and at last who it is. A try that was
/// interrupted is taken up, or begun anew.
///
/// # Errors
/// See [`JoinError`]: the member can not start then, and the same can be tried again.
pub fn prepare(
    data_dir: &Path,
    name: &str,
    peer_urls: &[String],
    answer: &pb::JoinResponse,
) -> Result<Joined, JoinError> {
    check_is_free(data_dir)?;
    make_private(data_dir)?;
    let joined = Joined { cluster: ClusterId(answer.cluster_id), member: MemberId(answer.member_id) };
    if joined.member.0 == 0 {
        return Err(JoinError::Malformed("a member's id"));
    }
    let given =
        |authority: &Option<pb::Authority>| authority.as_ref().map(handover).ok_or(JoinError::Malformed("keys"));
    let (workloads, members) = (given(&answer.workloads)?, given(&answer.peers)?);
    for (custody, given) in [(workload_custody(data_dir), workloads), (member_custody(data_dir), members)] {
        if !custody.exists() {
            custody.take_over(&given)?;
        }
    }
    Identity::joiner(joined.cluster, joined.member, name.to_owned(), peer_urls.to_vec()).save(data_dir)?;
    if let Err(error) = fs::remove_file(data_dir.join(NONCE_FILE))
        && error.kind() != io::ErrorKind::NotFound
    {
        warn!(%error, "what recognized the try to join stays in the data directory");
    }
    Ok(joined)
}

fn handover(given: &pb::Authority) -> Handover {
    Handover {
        root: given.root.clone(),
        issuing: given.issuing.clone(),
        issuing_key: Zeroizing::new(given.issuing_key.to_vec()),
    }
}

/// The wire's form of what is handed over.
pub(super) fn wire_authority(given: &Handover) -> pb::Authority {
    pb::Authority {
        root: given.root.clone(),
        issuing: given.issuing.clone(),
        issuing_key: Bytes::copy_from_slice(&given.issuing_key),
    }
}

fn make_private(path: &Path) -> Result<(), JoinError> {
    use std::os::unix::fs::DirBuilderExt;
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.map_err(|source| JoinError::Io { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use ca::{MemberAuthority, Time};
    use types::TrustDomain;

    use super::*;

    fn answer(dir: &Path) -> pb::JoinResponse {
        let custody = member_custody(dir);
        let cluster = TrustDomain::parse("0000000000000001.members").expect("a trust domain");
        MemberAuthority::found(&custody, &cluster, Time::now()).expect("founded");
        let given = wire_authority(&custody.hand_over().expect("handed over"));
        let (workloads, peers) = (Some(given.clone()), Some(given));
        pb::JoinResponse { cluster_id: 1, member_id: 0xb, workloads, peers, ..Default::default() }
    }

    #[test]
    fn a_joiner_has_its_keys_sealed_and_is_somebody_for_good() {
        let dir = tempfile::tempdir().expect("a folder");
        fs::create_dir(dir.path().join("a")).expect("a folder");
        let (answer, data) = (answer(&dir.path().join("a")), dir.path().join("b"));
        let urls = ["https://10.0.0.2:2380".to_owned()];
        assert_eq!(remembered(&data).expect("readable"), None);
        let joined = prepare(&data, "b", &urls, &answer).expect("prepared");
        assert_eq!(joined, Joined { cluster: ClusterId(1), member: MemberId(0xb) });
        let expected = Remembered { name: "b".to_owned(), peer_urls: urls.to_vec() };
        assert_eq!(remembered(&data).expect("readable"), Some(expected));
        assert!(MemberAuthority::open(&member_custody(&data)).expect("unsealed").is_some());
        let key = &answer.peers.as_ref().expect("keys").issuing_key[..];
        let sealed = fs::read(data.join("members/issuing.key.sealed")).expect("sealed");
        assert!(!sealed.windows(32).any(|window| key.windows(32).any(|part| part == window)));
        let again = prepare(&data, "b", &urls, &answer).expect_err("it is taken");
        assert!(matches!(again, JoinError::Taken { .. }), "{again}");
    }

    #[test]
    fn a_try_to_join_is_recognized_until_it_has_made_a_member() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().expect("a folder");
        fs::create_dir(dir.path().join("a")).expect("a folder");
        let (answer, data) = (answer(&dir.path().join("a")), dir.path().join("b"));
        let nonce = begin(&data).expect("begun");
        assert_eq!(begin(&data).expect("taken up"), nonce);
        assert_ne!(begin(&dir.path().join("c")).expect("another"), nonce);
        let file = data.join(NONCE_FILE);
        assert_eq!(fs::metadata(&file).expect("kept").permissions().mode() & 0o777, 0o600);
        fs::write(&file, &nonce[1..]).expect("cut short");
        assert_ne!(begin(&data).expect("begun anew"), nonce);
        prepare(&data, "b", &[], &answer).expect("prepared");
        assert!(!file.exists());
        assert!(matches!(begin(&data).expect_err("it is taken"), JoinError::Taken { .. }));
    }

    #[test]
    fn an_answer_without_keys_makes_nobody() {
        let dir = tempfile::tempdir().expect("a folder");
        let whole = answer(dir.path());
        for (name, lacking) in [
            ("b", pb::JoinResponse { peers: None, ..whole.clone() }),
            ("c", pb::JoinResponse { workloads: Some(pb::Authority::default()), ..whole.clone() }),
            ("d", pb::JoinResponse { member_id: 0, ..whole }),
        ] {
            let data = dir.path().join(name);
            assert!(prepare(&data, "b", &[], &lacking).is_err());
            assert_eq!(remembered(&data).expect("readable"), None);
        }
    }
}
