//! `snapshot save`: a member's snapshot, to a file.

use crate::cli::{
    KeyVerb, Session,
    connection::Flags,
    failure::{Exit, Failure},
};
use std::{
    ffi::OsString,
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

/// Saves everything that a member has to a file.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  meshstore snapshot save backup.db --endpoints 10.0.0.1:2379")]
pub(crate) struct SaveArgs {
    /// Where it is written; FILE.part until it is complete
    pub(super) file: PathBuf,
    #[command(flatten)]
    pub(super) flags: Flags,
}

impl KeyVerb for SaveArgs {
    fn flags(&self) -> &Flags {
        &self.flags
    }

    async fn run(self, session: Session) -> Result<(), Failure> {
        if session.connection.endpoints.len() != 1 {
            let failure = Failure::bad_args("snapshot must be requested to one selected node, not multiple");
            return Err(failure.next("name one by --endpoints"));
        }
        let part = with_suffix(&self.file, ".part");
        let opened = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&part);
        let mut file = opened
            .map_err(|error| Failure::new(Exit::Interrupted, format!("could not open {} ({error})", part.display())))?;
        if let Err(failure) = receive(&session, &mut file).await {
            // What was received is of no use; that it stays is no second failure.
            let _ = fs::remove_file(&part);
            return Err(failure);
        }
        fs::rename(&part, &self.file)?;
        sync_folder(&self.file)?;
        Ok(writeln!(io::stdout(), "Snapshot saved at {}", self.file.display())?)
    }
}

async fn receive(session: &Session, file: &mut File) -> Result<(), Failure> {
    let mut snapshot = session.client()?.snapshot().await?;
    while let Some(bytes) = snapshot.next().await? {
        file.write_all(&bytes)?;
    }
    Ok(file.sync_all()?)
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name: OsString = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// A name is on stable storage once its folder is.
fn sync_folder(path: &Path) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder)?.sync_all()
}
