//! Answers to clients that would rather be told than wait while nobody leads.
//!
//! - Source: etcd `v3rpc/interceptor.go`, `monitorLeader`.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::Request;
use http_body::Frame;
use tokio::time::{Interval, MissedTickBehavior, interval};
use tonic::{Status, body::Body};

use crate::{
    core::Core,
    status::{no_leader, trailers},
};

/// What such a client sets. Source: etcd `rpctypes.MetadataRequireLeaderKey`.
const FIELD: &str = "hasleader";
/// After so many election timeouts without a leader a stream ends. Source: etcd `maxNoLeaderCnt`.
const LOOKS_MAX: u32 = 3;

/// Whether who asks wants to be told.
pub(crate) fn is_wanted(request: &Request<Body>) -> bool {
    request.headers().get(FIELD).is_some_and(|value| value == "true")
}

/// The body of an answer, which ends when nobody has led for a while.
pub(crate) struct Led {
    body: Body,
    core: Arc<Core>,
    looks: Interval,
    /// Looks in a row at which nobody led.
    leaderless: u32,
}

impl Led {
    pub(crate) fn new(body: Body, core: Arc<Core>) -> Self {
        let mut looks = interval(core.config.election_timeout);
        // After a pause there is one look, and then as much patience as ever.
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self { body, core, looks, leaderless: 0 }
    }
}

impl http_body::Body for Led {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        while self.leaderless < LOOKS_MAX && self.looks.poll_tick(cx).is_ready() {
            let is_led = self.core.raft.status().leader.is_some();
            self.leaderless = if is_led { 0 } else { self.leaderless + 1 };
            if self.leaderless == LOOKS_MAX {
                self.body = Body::empty();
                return Poll::Ready(Some(trailers(&no_leader())));
            }
        }
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }
}
