//! `snapshot`: all of a member's state as one file, and back. The file is etcd's own: `etcdutl` takes it, and what etcd
//! has saved is taken here.

mod bar;
mod export;
mod restore;
mod save;
mod status;

use std::path::Path;

use ::server::SnapshotError;

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

/// Why there is no snapshot, or no data directory of `file`, and what to do about it.
fn no_snapshot(file: &Path, error: SnapshotError) -> Failure {
    use SnapshotError::{Busy, DigestDiffers, Entry, File, LaterRelease, Load, MountPoint, Newer, NoDigest, NotEmpty};
    let next = match &error {
        NoDigest => Some("to take a file that was copied from a data directory, give --skip-hash-check"),
        DigestDiffers => Some("save it again, or give --skip-hash-check to restore what can be read"),
        NotEmpty(_) => Some("name another one by --data-dir, or move it away"),
        MountPoint(_) => Some("name a folder in it"),
        Busy(_) => Some("wait for it to end"),
        _ => None,
    };
    let is_its_own =
        matches!(error, File(_) | NoDigest | DigestDiffers | Entry { .. } | Newer(_) | LaterRelease { .. } | Load(_));
    let failure = failed(error.into());
    let text = if is_its_own { format!("{}: {}", file.display(), failure.text) } else { failure.text };
    Failure { text, next: next.map(str::to_owned), exit: failure.exit }
}
