//! One of the two servers, and what it answers.

use std::{collections::BTreeMap, net::SocketAddr};

use proto::etcdserverpb::{
    self as pb, auth_client::AuthClient, kv_client::KvClient, lease_client::LeaseClient,
    maintenance_client::MaintenanceClient,
};
use tempfile::TempDir;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{
    Code, Status, Streaming,
    transport::{Channel, Endpoint},
};

use super::{
    operation::{Operation, Standing},
    users::{About, Caller, with_token},
    watches::{Violation, Watches},
};
use crate::harness::{MESHSTORE, Process, eventually, free_port, listening};

/// Seconds by which two servers may differ in what is left of a lease.
const TTL_SLACK: i64 = 30;

/// An answer without what differs by right: ids, terms, the seconds that passed.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Answer {
    Put(pb::PutResponse),
    Range(pb::RangeResponse),
    DeleteRange(pb::DeleteRangeResponse),
    Txn(pb::TxnResponse),
    Compact(pb::CompactionResponse),
    LeaseGrant(pb::LeaseGrantResponse),
    LeaseRevoke(pb::LeaseRevokeResponse),
    LeaseTimeToLive(pb::LeaseTimeToLiveResponse),
    LeaseLeases(pb::LeaseLeasesResponse),
    LeaseKeepAlive(pb::LeaseKeepAliveResponse),
    HashKv(pb::HashKvResponse),
    Alarm(pb::AlarmResponse),
    /// As text.
    About(String),
    /// What the stream said is compared by itself.
    Watched,
    Refused {
        code: Code,
        text: String,
    },
}

impl Answer {
    /// The store's revision when it was given, if it tells.
    pub(crate) fn revision(&self) -> Option<i64> {
        let header = match self {
            Self::Put(answer) => &answer.header,
            Self::Range(answer) => &answer.header,
            Self::DeleteRange(answer) => &answer.header,
            Self::Txn(answer) => &answer.header,
            Self::Compact(answer) => &answer.header,
            Self::LeaseGrant(answer) => &answer.header,
            Self::LeaseRevoke(answer) => &answer.header,
            Self::LeaseTimeToLive(answer) => &answer.header,
            Self::LeaseLeases(answer) => &answer.header,
            Self::LeaseKeepAlive(answer) => &answer.header,
            Self::HashKv(answer) => &answer.header,
            Self::Alarm(answer) => &answer.header,
            Self::About(_) | Self::Watched | Self::Refused { .. } => &None,
        };
        header.as_ref().map(|header| header.revision)
    }

    /// Whether two servers answered the same.
    pub(crate) fn agrees(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::LeaseTimeToLive(one), Self::LeaseTimeToLive(other)) => {
                let same_clock = pb::LeaseTimeToLiveResponse { ttl: one.ttl, ..other.clone() };
                *one == same_clock && (one.ttl - other.ttl).abs() <= TTL_SLACK
            }
            // etcd tells the revision that it hashed since 3.6.
            (Self::HashKv(etcd), Self::HashKv(ours)) if etcd.hash_revision == 0 => {
                *etcd == pb::HashKvResponse { hash_revision: 0, ..*ours }
            }
            (one, other) => one == other,
        }
    }
}

/// Whose ids and which term a header tells is each server's own; whether it tells them is not.
pub(crate) fn comparable_header(header: &mut Option<pb::ResponseHeader>) {
    if let Some(header) = header {
        header.cluster_id = header.cluster_id.min(1);
        header.member_id = header.member_id.min(1);
        header.raft_term = header.raft_term.min(1);
    }
}

/// A server of its own with one client, who asks one thing at a time.
pub(crate) struct Peer {
    kv: KvClient<Channel>,
    lease: LeaseClient<Channel>,
    maintenance: MaintenanceClient<Channel>,
    auth: AuthClient<Channel>,
    tokens: BTreeMap<String, String>,
    /// None before the first use, and after a refusal, which ends it.
    keep_alive: Option<(mpsc::Sender<pb::LeaseKeepAliveRequest>, Streaming<pb::LeaseKeepAliveResponse>)>,
    pub(crate) watches: Watches,
    _process: Process,
    _folder: TempDir,
}

