//! The limit: a server that answers at once, with the same stack and the same threads as a member's.

use std::{net::SocketAddr, thread};

use anyhow::Context;
use proto::{
    etcdserverpb::{
        CompactionRequest, CompactionResponse, DeleteRangeRequest, DeleteRangeResponse, PutRequest, PutResponse,
        RangeRequest, RangeResponse, RangeStreamResponse, ResponseHeader, TxnRequest, TxnResponse,
        kv_server::{Kv, KvServer},
    },
    mvccpb::KeyValue,
};
use tokio::{net::TcpSocket, runtime};
use tokio_stream::{StreamExt, wrappers::TcpListenerStream};
use tonic::{Request, Response, Status, transport::Server};

use super::client::VALUE_BYTES;

const CONNECTIONS_MAX: u32 = 1024;

/// Says yes to every put, and gives the same value for every key.
#[derive(Clone, Copy)]
struct Echo;

const HEADER: Option<ResponseHeader> = Some(ResponseHeader { cluster_id: 1, member_id: 1, revision: 1, raft_term: 1 });

#[tonic::async_trait]
impl Kv for Echo {
    async fn range(&self, request: Request<RangeRequest>) -> Result<Response<RangeResponse>, Status> {
        let key = request.into_inner().key;
        let value = vec![b'v'; VALUE_BYTES].into();
        let found = KeyValue { key, value, version: 1, create_revision: 1, mod_revision: 1, lease: 0 };
        Ok(Response::new(RangeResponse { header: HEADER, kvs: vec![found], more: false, count: 1 }))
    }

    async fn put(&self, _: Request<PutRequest>) -> Result<Response<PutResponse>, Status> {
        Ok(Response::new(PutResponse { header: HEADER, prev_kv: None }))
    }

    async fn delete_range(&self, _: Request<DeleteRangeRequest>) -> Result<Response<DeleteRangeResponse>, Status> {
        Err(Status::unimplemented("an echo only"))
    }

    async fn txn(&self, _: Request<TxnRequest>) -> Result<Response<TxnResponse>, Status> {
        Ok(Response::new(TxnResponse { header: HEADER, succeeded: true, responses: Vec::new() }))
    }

    async fn compact(&self, _: Request<CompactionRequest>) -> Result<Response<CompactionResponse>, Status> {
        Err(Status::unimplemented("an echo only"))
    }

    type RangeStreamStream = tokio_stream::Empty<Result<RangeStreamResponse, Status>>;

    async fn range_stream(&self, _: Request<RangeRequest>) -> Result<Response<Self::RangeStreamStream>, Status> {
        Err(Status::unimplemented("an echo only"))
    }
}

/// Serves until killed: one thread a core, each with a runtime and a share of the connections.
pub(crate) fn serve(address: SocketAddr) -> anyhow::Result<()> {
    let count = thread::available_parallelism().map_or(1, usize::from);
    let threads: Vec<_> = (0..count).map(|_| thread::spawn(move || serve_on_one_core(address))).collect();
    threads.into_iter().try_for_each(|thread| thread.join().ok().context("a thread died")?)
}

fn serve_on_one_core(address: SocketAddr) -> anyhow::Result<()> {
    runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
        let socket = TcpSocket::new_v4()?;
        socket.set_reuseport(true)?;
        socket.bind(address)?;
        let incoming = TcpListenerStream::new(socket.listen(CONNECTIONS_MAX)?);
        let incoming = incoming.map(|socket| socket.and_then(|socket| socket.set_nodelay(true).map(|()| socket)));
        let server = Server::builder().add_service(KvServer::new(Echo));
        Ok(server.serve_with_incoming(incoming).await?)
    })
}
