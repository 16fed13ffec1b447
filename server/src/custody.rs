//! Where a data directory keeps the keys of authorities, sealed, and the key that unseals them.

use std::path::Path;

use ca::Custody;

/// The file of the key-encryption key.
const KEK: &str = "authority.kek";

/// The authority of the mesh's workloads.
pub fn workload_custody(data_dir: &Path) -> Custody {
    Custody::new(data_dir.join("authority"), data_dir.join(KEK))
}

/// The authority of the cluster's members.
pub fn member_custody(data_dir: &Path) -> Custody {
    Custody::new(data_dir.join("members"), data_dir.join(KEK))
}
