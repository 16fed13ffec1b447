//! The data directory of a member that joins.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use bytes::Bytes;
use ca::{AuthorityError, Handover};
use proto::member as pb;
use raft::{ClusterId, MemberId};
use zeroize::Zeroizing;

use crate::{
    custody::{member_custody, workload_custody},
    identity::{Identity, IdentityError},
};

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
