//! etcd's `Cluster` service of a member alone.

use meshstore_server::{Config, Member};
use proto::etcdserverpb::{self as pb, cluster_client::ClusterClient};
use tempfile::TempDir;
use tonic::{Code, Status, service::Routes};

const ID: u64 = 0x8e9e_05c5_2164_694d;

async fn start(dir: &TempDir, name: &str) -> Member {
    let config = Config { data_dir: dir.path().join("data"), name: name.to_owned(), ..Config::default() };
    Member::start(config).await.expect("the member starts")
}

fn client(member: &Member) -> ClusterClient<Routes> {
    ClusterClient::new(member.routes())
}

fn said<T: std::fmt::Debug>(outcome: Result<T, Status>) -> (Code, String) {
    let status = outcome.expect_err("refused");
    (status.code(), status.message().to_owned())
}

async fn list(member: &Member) -> Vec<pb::Member> {
    let listed = client(member).member_list(pb::MemberListRequest { linearizable: true }).await.expect("listed");
    let listed = listed.into_inner();
    let header = listed.header.expect("a header");
    assert_eq!((header.member_id, header.revision), (ID, 0));
    listed.members
}

#[tokio::test]
async fn a_member_tells_of_itself_and_is_moved_for_good() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let member = start(&dir, "one").await;
    let told = pb::Member {
        id: ID,
        name: "one".to_owned(),
        peer_ur_ls: vec!["http://localhost:2380".to_owned()],
        client_ur_ls: vec!["http://localhost:2379".to_owned()],
        is_learner: false,
    };
    assert_eq!(list(&member).await, std::slice::from_ref(&told));
    let moved = vec!["http://10.0.0.1:2380".to_owned()];
    let update = |id, peer_ur_ls: &[String]| pb::MemberUpdateRequest { id, peer_ur_ls: peer_ur_ls.to_vec() };
    let answer = client(&member).member_update(update(ID, &moved)).await.expect("moved").into_inner();
    assert_eq!(answer.members[0].peer_ur_ls, moved);
    let unknown = said(client(&member).member_update(update(5, &moved)).await);
    assert_eq!(unknown, (Code::NotFound, "etcdserver: member not found".to_owned()));
    let no_urls = said(client(&member).member_update(update(ID, &[])).await);
    assert_eq!(no_urls, (Code::InvalidArgument, "etcdserver: given member URLs are invalid".to_owned()));

    member.shutdown().await.expect("stopped");
    let member = start(&dir, "renamed").await;
    assert_eq!(list(&member).await, [pb::Member { name: "renamed".to_owned(), peer_ur_ls: moved, ..told }]);
    member.shutdown().await.expect("stopped");
}

#[tokio::test]
async fn what_would_cost_the_cluster_its_quorum_is_refused_in_etcds_words() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let member = start(&dir, "one").await;
    let add = |url: &str, is_learner| pb::MemberAddRequest { peer_ur_ls: vec![url.to_owned()], is_learner };
    let bad = said(client(&member).member_add(add("http://nohost", false)).await);
    assert_eq!(bad, (Code::InvalidArgument, "etcdserver: given member URLs are invalid".to_owned()));
    let taken = said(client(&member).member_add(add("http://localhost:2380", true)).await);
    assert_eq!(taken, (Code::FailedPrecondition, "etcdserver: Peer URLs already exists".to_owned()));
    let not_enough = "etcdserver: re-configuration failed due to not enough started members".to_owned();
    let (code, text) = said(client(&member).member_add(add("https://b:2380", false)).await);
    assert!(code == Code::FailedPrecondition && text.contains("no way to others"), "{text}");
    let refused = said(client(&member).member_remove(pb::MemberRemoveRequest { id: ID }).await);
    assert_eq!(refused, (Code::FailedPrecondition, not_enough));
    let refused = said(client(&member).member_promote(pb::MemberPromoteRequest { id: ID }).await);
    assert_eq!(refused, (Code::FailedPrecondition, "etcdserver: can only promote a learner member".to_owned()));
    for id in [0, 5] {
        let missing = (Code::NotFound, "etcdserver: member not found".to_owned());
        assert_eq!(said(client(&member).member_remove(pb::MemberRemoveRequest { id }).await), missing);
        assert_eq!(said(client(&member).member_promote(pb::MemberPromoteRequest { id }).await), missing);
    }
    assert_eq!(list(&member).await.len(), 1);
    member.shutdown().await.expect("stopped");
}
