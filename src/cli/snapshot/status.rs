//! `snapshot status`: what is in a file.

use super::no_snapshot;
use crate::cli::{
    connection::Flags,
    failure::{Exit, Failure},
    output::{Format, size, table},
};
use server::SnapshotStatus;
use std::{
    io::{self, Write},
    path::PathBuf,
};

/// Prints hash, revision, keys, size and storage version of a file; reads all of it.
///
/// Keys are those that are alive at that revision, as etcdutl counts them since 3.6; 3.5 counts every entry of the file.
/// The version is the oldest etcd that reads the file; files of etcd 3.5 do not tell it.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  meshstore snapshot status backup.db -w table")]
pub(crate) struct Args {
    /// The file, ours or etcd's
    file: PathBuf,
    /// Output format [env: `ETCDCTL_WRITE_OUT`] [default: simple]
    #[arg(short = 'w', long, value_enum)]
    write_out: Option<Format>,
}

impl Args {
    pub(super) async fn run(self, before: &Flags) -> Result<(), Failure> {
        let named = std::env::var("ETCDCTL_WRITE_OUT").ok().map(|name| Format::named(&name)).transpose();
        let named = named.map_err(|error| Failure::bad_args(format!("ETCDCTL_WRITE_OUT: {error}")))?;
        let format = self.write_out.or(before.write_out).or(named).unwrap_or_default();
        let reading = tokio::task::spawn_blocking(move || {
            server::snapshot_status(&self.file).map_err(|error| no_snapshot(&self.file, error))
        });
        let status = reading.await.map_err(|error| Failure::new(Exit::Error, error.to_string()))??;
        Ok(print(&status, format, &mut io::stdout().lock())?)
    }
}

fn print(status: &SnapshotStatus, format: Format, out: &mut dyn Write) -> io::Result<()> {
    let SnapshotStatus { hash, revision, total_keys, total_bytes, version } = status;
    match format {
        Format::Simple => {
            // As etcdutl 3.5 prints it: no empty last column.
            let columns = columns(status);
            let told = if version.is_empty() { &columns[..4] } else { &columns[..] };
            writeln!(out, "{}", told.join(", "))
        }
        Format::Table => table::bordered(
            &["HASH", "REVISION", "TOTAL KEYS", "TOTAL SIZE", "VERSION"],
            &[columns(status).to_vec()],
            out,
        ),
        Format::Json => {
            let object = serde_json::json!({
                "hash": hash, "revision": revision, "totalKey": total_keys, "totalSize": total_bytes, "version": version,
            });
            writeln!(out, "{object}")
        }
        Format::Fields => {
            writeln!(out, "\"Hash\" : {hash}\n\"Revision\" : {revision}\n\"Keys\" : {total_keys}")?;
            writeln!(out, "\"Size\" : {total_bytes}\n\"Version\" : {version}")
        }
    }
}

fn columns(status: &SnapshotStatus) -> [String; 5] {
    let SnapshotStatus { hash, revision, total_keys, total_bytes, version } = status;
    let bytes = i64::try_from(*total_bytes).unwrap_or(i64::MAX);
    [format!("{hash:x}"), revision.to_string(), total_keys.to_string(), size(bytes), version.clone()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_printed_as_etcdutl_prints_it() {
        let version = "3.6.0".to_owned();
        let status = SnapshotStatus { hash: 0xFE01_CF57, revision: 10, total_keys: 7, total_bytes: 20_480, version };
        let cases = [
            (Format::Simple, "fe01cf57, 10, 7, 20 kB, 3.6.0\n"),
            (
                Format::Json,
                "{\"hash\":4261531479,\"revision\":10,\"totalKey\":7,\"totalSize\":20480,\"version\":\"3.6.0\"}\n",
            ),
            (
                Format::Fields,
                "\"Hash\" : 4261531479\n\"Revision\" : 10\n\"Keys\" : 7\n\"Size\" : 20480\n\"Version\" : 3.6.0\n",
            ),
        ];
        for (format, expected) in cases {
            let mut out = Vec::new();
            print(&status, format, &mut out).unwrap();
            assert_eq!(String::from_utf8_lossy(&out), expected);
        }
        let (mut out, of_35) = (Vec::new(), SnapshotStatus { version: String::new(), ..status });
        print(&of_35, Format::Simple, &mut out).unwrap();
        assert_eq!(String::from_utf8_lossy(&out), "fe01cf57, 10, 7, 20 kB\n");
    }
}