impl Peer {
    /// Ours.
    pub(crate) async fn meshstore() -> Self {
        let mesh = free_port().to_string();
        Self::start(MESHSTORE, &["server", "--listen-mesh-addr", &mesh], false).await
    }

    /// etcd itself.
    pub(crate) async fn etcd(program: &str) -> Self {
        let peer = format!("http://{}", free_port());
        let flags = ["--log-level", "warn", "--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer];
        let cluster = format!("default={peer}");
        Self::start(program, &[&flags[..], &["--initial-cluster", &cluster]].concat(), true).await
    }

    async fn start(program: &str, flags: &[&str], is_etcd: bool) -> Self {
        let folder = volatile_folder();
        let address = free_port();
        let url = format!("http://{address}");
        let data = folder.path().join("data").to_str().unwrap().to_owned();
        let common =
            ["--data-dir", &data, "--listen-client-urls", &url, "--advertise-client-urls", &url, "--bcrypt-cost", "4"];
        let process = Process::start("server", program, flags.iter().chain(&common), folder.path());
        listening(address).await;
        let channel = connect(address).await;
        Self {
            kv: KvClient::new(channel.clone()).max_decoding_message_size(usize::MAX),
            maintenance: MaintenanceClient::new(channel.clone()),
            auth: AuthClient::new(channel.clone()),
            tokens: BTreeMap::new(),
            keep_alive: None,
            lease: LeaseClient::new(channel.clone()),
            watches: Watches::open(channel, is_etcd).await,
            _process: process,
            _folder: folder,
        }
    }

    /// What the server answers.
    ///
    /// # Errors
    /// What it said on the watch stream that no server may say.
    pub(crate) async fn ask(
        &mut self,
        operation: &Operation,
        caller: Caller,
        standing: &Standing,
    ) -> Result<Answer, Violation> {
        let token = self.tokens.get(caller.name()).cloned();
        let token = token.as_deref();
        Ok(match operation.clone() {
            Operation::Put(request) => {
                answer(self.kv.put(with_token(request, token)).await, Answer::Put, |it| &mut it.header)
            }
            Operation::Range(request) => {
                answer(self.kv.range(with_token(request, token)).await, Answer::Range, |it| &mut it.header)
            }
            Operation::DeleteRange(request) => {
                answer(self.kv.delete_range(with_token(request, token)).await, Answer::DeleteRange, |it| &mut it.header)
            }
            Operation::Txn(request) => {
                answer(self.kv.txn(with_token(request, token)).await, Answer::Txn, |it| &mut it.header)
            }
            Operation::Compact(request) => {
                answer(self.kv.compact(with_token(request, token)).await, Answer::Compact, |it| &mut it.header)
            }
            Operation::LeaseGrant(request) => self.grant(request, token).await,
            Operation::LeaseRevoke(request) => {
                answer(self.lease.lease_revoke(with_token(request, token)).await, Answer::LeaseRevoke, |it| {
                    &mut it.header
                })
            }
            Operation::LeaseTimeToLive(request) => {
                let told = self
                    .lease
                    .lease_time_to_live(with_token(request, token))
                    .await
                    .map(|response| response.map(with_sorted_keys));
                answer(told, Answer::LeaseTimeToLive, |it| &mut it.header)
            }
            Operation::LeaseLeases(request) => {
                answer(self.lease.lease_leases(with_token(request, token)).await, Answer::LeaseLeases, |it| {
                    &mut it.header
                })
            }
            Operation::LeaseKeepAlive(request) => match self.renew(request).await {
                Ok(response) => {
                    let mut response = response.ok_or("the keep-alive stream ends")?;
                    comparable_header(&mut response.header);
                    Answer::LeaseKeepAlive(response)
                }
                Err(status) => refused(&status),
            },
            Operation::WatchCreate(request) => {
                let ends = request.start_revision > 0 && request.start_revision < standing.compacted;
                self.watches.create(request, ends).await?;
                Answer::Watched
            }
            Operation::WatchCancel(request) => {
                self.watches.cancel(request).await?;
                Answer::Watched
            }
            Operation::About(about) => self.about(about, token).await,
            Operation::HashKv(request) => {
                answer(self.maintenance.hash_kv(with_token(request, token)).await, Answer::HashKv, |it| &mut it.header)
            }
            Operation::Alarm(request) => {
                answer(self.maintenance.alarm(with_token(request, token)).await, Answer::Alarm, |it| &mut it.header)
            }
            Operation::WatchProgress => {
                self.watches.progress(standing.revision).await?;
                Answer::Watched
            }
        })
    }

    /// On one stream for as long as it lasts.
    async fn renew(
        &mut self,
        request: pb::LeaseKeepAliveRequest,
    ) -> Result<Option<pb::LeaseKeepAliveResponse>, Status> {
        let (requests, mut responses) = if let Some((requests, responses)) = self.keep_alive.take() {
            requests.send(request).await.unwrap();
            (requests, responses)
        } else {
            let (requests, queue) = mpsc::channel(1);
            // etcd answers the call itself with the first message.
            requests.send(request).await.unwrap();
            (requests, self.lease.lease_keep_alive(ReceiverStream::new(queue)).await?.into_inner())
        };
        let response = responses.message().await?;
        self.keep_alive = Some((requests, responses));
        Ok(response)
    }

    /// Keeps the token that the server gives, if it does.
    async fn about(&mut self, about: About, token: Option<&str>) -> Answer {
        let user = if let About::Authenticate(request) = &about { request.name.clone() } else { String::new() };
        match about.ask(&mut self.auth, token).await {
            Ok((text, given)) => {
                self.tokens.extend(given.map(|token| (user, token)));
                Answer::About(text)
            }
            Err(status) => refused(&status),
        }
    }

    /// A lease that the server named is revoked at once: the other one names it differently.
    async fn grant(&mut self, request: pb::LeaseGrantRequest, token: Option<&str>) -> Answer {
        let named = request.id != 0;
        let granted = self.lease.lease_grant(with_token(request, token)).await;
        if let (false, Ok(granted)) = (named, &granted) {
            let id = granted.get_ref().id;
            assert!(id > 0, "a lease named {id}");
            self.lease.lease_revoke(with_token(pb::LeaseRevokeRequest { id }, token)).await.unwrap();
        }
        let granted =
            granted.map(|response| response.map(|it| if named { it } else { pb::LeaseGrantResponse { id: 0, ..it } }));
        answer(granted, Answer::LeaseGrant, |it| &mut it.header)
    }
}

fn answer<T>(
    outcome: Result<tonic::Response<T>, Status>,
    wrap: impl FnOnce(T) -> Answer,
    header: impl FnOnce(&mut T) -> &mut Option<pb::ResponseHeader>,
) -> Answer {
    match outcome {
        Ok(response) => {
            let mut response = response.into_inner();
            comparable_header(header(&mut response));
            wrap(response)
        }
        Err(status) => refused(&status),
    }
}

/// etcd tells a lease's keys in any order.
fn with_sorted_keys(mut lease: pb::LeaseTimeToLiveResponse) -> pb::LeaseTimeToLiveResponse {
    lease.keys.sort();
    lease
}

async fn connect(address: SocketAddr) -> Channel {
    let endpoint = Endpoint::from_shared(format!("http://{address}")).unwrap().tcp_nodelay(true);
    eventually("a leader", || async {
        let channel = endpoint.connect().await.ok()?;
        let probe = pb::RangeRequest { key: "probe".into(), ..Default::default() };
        KvClient::new(channel.clone()).range(probe).await.ok()?;
        Some(channel)
    })
    .await
}

/// In memory where there is such a place: what is asked of the servers here is their answers, not their disk.
fn volatile_folder() -> TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_none| tempfile::tempdir()).unwrap()
}

fn refused(status: &Status) -> Answer {
    // etcd's maintenance tells what the others put into etcd's own words first.
    let (code, text) = match (status.code(), status.message()) {
        (Code::Unknown, "auth: permission denied") => (Code::PermissionDenied, "etcdserver: permission denied"),
        (Code::Unknown, "auth: user name is empty") => (Code::InvalidArgument, "etcdserver: user name is empty"),
        (Code::Unknown, "auth: invalid auth token") => (Code::Unauthenticated, "etcdserver: invalid auth token"),
        other => other,
    };
    Answer::Refused { code, text: text.to_owned() }
}
