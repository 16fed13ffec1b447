//! `Range` of more than is held in memory, asked as a client would ask.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use http::{HeaderMap, Request, header::CONTENT_TYPE};
use http_body_util::BodyExt;
use prost::Message;
use proto::etcdserverpb as pb;
use tonic::body::Body;
use tower::ServiceExt;

use crate::range_stream::{KEYS, Server, all};

const PREFIX_BYTES: usize = 5;

/// A call of `Range` whose answer's body is read frame by frame.
async fn call(server: &Server, request: &pb::RangeRequest) -> Body {
    let mut message = BytesMut::new();
    message.put_u8(0);
    message.put_u32(u32::try_from(request.encoded_len()).expect("small"));
    request.encode(&mut message).expect("the buffer grows");
    let body = Body::new(http_body_util::Full::new(message.freeze()));
    let request = Request::post("http://member/etcdserverpb.KV/Range").header(CONTENT_TYPE, "application/grpc");
    let answer = server.member.routes().oneshot(request.body(body).expect("a request")).await.expect("an answer");
    assert_eq!(answer.headers()[CONTENT_TYPE], "application/grpc");
    answer.into_body()
}

/// Its bytes, the most of them in one frame, and its trailers.
async fn drained(mut body: Body) -> (Bytes, usize, HeaderMap) {
    let (mut bytes, mut most, mut trailers) = (BytesMut::new(), 0, HeaderMap::new());
    while let Some(frame) = body.frame().await {
        match frame.expect("a frame").into_data() {
            Ok(data) => {
                most = most.max(data.len());
                bytes.put(data);
            }
            Err(frame) => trailers = frame.into_trailers().expect("trailers"),
        }
    }
    (bytes.freeze(), most, trailers)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_answer_is_one_message_that_comes_in_pieces() {
    let server = Server::start().await;
    let revision = i64::from(KEYS) + 1;
    let present = server.kv().range(all()).await.expect("read").into_inner();
    // The past is not held in memory.
    server.put("k", "new").await;
    let request = pb::RangeRequest { revision, ..all() };
    let (mut bytes, most, trailers) = drained(call(&server, &request).await).await;
    assert!(most < bytes.len() / 2, "{most} of {} bytes came at once", bytes.len());
    assert_eq!(trailers["grpc-status"], "0");
    assert_eq!((bytes.get_u8(), bytes.get_u32() as usize), (0, bytes.len()));
    let mut answer = pb::RangeResponse::decode(bytes).expect("a message");
    assert_eq!(answer.header.take().expect("a header").revision, revision + 1);
    assert_eq!(answer, pb::RangeResponse { header: None, ..present });

    let part = server.kv().range(pb::RangeRequest { limit: 90, ..request }).await.expect("read").into_inner();
    assert_eq!((part.kvs.len(), part.count, part.more), (90, i64::from(KEYS), true));
    assert_eq!(part.kvs, answer.kvs[..90]);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_compaction_halfway_ends_the_call_with_that_error() {
    let server = Server::start().await;
    let revision = i64::from(KEYS) + 1;
    server.put("k", "new").await;
    let mut body = call(&server, &pb::RangeRequest { revision, ..all() }).await;
    let first = body.frame().await.expect("a frame").expect("a frame").into_data().expect("data");
    let length = (&first[1..PREFIX_BYTES]).get_u32() as usize;
    server.kv().compact(pb::CompactionRequest { revision: revision + 1, physical: false }).await.expect("compacted");
    let (rest, _, trailers) = drained(body).await;
    assert!(first.len() + rest.len() < PREFIX_BYTES + length, "nothing that looks whole was sent");
    assert_eq!(trailers["grpc-status"], "11");
    assert_eq!(trailers["grpc-message"], "etcdserver:%20mvcc:%20required%20revision%20has%20been%20compacted");
    server.stop().await;
}
