//! A disk that is full.

use std::{fs::File, io::Write, path::Path};

use client::{AlarmKind, Client, Config, Get, Put};

use crate::{
    harness::{Server, eventually},
    history::Outcome,
    run::Run,
    volume::Volume,
};

const DISK_BYTES: u64 = 400 << 20;

/// Writes zeros until `left` bytes are free.
fn fill(folder: &Path, left: u64) {
    let free = || {
        let disk = rustix::fs::statvfs(folder).unwrap();
        disk.f_bavail * disk.f_frsize
    };
    let mut file = File::options().create(true).append(true).open(folder.join("filler")).unwrap();
    let piece = vec![0; 1 << 20];
    while free() > left {
        let bytes = (free() - left).min(piece.len() as u64);
        if file.write_all(&piece[..usize::try_from(bytes).unwrap()]).is_err() {
            return;
        }
    }
}

/// With only the reserve left, the whole cluster refuses what may grow, and everybody still reads; with nothing left, the
/// member goes on so or stops, and the others still read. Nothing is lost either way.
#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_stops_growth_and_loses_nothing() {
    let Some(volume) = Volume::small(DISK_BYTES) else { return };
    let mut run = Run::start_on("a_full_disk_stops_growth_and_loses_nothing", &[volume.path()]).await;
    let filler = volume.path().join("filler");

    fill(&volume.path(), DISK_BYTES / 20);
    let refused = || async {
        match run.put(1).await {
            Outcome::Failed(text) if text.contains("database space exceeded") => Some(()),
            _ => None,
        }
    };
    eventually("a put is refused for want of space", refused).await;
    for at in run.members() {
        run.client_of(at).get(Get::prefix("k")).await.unwrap();
    }
    std::fs::remove_file(&filler).unwrap();
    disarm(&run).await;
    run.serves("when there is room again").await;

    // What has been set aside for the log may still take some writes.
    fill(&volume.path(), 0);
    for _ in 0..50 {
        run.put(1).await;
    }
    let stopped = run.has_ended(0);
    if stopped {
        let (_, log) = run.ended(0).await;
        assert!(log.contains("No space left on device"), "{log}");
    }
    run.client_of(1).get(Get::prefix("k")).await.unwrap();
    std::fs::remove_file(&filler).unwrap();
    if stopped {
        run.spawn(0);
    }
    disarm(&run).await;
    run.finish().await;
}

/// The log has a disk of its own, and it is that one which is full.
#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_of_the_log_alone_stops_growth_too() {
    let Some(volume) = Volume::small(DISK_BYTES) else { return };
    let server = Server::start_with(&[&format!("--wal-dir={}", volume.path().display())]).await;
    let client = Client::connect(&Config::new([server.endpoint()])).unwrap();
    let put = || async { client.put(Put::new("k", "1")).await };
    eventually("a put", || async { put().await.ok() }).await;
    fill(&volume.path(), DISK_BYTES / 20);
    let refused = || async {
        let error = put().await.err()?.to_string();
        error.contains("database space exceeded").then_some(())
    };
    eventually("a put is refused for want of space", refused).await;
    assert_eq!(client.get(Get::key("k")).await.unwrap().kvs.len(), 1);
    std::fs::remove_file(volume.path().join("filler")).unwrap();
    let taken = || async {
        for alarm in client.alarms().await.ok()?.alarms {
            client.alarm_disarm(alarm).await.ok()?;
        }
        put().await.ok()
    };
    eventually("a put is taken when there is room again", taken).await;
}

/// Ends the alarm until a put is taken. It comes back if the member has not looked at its disk since there was room.
async fn disarm(run: &Run) {
    let client = run.client();
    let disarmed = || async {
        for alarm in client.alarms().await.ok()?.alarms {
            assert_eq!(alarm.kind, AlarmKind::NoSpace);
            client.alarm_disarm(alarm).await.ok()?;
        }
        matches!(run.put(1).await, Outcome::Answered(_)).then_some(())
    };
    eventually("a put is taken when the alarm is disarmed", disarmed).await;
}
