//! Which RPC is for whom: the one table that the gate asks, and that the tests walk through.

/// Who may call a method while auth is enabled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rule {
    /// Anybody.
    Public,
    /// Any user.
    User,
    /// Users with permissions on the keys that the request names: its handler asks for them.
    Keys,
    /// The same, for each message of a long stream: its handler also recognizes the caller anew each time.
    KeysOfEachMessage,
    /// Users with the role `root`.
    Root,
}

use Rule::{Keys, KeysOfEachMessage, Public, Root, User};

/// Every method of every service that clients are offered, by its path, sorted.
///
/// `User` where a handler tells more: who is no `root` sees the alarms, but does not change them, and sees their own
/// user and roles only.
pub(crate) const RULES: &[(&str, Rule)] = &[
    ("/etcdserverpb.Auth/AuthDisable", Root),
    ("/etcdserverpb.Auth/AuthEnable", Root),
    ("/etcdserverpb.Auth/AuthStatus", Public),
    ("/etcdserverpb.Auth/Authenticate", Public),
    ("/etcdserverpb.Auth/RoleAdd", Root),
    ("/etcdserverpb.Auth/RoleDelete", Root),
    ("/etcdserverpb.Auth/RoleGet", User),
    ("/etcdserverpb.Auth/RoleGrantPermission", Root),
    ("/etcdserverpb.Auth/RoleList", Root),
    ("/etcdserverpb.Auth/RoleRevokePermission", Root),
    ("/etcdserverpb.Auth/UserAdd", Root),
    ("/etcdserverpb.Auth/UserChangePassword", Root),
    ("/etcdserverpb.Auth/UserDelete", Root),
    ("/etcdserverpb.Auth/UserGet", User),
    ("/etcdserverpb.Auth/UserGrantRole", Root),
    ("/etcdserverpb.Auth/UserList", Root),
    ("/etcdserverpb.Auth/UserRevokeRole", Root),
    ("/etcdserverpb.Cluster/MemberAdd", Root),
    ("/etcdserverpb.Cluster/MemberList", User),
    ("/etcdserverpb.Cluster/MemberPromote", Root),
    ("/etcdserverpb.Cluster/MemberRemove", Root),
    ("/etcdserverpb.Cluster/MemberUpdate", Root),
    ("/etcdserverpb.KV/Compact", Root),
    ("/etcdserverpb.KV/DeleteRange", Keys),
    ("/etcdserverpb.KV/Put", Keys),
    ("/etcdserverpb.KV/Range", Keys),
    ("/etcdserverpb.KV/RangeStream", Keys),
    ("/etcdserverpb.KV/Txn", Keys),
    ("/etcdserverpb.Lease/LeaseGrant", User),
    ("/etcdserverpb.Lease/LeaseKeepAlive", KeysOfEachMessage),
    ("/etcdserverpb.Lease/LeaseLeases", Keys),
    ("/etcdserverpb.Lease/LeaseRevoke", Keys),
    ("/etcdserverpb.Lease/LeaseTimeToLive", Keys),
    ("/etcdserverpb.Maintenance/Alarm", User),
    ("/etcdserverpb.Maintenance/Defragment", Root),
    ("/etcdserverpb.Maintenance/Downgrade", Root),
    ("/etcdserverpb.Maintenance/Hash", Root),
    ("/etcdserverpb.Maintenance/HashKV", Root),
    ("/etcdserverpb.Maintenance/MoveLeader", Root),
    ("/etcdserverpb.Maintenance/Snapshot", Root),
    ("/etcdserverpb.Maintenance/Status", User),
    ("/etcdserverpb.Watch/Watch", KeysOfEachMessage),
    ("/meshstore.upgrade.v1.Upgrade/Probe", Root),
    ("/meshstore.upgrade.v1.Upgrade/Versions", User),
    ("/v3electionpb.Election/Campaign", Keys),
    ("/v3electionpb.Election/Leader", Keys),
    ("/v3electionpb.Election/Observe", Keys),
    ("/v3electionpb.Election/Proclaim", Keys),
    ("/v3electionpb.Election/Resign", Keys),
    ("/v3lockpb.Lock/Lock", Keys),
    ("/v3lockpb.Lock/Unlock", Keys),
];

/// The rule of a method; what the table does not know is for administrators.
pub(crate) fn of(path: &str) -> Rule {
    RULES.binary_search_by_key(&path, |(known, _)| *known).map_or(Root, |at| RULES[at].1)
}

/// Whether a member without a vote answers; ranges that are served from what it has applied alone, if at all. Source:
/// etcd `server/etcdserver/api/v3rpc/interceptor.go`.
pub(crate) fn is_for_learners(path: &str) -> bool {
    matches!(
        path,
        "/etcdserverpb.KV/Range"
            | "/etcdserverpb.Maintenance/Status"
            | "/etcdserverpb.Maintenance/Snapshot"
            | "/meshstore.upgrade.v1.Upgrade/Versions"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROTOS: [&str; 4] = [
        include_str!("../../../proto/proto/etcd/rpc.proto"),
        include_str!("../../../proto/proto/etcd/lock.proto"),
        include_str!("../../../proto/proto/etcd/election.proto"),
        include_str!("../../../proto/proto/meshstore/upgrade.proto"),
    ];

    /// `/package.Service/Method` of each method that a `.proto` file declares.
    fn methods(proto: &str) -> Vec<String> {
        let (mut package, mut service, mut methods) = ("", "", Vec::new());
        for line in proto.lines() {
            let word = |prefix| {
                line.trim_start().strip_prefix(prefix).and_then(|rest: &str| rest.split([';', ' ', '(']).next())
            };
            package = word("package ").unwrap_or(package);
            service = word("service ").unwrap_or(service);
            methods.extend(word("rpc ").map(|method| format!("/{package}.{service}/{method}")));
        }
        methods
    }

    #[test]
    fn every_method_for_clients_has_a_rule_and_nothing_else_has() {
        let mut declared: Vec<String> = PROTOS.into_iter().flat_map(methods).collect();
        declared.sort();
        assert!(declared.len() > 40);
        for method in &declared {
            assert!(RULES.iter().any(|(known, _)| known == method), "{method} has no rule");
        }
        assert_eq!(RULES.iter().map(|(method, _)| *method).collect::<Vec<_>>(), declared);
    }

    #[test]
    fn what_is_unknown_is_for_administrators() {
        assert_eq!(of("/etcdserverpb.KV/Range"), Keys);
        for path in
            ["/etcdserverpb.KV/Rang", "/etcdserverpb.KV/RangeStreams", "/grpc.reflection.v1.Server/Info", "", "/"]
        {
            assert_eq!(of(path), Root, "{path}");
        }
    }
}
