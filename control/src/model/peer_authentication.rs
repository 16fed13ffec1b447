//! Istio's `PeerAuthentication`.

use std::collections::BTreeMap;

use super::field::{choice, message};

message! {
    /// Whether workloads accept plain text.
    PeerAuthentication {
        /// Unset means the whole namespace, or the whole mesh in the root namespace.
        selector: Option<MatchLabels>,
        mtls: Option<MutualTls>,
        /// By the port that the workload listens on.
        port_level_mtls: BTreeMap<u32, MutualTls>,
    }
}

message! {
    MatchLabels {
        match_labels: BTreeMap<String, String>,
    }
}

message! {
    MutualTls {
        mode: MutualTlsMode,
    }
}

choice! {
    /// `Unset` inherits from the wider scope.
    MutualTlsMode { Unset = "UNSET", Disable = "DISABLE", Permissive = "PERMISSIVE", Strict = "STRICT", }
}
