//! `snapshot`: all of a member's state as one file, and back. The file is etcd's own: `etcdutl` takes it, and what etcd
//! has saved is taken here.

mod bar;
mod export;
mod restore;
mod save;
mod status;

use super::{connection::Flags, failed, failure::Failure, in_session};

/// Everything that a member has, as a file, and back; for etcd's files too.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Snapshot {
    Save(save::SaveArgs),
    Status(status::Args),
    #[command(visible_alias = "import")]
    Restore(restore::Args),
    Export(export::Args),
}

impl Snapshot {
    /// `before`: the flags that stand before the verb.
    pub(crate) async fn run(self, before: Flags) -> Result<(), Failure> {
        match self {
            Self::Save(arguments) => in_session(arguments, before).await,
            Self::Status(arguments) => arguments.run(&before).await,
            Self::Restore(arguments) => arguments.run().await,
            Self::Export(arguments) => arguments.run(before).await,
        }
    }
}

/// Why there is no snapshot, and what to do about it.
fn no_snapshot(error: ::server::SnapshotError) -> Failure {
    use ::server::SnapshotError::{Busy, DigestDiffers, MountPoint, NoDigest, NotEmpty};
    let next = match &error {
        NoDigest => Some("to take a file that was copied from a data directory, give --skip-hash-check"),
        DigestDiffers => Some("save it again, or give --skip-hash-check to restore what can be read"),
        NotEmpty(_) => Some("name another one by --data-dir, or move it away"),
        MountPoint(_) => Some("name a folder in it"),
        Busy(_) => Some("wait for it to end"),
        _ => None,
    };
    Failure { next: next.map(str::to_owned), ..failed(error.into()) }
}
