//! Members of different releases, and what a later one has written.

use bytes::Bytes;
use types::Release;

use super::{
    Disk,
    cluster::{Cluster, in_time, node},
    command, config,
    journal::{Journal, version},
};
use crate::{Config, Formation, MemberId, Raft, RaftError, SPACES, codec};

const FIRST: Release = Release::FIRST;
const THIS: Release = Release::THIS;

/// A release of which this program only knows that it will come.
fn later() -> Release {
    Release::from_number(THIS.number() + 1)
}

/// Starts members, each of its release.
async fn cluster_of(releases: &[Release]) -> Cluster {
    let mut cluster = Cluster::found(0).await;
    cluster.founders = (1..=releases.len() as u64).collect();
    for (member, release) in (1..).zip(releases) {
        cluster.config.release = *release;
        cluster.start(member).await;
    }
    cluster.leader().await;
    cluster.greeted().await;
    cluster
}

async fn fatal(raft: &Raft<Journal>) -> RaftError {
    in_time("error that stops the member", raft.fatal()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn members_know_which_release_each_other_runs() {
    let cluster = cluster_of(&[FIRST, THIS, THIS]).await;
    for (member, others) in [(1, [(2, THIS), (3, THIS)]), (2, [(1, FIRST), (3, THIS)]), (3, [(1, FIRST), (2, THIS)])] {
        let known = cluster.raft(member).progress().into_iter().map(|other| (other.member.0, other.release));
        assert!(known.eq(others.map(|(other, release)| (other, Some(release)))), "member {member}");
    }
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_version_comes_with_the_log_and_who_is_older_is_refused_and_stops() {
    let mut cluster = cluster_of(&[THIS, THIS, THIS]).await;
    let follower = cluster.follower().await;
    cluster.raft(follower).propose(version(THIS)).await.unwrap();
    cluster
        .until("the version everywhere", || {
            cluster.members.values().all(|member| member.raft.version() == Some(THIS)).then_some(())
        })
        .await;

    cluster.stop(follower).await.unwrap();
    cluster.config.release = FIRST;
    // Its own state says so.
    let refused = cluster.try_start(follower, Formation::Join).await.unwrap_err();
    assert!(
        matches!(refused, RaftError::TooOld { release, version } if (release, version) == (FIRST, THIS)),
        "{refused}"
    );
    // A newcomer hears it from the others.
    cluster.raft(cluster.leader().await).add_learner(MemberId(4), node(4)).await.unwrap();
    cluster.start(4).await;
    let error = fatal(&cluster.raft(4)).await;
    assert!(matches!(error, RaftError::TooOld { release: FIRST, version: THIS }), "{error}");
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_too_new_for_the_leaders_version_stops() {
    let mut cluster = cluster_of(&[FIRST, FIRST, FIRST]).await;
    let follower = cluster.follower().await;
    cluster.stop(follower).await.unwrap();
    cluster.config.release = later();
    // It hears of the version once it serves, or in the middle of its start.
    let formation = cluster.founding();
    let error = match cluster.try_start(follower, formation).await {
        Ok(()) => fatal(&cluster.raft(follower)).await,
        Err(refused) => refused,
    };
    assert!(matches!(error, RaftError::TooNew { version: FIRST, .. }), "{error}");
    assert!(error.to_string().contains(&format!("bring all members to {THIS} first")), "{error}");
    cluster.end().await;
}

fn in_a_later_format(mut record: Vec<u8>) -> Bytes {
    record.truncate(record.len() - size_of::<u32>());
    record[0] = codec::FORMAT + 1;
    let checksum = crc32fast::hash(&record);
    record.extend(checksum.to_be_bytes());
    record.into()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_in_a_later_format_is_told_from_damage() {
    let disk = Disk::in_memory();
    let raft = disk.start(config()).await.unwrap();
    raft.propose(command(1)).await.unwrap();
    raft.shutdown().await.unwrap();
    let [entries, meta] = [SPACES[0], SPACES[1]];
    for (space, key, name) in [(entries, &1_u64.to_be_bytes()[..], "entry 1"), (meta, b"vote", "vote")] {
        let good = disk.log.get(space, key).unwrap().unwrap();
        let put = |record| {
            let mut batch = engine::Batch::new();
            batch.put(space, Bytes::copy_from_slice(key), record);
            disk.log.write(batch, engine::Durability::Synced).unwrap();
        };
        put(in_a_later_format(good.to_vec()));
        let error = disk.start(config()).await.map(drop).unwrap_err();
        assert!(matches!(&error, RaftError::Later { what, .. } if what == name), "{error}");
        assert!(error.to_string().contains("start this member with the release that the others run"), "{error}");
        put(good);
    }
    disk.start(config()).await.unwrap().shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_entry_in_a_later_format_stops_who_is_sent_it() {
    use proto::peer::{AppendRequest, Header, LogId, Vote, peer_client::PeerClient};
    let cluster = cluster_of(&[THIS, THIS]).await;
    let leader = cluster.leader().await;
    let follower = if leader == 1 { 2 } else { 1 };
    let status = cluster.raft(leader).status();
    let entry = crate::types::Entry {
        log_id: crate::types::log_id(status.term, status.log_index + 1),
        payload: openraft::EntryPayload::Blank,
    };
    let known = cluster.raft(leader).known();
    let (incarnation, starts) = known
        .iter()
        .find(|(member, _)| *member == leader)
        .map(|(_, known)| (known.disk.incarnation, known.disk.starts))
        .unwrap();
    let request = AppendRequest {
        header: Some(Header {
            cluster: cluster.config.cluster.0,
            sender: leader,
            sender_incarnation: incarnation,
            sender_starts: starts,
            addressee: follower,
            addressee_incarnation: 0,
            sender_release: THIS.number(),
            ..Header::default()
        }),
        vote: Some(Vote { term: status.term, member: leader, committed: true }),
        previous: Some(LogId { term: status.term, index: status.log_index }),
        committed: None,
        entries: vec![in_a_later_format(codec::encode_entry(&entry).to_vec())],
    };
    let dialer = cluster.net.dialer(&Config { member: MemberId(leader), ..cluster.config.clone() });
    let channel = dialer.dial(MemberId(follower), &crate::Node::default(), crate::Lane::Beat).unwrap();
    PeerClient::new(channel).beat(request).await.unwrap_err();
    let error = fatal(&cluster.raft(follower)).await;
    assert!(matches!(&error, RaftError::Later { what, .. } if what == "the leader's entry"), "{error}");
    cluster.end().await;
}
