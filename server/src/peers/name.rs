//! How members are named in their certificates.
//!
//! - A cluster's members have a trust domain of their own, `CLUSTER.members`: no workload can have an identity of it.

use raft::{ClusterId, MemberId};
use types::{Namespace, ServiceAccount, SpiffeId, TrustDomain};

/// The trust domain of a cluster's members.
pub(crate) fn members_of(cluster: ClusterId) -> TrustDomain {
    TrustDomain::parse(&format!("{:016x}.members", cluster.0)).expect("hexadecimal digits and letters")
}

/// The identity of one member.
pub(crate) fn identity(cluster: ClusterId, member: MemberId) -> SpiffeId {
    let account = ServiceAccount::parse(&format!("{:016x}", member.0)).expect("hexadecimal digits");
    SpiffeId::new(members_of(cluster), system(), account)
}

/// The member that an identity names, if it names one of this cluster.
pub(crate) fn member(cluster: ClusterId, id: &SpiffeId) -> Option<MemberId> {
    let account = id.service_account().as_str();
    let member = MemberId(u64::from_str_radix(account, 16).ok()?);
    (identity(cluster, member) == *id).then_some(member)
}

fn system() -> Namespace {
    Namespace::parse("meshstore-system").expect("a DNS label")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_is_found_by_its_own_name_in_its_own_cluster_alone() {
        let (cluster, id) = (ClusterId(0xcdf8_1819_4e3a_8c32), MemberId(7));
        let name = identity(cluster, id);
        assert_eq!(name.to_string(), "spiffe://cdf818194e3a8c32.members/ns/meshstore-system/sa/0000000000000007");
        assert_eq!(member(cluster, &name), Some(id));
        assert_eq!(member(ClusterId(1), &name), None);
        for other in [
            "spiffe://cdf818194e3a8c32.members/ns/meshstore-system/sa/7",
            "spiffe://cdf818194e3a8c32.members/ns/default/sa/0000000000000007",
            "spiffe://cluster.local/ns/meshstore-system/sa/0000000000000007",
            "spiffe://cdf818194e3a8c32.members/ns/meshstore-system/sa/server",
        ] {
            assert_eq!(member(cluster, &SpiffeId::parse(other).expect("an identity")), None, "{other}");
        }
    }
}
