//! Names of members and clusters that follow from their addresses, as etcd's do.
//!
//! Source: etcd `server/etcdserver/api/membership`: the first 8 bytes, big-endian, of a SHA-1.

use std::time::Duration;

use raft::{ClusterId, MemberId};
use sha1::{Digest, Sha1};

/// The id of a member of a new cluster: of its peer URLs in order, and the cluster's token.
pub(crate) fn member_id(peer_urls: &[String], cluster_token: &str) -> MemberId {
    let mut urls = peer_urls.to_vec();
    urls.sort_unstable();
    MemberId(first_eight_bytes(&[urls.concat(), cluster_token.to_owned()].concat().into_bytes()))
}

/// The id of a member that is added to a cluster at a time since 1970: of its peer URLs in order, and the seconds.
pub(crate) fn added_member_id(peer_urls: &[String], now: Duration) -> MemberId {
    member_id(peer_urls, &now.as_secs().to_string())
}

/// The id of a new cluster: of its first members.
pub(crate) fn cluster_id(members: &[MemberId]) -> ClusterId {
    let mut ids: Vec<u64> = members.iter().map(|member| member.0).collect();
    ids.sort_unstable();
    ClusterId(first_eight_bytes(&ids.iter().flat_map(|id| id.to_be_bytes()).collect::<Vec<_>>()))
}

fn first_eight_bytes(text: &[u8]) -> u64 {
    Sha1::digest(text).iter().take(8).fold(0, |id, &byte| id << 8 | u64::from(byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lone_default_member_has_the_ids_that_etcd_gives_it() {
        let member = member_id(&["http://localhost:2380".to_owned()], "etcd-cluster");
        assert_eq!(member, MemberId(0x8e9e_05c5_2164_694d));
        assert_eq!(cluster_id(&[member]), ClusterId(0xcdf8_1819_4e3a_8c32));
    }
}
