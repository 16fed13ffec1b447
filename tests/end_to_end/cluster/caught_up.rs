//! A member that was away for longer than the log goes back takes over the whole state, however often it is killed
//! meanwhile.

use std::{fs, path::Path};

use client::Put;
use types::Revision;

use crate::harness::{Cluster, eventually, peer_certificates};

const KEYS: usize = 4 << 10;
const VALUE_BYTES: usize = 32 << 10;
/// Of noise, so that it does not shrink on the way.
const STATE_BYTES: u64 = (KEYS * VALUE_BYTES) as u64;
/// So many times the image is cut short by the death of who takes it.
const DEATHS: usize = 3;

/// Bytes that came of an image that is not whole yet.
fn incoming_bytes(data: &Path) -> u64 {
    let Ok(images) = fs::read_dir(data.join("state/incoming")) else { return 0 };
    let files = images.flatten().filter_map(|image| fs::read_dir(image.path()).ok()).flatten().flatten();
    files.filter_map(|file| file.metadata().ok()).map(|metadata| metadata.len()).sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn who_was_away_for_long_takes_over_the_state_though_it_is_killed_meanwhile() {
    let folder = tempfile::tempdir().unwrap();
    let short = ["--snapshot-count=200".to_owned(), "--snapshot-catchup-entries=100".to_owned()];
    let flags = [peer_certificates(folder.path()), short.to_vec()].concat();
    let mut cluster = Cluster::formed(&["a", "b", "c"], &flags).await;
    cluster.voters(3).await;
    let away = 2;
    cluster.kill(away);
    let client = cluster.client();
    let mut revision = Revision::FIRST;
    for key in 0..KEYS {
        let mut value = vec![0; VALUE_BYTES];
        rand::fill(&mut value[..]);
        revision = client.put(Put::new(format!("key/{key:06}"), value)).await.unwrap().revision;
    }
    let data = cluster.member(away).data.clone();
    let mut kept = 0;
    for death in 0..DEATHS {
        cluster.spawn(away);
        let more = || async { Some(incoming_bytes(&data)).filter(|bytes| *bytes > kept) };
        kept = eventually(&format!("more of the image than {kept} bytes"), more).await;
        cluster.kill(away);
        let left = incoming_bytes(&data);
        assert!(left >= kept, "{left} of {kept} bytes were kept after death {death}");
        kept = left;
    }
    assert!(kept < STATE_BYTES, "the image was whole before the last death: {kept} bytes");
    cluster.start(away).await;
    let same = || async {
        let mut hashes = Vec::new();
        for at in 0..3 {
            hashes.push(cluster.client_of(at).hash_kv(Some(revision)).await.ok()?.hash);
        }
        Some(hashes).filter(|hashes| hashes.iter().all(|hash| *hash == hashes[0]))
    };
    eventually("equal hashes", same).await;
    let log = cluster.member_mut(away).process().unwrap().log();
    assert!(log.contains("took over another member's state"), "{log}");
}
