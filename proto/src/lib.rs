//! Generated wire types, and nothing else.
//!
//! Owns: the `.proto` files under `proto/` and the code that `tests/generated.rs` makes of them;
//! Envoy's own types come from the `envoy-types` crate and pass through here.
//!
//! - `src/gen` is never edited by hand, and a test proves that it is what the `.proto` files say.
//! - A wire type stops at the first line of its handler; inside, the code speaks `types`.

/// Envoy's API v3, as published: `envoy::config::route::v3::RouteConfiguration` and the like.
pub use envoy_types::pb::envoy;
/// Google's well-known types and `google.rpc.Status`, as Envoy's messages use them.
pub use envoy_types::pb::google;

/// The `FileDescriptorSet` of etcd's services and messages, for those who meet them by name: the JSON gateway.
pub const ETCD_DESCRIPTORS: &[u8] = include_bytes!("gen/etcd.binpb");

macro_rules! generated {
    ($(#[$doc:meta])* $name:ident = $file:literal) => {
        $(#[$doc])*
        #[allow(
            missing_docs,
            unused_qualifications,
            clippy::pedantic,
            reason = "generated: the .proto file documents it, and which lints apply differs by file"
        )]
        pub mod $name {
            include!(concat!("gen/", $file));
        }
    };
}

generated!(
    /// etcd's key-value records.
    mvccpb = "mvccpb.rs"
);
generated!(
    /// etcd's users, roles and permissions.
    authpb = "authpb.rs"
);
generated!(
    /// etcd's lock service.
    v3lockpb = "v3lockpb.rs"
);
generated!(
    /// etcd's election service.
    v3electionpb = "v3electionpb.rs"
);
generated!(
    /// etcd's RPCs.
    etcdserverpb = "etcdserverpb.rs"
);
generated!(
    /// Istio's CSR API.
    istio_ca = "istio.v1.auth.rs"
);
generated!(
    /// Administration of the issuing authority.
    ca = "meshstore.ca.v1.rs"
);
generated!(
    /// The mesh API.
    mesh = "meshstore.mesh.v1.rs"
);
generated!(
    /// What members say to each other.
    peer = "meshstore.peer.v1.rs"
);
generated!(
    /// How a cluster grows, and what its members ask one another beside the log.
    member = "meshstore.member.v1.rs"
);
generated!(
    /// Which releases the members run.
    upgrade = "meshstore.upgrade.v1.rs"
);
