//! `RangeStream`, asked as a client would ask.

use meshstore_server::{Config, Member};
use proto::etcdserverpb::{self as pb, kv_client::KvClient, range_request::SortOrder};
use tempfile::TempDir;
use tonic::{Code, Status, service::Routes};

pub(crate) const KEYS: u8 = 100;
const VALUE_BYTES: usize = 64 << 10;

pub(crate) struct Server {
    _dir: TempDir,
    pub(crate) member: Member,
}

impl Server {
    pub(crate) async fn start() -> Self {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let config = Config { data_dir: dir.path().join("data"), ..Config::default() };
        let server = Self { member: Member::start(config).await.expect("the member starts"), _dir: dir };
        for key in 0..KEYS {
            server.put(&format!("k{key:03}"), &"v".repeat(VALUE_BYTES)).await;
        }
        server
    }

    /// Ends the member, so that nothing of it runs when the test's process ends.
    pub(crate) async fn stop(self) {
        self.member.shutdown().await.expect("stopped");
    }

    pub(crate) fn kv(&self) -> KvClient<Routes> {
        KvClient::new(self.member.routes()).max_decoding_message_size(usize::MAX)
    }

    pub(crate) async fn put(&self, key: &str, value: &str) {
        let request =
            pb::PutRequest { key: key.to_owned().into(), value: value.to_owned().into(), ..Default::default() };
        self.kv().put(request).await.expect("written");
    }

    async fn stream(&self, request: pb::RangeRequest) -> Result<Vec<pb::RangeResponse>, Status> {
        let mut stream = self.kv().range_stream(request).await?.into_inner();
        let mut pieces = Vec::new();
        while let Some(piece) = stream.message().await? {
            pieces.push(piece.range_response.expect("a piece"));
        }
        Ok(pieces)
    }
}

pub(crate) fn all() -> pb::RangeRequest {
    pb::RangeRequest { key: "k".into(), range_end: "l".into(), ..Default::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_pieces_are_the_range_and_each_is_bounded() {
    let server = Server::start().await;
    for request in [
        all(),
        pb::RangeRequest { limit: 40, ..all() },
        pb::RangeRequest { limit: 5, ..all() },
        pb::RangeRequest { limit: i64::from(KEYS), ..all() },
        pb::RangeRequest { keys_only: true, ..all() },
        pb::RangeRequest { key: "k007".into(), ..Default::default() },
        pb::RangeRequest { key: "nothing".into(), ..Default::default() },
        pb::RangeRequest { count_only: true, ..all() },
        pb::RangeRequest { revision: 50, serializable: true, ..all() },
    ] {
        let whole = server.kv().range(request.clone()).await.expect("read").into_inner();
        let pieces = server.stream(request.clone()).await.expect("streamed");
        let (last, others) = pieces.split_last().expect("at least one piece");
        for piece in others {
            assert!(piece.header.is_none() && !piece.more && piece.count == 0, "only the last piece tells these");
        }
        for piece in &pieces {
            let bytes: usize = piece.kvs.iter().map(|kv| kv.key.len() + kv.value.len()).sum();
            assert!(bytes <= (3 << 19) + VALUE_BYTES + 16, "{bytes}");
        }
        assert!(pieces[0].kvs.len() <= 10, "the first piece comes at once");
        let put_together =
            pb::RangeResponse { kvs: pieces.iter().flat_map(|piece| piece.kvs.clone()).collect(), ..last.clone() };
        assert_eq!(put_together, whole, "{request:?}");
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn all_pieces_are_of_one_revision_and_a_compaction_ends_them() {
    let server = Server::start().await;
    let revision = i64::from(KEYS) + 1;
    let mut stream = server.kv().range_stream(all()).await.expect("a stream").into_inner();
    let first = stream.message().await.expect("a piece").expect("a piece").range_response.expect("a piece");
    server.put("k050", "new").await;
    server.put("k099x", "new").await;
    let mut count = first.kvs.len();
    let mut header = None;
    while let Some(piece) = stream.message().await.expect("streamed") {
        let piece = piece.range_response.expect("a piece");
        assert!(piece.kvs.iter().all(|kv| kv.mod_revision <= revision));
        count += piece.kvs.len();
        header = piece.header;
    }
    assert_eq!((count, header.expect("the last has it").revision), (KEYS.into(), revision));

    let mut stream = server.kv().range_stream(pb::RangeRequest { revision, ..all() }).await.expect("one").into_inner();
    stream.message().await.expect("a piece").expect("a piece");
    server.kv().compact(pb::CompactionRequest { revision: revision + 2, physical: false }).await.expect("compacted");
    let end = loop {
        match stream.message().await {
            Ok(Some(_)) => {}
            Ok(None) => panic!("the pieces cannot all have been read: at most three are under way"),
            Err(status) => break status,
        }
    };
    let compacted = "etcdserver: mvcc: required revision has been compacted";
    assert_eq!((end.code(), end.message()), (Code::OutOfRange, compacted));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_streamed_is_refused() {
    let server = Server::start().await;
    let refusals = [
        (pb::RangeRequest::default(), Code::InvalidArgument),
        (pb::RangeRequest { sort_order: SortOrder::Descend.into(), ..all() }, Code::Unimplemented),
        (pb::RangeRequest { min_mod_revision: 3, ..all() }, Code::Unimplemented),
        (pb::RangeRequest { revision: 9999, ..all() }, Code::OutOfRange),
    ];
    for (request, code) in refusals {
        assert_eq!(server.stream(request.clone()).await.expect_err("refused").code(), code, "{request:?}");
    }
    server.stop().await;
}
