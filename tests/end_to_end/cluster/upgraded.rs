//! A cluster goes from one release to the next, member by member, and is written to meanwhile.
//!
//! The earlier release is this program acting as it (`--as-release`), or the program that `MESHSTORE_EARLIER` names.

use types::Release;

use super::load::Load;
use crate::harness::{Cluster, Process, eventually, peer_certificates};

/// Has the cluster agree, by way of one member, on an entry that the earlier release does not know.
async fn probe(cluster: &Cluster, at: usize) -> Result<String, String> {
    let endpoint = cluster.member(at).etcd.to_string();
    cluster.run(&["cluster", "probe", "--endpoints", &endpoint]).await
}

/// What each member says that the cluster is at; `None` of one that does not say.
async fn versions(cluster: &Cluster) -> Vec<Option<String>> {
    let mut versions = Vec::new();
    for at in 0..cluster.len() {
        let said = cluster.client_of(at).versions().await.unwrap();
        versions.push(said.map(|versions| versions.cluster_version));
    }
    versions
}

/// Waits until the cluster is at this program's release everywhere.
async fn upgraded(cluster: &Cluster) {
    let this = Some(Release::THIS.to_string());
    let all = || async { versions(cluster).await.iter().all(|version| *version == this).then_some(()) };
    eventually("the version everywhere", all).await;
}

/// The line of a cluster's table that tells of a member.
async fn line_of(cluster: &Cluster, name: &str) -> String {
    let table = cluster.run(&["cluster", "members", "--endpoints", &cluster.endpoints()]).await.unwrap();
    table.lines().find(|line| line.starts_with(&format!("{name} "))).unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_is_upgraded_member_by_member_under_load() {
    let (this, before) = (Release::THIS.to_string(), Release::THIS.before().to_string());
    let folder = tempfile::tempdir().unwrap();
    let mut cluster = Cluster::planned(&["a", "b", "c"], &peer_certificates(folder.path()));
    for at in 0..3 {
        cluster.member_mut(at).is_earlier = true;
        cluster.spawn(at);
    }
    cluster.voters(3).await;
    let load = Load::start(&cluster);

    // The leader last, as the book says.
    let leader = cluster.leader().await;
    let order: Vec<_> = (0..3).filter(|at| *at != leader).chain([leader]).collect();
    for (done, at) in order.iter().copied().enumerate() {
        load.more(100).await;
        goes_to(&mut cluster, at, false).await;
        if done == 0 {
            // Nothing is done yet that could not be undone.
            goes_to(&mut cluster, at, true).await;
            load.more(100).await;
            goes_to(&mut cluster, at, false).await;
        }
        let still: Vec<_> = order[done + 1..].iter().map(|at| cluster.member(*at).name.clone()).collect();
        if still.is_empty() {
            break;
        }
        // However long it stays like this, and whoever leads: what the others could not read is not written.
        load.more(500).await;
        let refusal = probe(&cluster, at).await.unwrap_err();
        assert!(refusal.contains(&format!("all members must run release {this} for this")), "{refusal}");
        for name in &still {
            assert!(refusal.contains(&format!("{name} runs {before}")), "{refusal}");
        }
        assert!(versions(&cluster).await.iter().flatten().all(|version| *version == before));
        let own = &cluster.member(at).name;
        assert!(line_of(&cluster, own).await.contains(&format!(" {this}.")), "{own} tells what it runs");
        let other = line_of(&cluster, &still[0]).await;
        assert!(other.contains(&format!(" {before}")), "{other}");
    }
    upgraded(&cluster).await;
    for at in 0..3 {
        let probed = probe(&cluster, at).await.unwrap();
        assert!(probed.starts_with(&format!("the cluster at {this} agreed on entry ")), "{probed}");
    }
    let report = cluster.voters(3).await;
    assert_eq!(report["version"], this.as_str());
    load.more(100).await;
    load.end(&cluster).await;
    let hashes = cluster.run(&["endpoint", "hashkv", "--endpoints", &cluster.endpoints()]).await.unwrap();
    let hashes: Vec<_> = hashes.lines().map(|line| line.split(", ").nth(1).unwrap().to_owned()).collect();
    assert!(hashes.len() == 3 && hashes.iter().all(|hash| *hash == hashes[0]), "{hashes:?}");

    goes_not_back(&mut cluster, 0).await;
}

/// A member is stopped, and started as the earlier release or as this one.
async fn goes_to(cluster: &mut Cluster, at: usize, earlier: bool) {
    assert_eq!(cluster.stop(at).await, Some(0));
    cluster.member_mut(at).is_earlier = earlier;
    cluster.start(at).await;
    cluster.voters(3).await;
}

/// A member of the earlier release is of no use to the cluster any more, and does no harm.
async fn goes_not_back(cluster: &mut Cluster, at: usize) {
    assert_eq!(cluster.stop(at).await, Some(0));
    cluster.member_mut(at).is_earlier = true;
    cluster.spawn(at);
    if std::env::var_os("MESHSTORE_EARLIER").is_none() {
        refused(cluster, at).await;
        cluster.member_mut(at).is_earlier = false;
        cluster.start(at).await;
        cluster.voters(3).await;
    }
    let other = (at + 1) % cluster.len();
    eventually("the others go on", || async { probe(cluster, other).await.ok() }).await;
}

/// A member ends by itself, and says what to do: it hears the version from its own state or the others, or meets it in the log.
async fn refused(cluster: &mut Cluster, at: usize) {
    let (code, log) = cluster.ended(at).await;
    let (this, before) = (Release::THIS, Release::THIS.before());
    let told = [
        format!(
            "this is release {before}, and the cluster is at {this}, which it does not understand: start this member with"
        ),
        format!(
            "a command that release {before} does not understand (there are such since release {this}): start this member with"
        ),
    ];
    assert!(code != Some(0) && told.iter().any(|told| log.contains(told)), "{code:?} {log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_cluster_is_at_its_members_release_and_takes_in_no_earlier_one() {
    let folder = tempfile::tempdir().unwrap();
    let flags = peer_certificates(folder.path());
    let mut cluster = Cluster::formed(&["a", "b"], &flags).await;
    cluster.voters(2).await;
    upgraded(&cluster).await;

    let third = cluster.add_formed("c", &flags);
    cluster.client_of(0).member_add(vec![cluster.member(third).peer_url()], false).await.unwrap();
    cluster.member_mut(third).is_earlier = true;
    cluster.spawn(third);
    if std::env::var_os("MESHSTORE_EARLIER").is_none() {
        refused(&mut cluster, third).await;
    } else {
        cluster.member_mut(third).process().map(Process::kill);
    }
    cluster.member_mut(third).is_earlier = false;
    cluster.start(third).await;
    cluster.voters(3).await;
}
