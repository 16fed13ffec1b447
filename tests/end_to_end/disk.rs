//! Disks that fail, and a disk for the log alone.

use std::{
    fs,
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use client::{Client, Config, Get, Put};

use crate::harness::{Ability, MESHSTORE, Server, eventually, free_port, pass_over};

/// Makes every sync of a process fail from now on, until this is dropped.
struct FailingSyncs(Child);

impl FailingSyncs {
    /// `None` where the machine has no strace, or does not let it attach, which is said.
    async fn of(process: u32) -> Option<Self> {
        let mut command = Command::new("strace");
        command.args(["-f", "-q", "-e", "trace=fdatasync,fsync,sync_file_range"]);
        command.args(["-e", "inject=fdatasync,fsync:error=EIO", "-p", &process.to_string()]);
        match command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn() {
            Ok(child) => {
                let tracing = Self(child);
                let traced = || async { is_traced(process).then_some(()) };
                let mut attached = Box::pin(eventually("strace attaches", traced));
                let waited = tokio::time::timeout(Duration::from_secs(10), &mut attached).await;
                if waited.is_err() {
                    pass_over(Ability::STRACE, "it cannot attach to a process here");
                }
                waited.is_ok().then_some(tracing)
            }
            Err(error) => {
                pass_over(Ability::STRACE, &format!("{error}; `scripts/setup.sh test` installs it"));
                None
            }
        }
    }
}

impl Drop for FailingSyncs {
    fn drop(&mut self) {
        // Both fail only if it is gone already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Whether all threads of a process are traced.
fn is_traced(process: u32) -> bool {
    let Ok(threads) = fs::read_dir(format!("/proc/{process}/task")) else { return false };
    threads.flatten().all(|thread| {
        let status = fs::read_to_string(thread.path().join("status")).unwrap_or_default();
        status.lines().any(|line| line.strip_prefix("TracerPid:").is_some_and(|tracer| tracer.trim() != "0"))
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sync_that_fails_stops_the_member_and_loses_nothing_acknowledged() {
    let mut server = Server::start().await;
    let client = Client::connect(&Config::new([server.endpoint()])).unwrap();
    let mut acknowledged = 0;
    for number in 0..200 {
        client.put(Put::new(format!("k{number:04}"), number.to_string())).await.unwrap();
        acknowledged = number;
    }
    let Some(failing) = FailingSyncs::of(server.id()).await else { return };
    for number in 200..400 {
        if client.put(Put::new(format!("k{number:04}"), number.to_string())).await.is_err() {
            break;
        }
        acknowledged = number;
    }
    assert_eq!(acknowledged, 199, "nothing is acknowledged that no sync has brought to the disk");
    let code = server.exit_code().await;
    assert!(code.is_some_and(|code| code != 0), "it stops by itself, and says that it failed: {code:?}");
    let log = server.log();
    assert!(log.contains("storage failed") && log.contains("Input/output error"), "{log}");
    drop(failing);

    server.crash_and_restart().await;
    let client = Client::connect(&Config::new([server.endpoint()])).unwrap();
    let read = || async { client.get(Get::prefix("k")).await.ok() };
    let stored = eventually("an answer after the restart", read).await;
    let keys: Vec<_> = stored.kvs.iter().map(|kv| String::from_utf8_lossy(&kv.key).into_owned()).collect();
    for number in 0..200 {
        assert!(keys.contains(&format!("k{number:04}")), "k{number:04}");
    }
}

/// Why a server does not start on a data directory, with these flags.
async fn refusal(data: &Path, flags: &[&str]) -> String {
    let url = format!("http://{}", free_port());
    let mut server = tokio::process::Command::new(MESHSTORE);
    server.args(["server", "--listen-client-urls", &url, "--listen-mesh-addr", &free_port().to_string()]);
    let output = server.arg("--data-dir").arg(data).args(flags).kill_on_drop(true).output().await.unwrap();
    assert!(!output.status.success());
    String::from_utf8(output.stderr).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_is_where_it_was_put_and_nowhere_else() {
    let folder = tempfile::tempdir().unwrap();
    let [wal, away, other] = ["wal", "away", "other"].map(|name| folder.path().join(name));
    let (wal_dir, other_dir) = (format!("--wal-dir={}", wal.display()), format!("--wal-dir={}", other.display()));
    let mut server = Server::start_with(&[&wal_dir]).await;
    let put = async |server: &Server, key: &str| {
        let client = Client::connect(&Config::new([server.endpoint()])).unwrap();
        eventually("a put", || async { client.put(Put::new(key.to_owned(), "1")).await.ok() }).await;
    };
    let has = async |server: &Server, keys: &[&str]| {
        let client = Client::connect(&Config::new([server.endpoint()])).unwrap();
        let found = eventually("a read", || async { client.get(Get::prefix("k")).await.ok() }).await;
        let found: Vec<_> = found.kvs.iter().map(|kv| String::from_utf8_lossy(&kv.key).into_owned()).collect();
        assert_eq!(found, keys);
    };
    put(&server, "k1").await;
    let (data, journals) = (server.file(""), || {
        let files = fs::read_dir(&wal).unwrap().map(|file| file.unwrap().path());
        files.filter(|file| file.extension().is_some_and(|extension| extension == "journal")).count()
    });
    assert!(journals() > 0 && fs::read_link(data.join("log")).unwrap() == fs::canonicalize(&wal).unwrap());
    let said = refusal(&folder.path().join("another"), &[&wal_dir]).await;
    assert!(said.contains("is not empty") && said.contains("--wal-dir"), "{said}");
    server.crash_and_restart().await;
    has(&server, &["k1"]).await;
    put(&server, "k2").await;
    server.kill();

    let said = refusal(&data, &[&other_dir]).await;
    assert!(said.contains("the log is in") && said.contains("wal"), "{said}");
    // A disk that is not mounted, with its mount point and without.
    fs::rename(&wal, &away).unwrap();
    for flags in [&[wal_dir.as_str()][..], &[], &[other_dir.as_str()]] {
        let said = refusal(&data, flags).await;
        assert!(said.contains("there is no log in"), "{said}");
    }
    fs::create_dir(&wal).unwrap();
    for flags in [&[wal_dir.as_str()][..], &[]] {
        let said = refusal(&data, flags).await;
        assert!(said.contains("there is no log in"), "{said}");
    }
    fs::remove_dir_all(&wal).unwrap();
    fs::rename(&away, &wal).unwrap();
    server.crash_and_restart().await;
    has(&server, &["k1", "k2"]).await;
}
