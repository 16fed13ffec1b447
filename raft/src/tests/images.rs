//! A member that is far behind gets the state as an image.

use std::{sync::atomic::Ordering, time::Duration};

use bytes::Bytes;
use openraft::async_runtime::watch::WatchReceiver;

use super::{
    cluster::{Cluster, in_time, node},
    command,
};
use crate::{Config, MemberId};

/// Purges nearly everything, and sends images in small chunks.
fn forgetting(config: Config) -> Config {
    Config {
        snapshot_every_entries: 20,
        catch_up_entries: 5,
        entry_commands_max: 1,
        image_chunk_bytes: 1_000,
        ..config
    }
}

fn long(number: usize) -> Bytes {
    let mut command = command(number).to_vec();
    command.resize(500, b'.');
    command.into()
}

async fn fill(cluster: &Cluster, numbers: std::ops::Range<usize>) {
    for number in numbers {
        in_time("answer", cluster.raft(cluster.leader().await).propose(long(number))).await.unwrap();
    }
}

/// No running member has the entry of this index in its log any more. A purge waits while a leader tries to send it.
async fn forgotten(cluster: &Cluster, index: u64) {
    let purged = |member: &u64| cluster.raft(*member).openraft().metrics().borrow_watched().purged;
    let all = || cluster.members.keys().all(|member| purged(member).is_some_and(|purged| purged.index >= index));
    cluster.until("purge", || all().then_some(())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_member_gets_an_image_of_what_the_log_has_no_more() {
    let mut cluster = Cluster::found_with(3, forgetting).await;
    fill(&cluster, 0..100).await;
    cluster.raft(1).add_learner(MemberId(4), node(4)).await.unwrap();
    cluster.start(4).await;
    let journal = cluster.agreed(&[1, 2, 3, 4], 100).await;
    assert_eq!(journal, (0..100).map(long).collect::<Vec<_>>());
    assert!(cluster.disks[&4].collections.written.load(Ordering::Relaxed) > 0, "it came by the log");

    fill(&cluster, 100..110).await;
    cluster.agreed(&[1, 2, 3, 4], 110).await;
    // The state that it was given is as good as any, after a restart too.
    cluster.stop(4).await.unwrap();
    fill(&cluster, 110..115).await;
    cluster.start(4).await;
    cluster.agreed(&[1, 2, 3, 4], 115).await;
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_member_gets_an_image_of_what_the_log_was_told_to_forget() {
    let mut cluster = Cluster::found_with(1, |config| config).await;
    fill(&cluster, 0..10).await;
    cluster.raft(1).forget_log().await.unwrap();
    cluster.raft(1).add_learner(MemberId(2), node(2)).await.unwrap();
    cluster.start(2).await;
    let journal = cluster.agreed(&[1, 2], 10).await;
    assert_eq!(journal, (0..10).map(long).collect::<Vec<_>>());
    assert!(cluster.disks[&2].collections.written.load(Ordering::Relaxed) > 0, "it came by the log");
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_to_be_forgotten_right_after_the_start_is_forgotten() {
    for _ in 0..50 {
        let cluster = Cluster::found(1).await;
        cluster.raft(1).forget_log().await.unwrap();
        assert!(cluster.raft(1).openraft().metrics().borrow_watched().purged.is_some());
        cluster.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_was_away_long_gets_an_image_and_goes_on() {
    let mut cluster = Cluster::found_with(3, forgetting).await;
    fill(&cluster, 0..10).await;
    let away = cluster.follower().await;
    cluster.stop(away).await.unwrap();
    fill(&cluster, 10..120).await;
    forgotten(&cluster, 20).await;
    cluster.start(away).await;
    cluster.agreed(&[1, 2, 3], 120).await;
    assert!(cluster.disks[&away].collections.written.load(Ordering::Relaxed) > 0, "it came by the log");
    in_time("answer", cluster.raft(away).propose(long(120))).await.unwrap();
    cluster.agreed(&[1, 2, 3], 121).await;
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interrupted_image_goes_on_where_it_stopped() {
    let mut cluster = Cluster::found_with(3, forgetting).await;
    fill(&cluster, 0..200).await;
    // 100 kB, of which each connection carries a third; meanwhile the log goes on.
    cluster.net.break_bulk_after(Some(33_000));
    cluster.net.delay(Duration::from_millis(1));
    cluster.raft(1).add_learner(MemberId(4), node(4)).await.unwrap();
    cluster.start(4).await;
    fill(&cluster, 200..220).await;
    cluster.agreed(&[1, 2, 3, 4], 220).await;
    let written = cluster.disks[&4].collections.written.load(Ordering::Relaxed);
    assert!((100_000..200_000).contains(&written), "{written} bytes were sent");
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_ends_in_the_middle_of_an_image_gets_the_rest() {
    let mut cluster =
        Cluster::found_with(3, |config| Config { image_bytes_per_second: 100_000, ..forgetting(config) }).await;
    fill(&cluster, 0..200).await;
    cluster.raft(1).add_learner(MemberId(4), node(4)).await.unwrap();
    cluster.start(4).await;
    let written = cluster.disks[&4].collections.written.clone();
    cluster.until("the start of an image", || (written.load(Ordering::Relaxed) > 10_000).then_some(())).await;
    cluster.stop(4).await.unwrap();
    let before = written.load(Ordering::Relaxed);
    cluster.start(4).await;
    cluster.agreed(&[1, 2, 3, 4], 200).await;
    assert!(written.load(Ordering::Relaxed) < before + 105_000, "it began anew");
    cluster.end().await;
}
