//! What is told of one request when it is over.

use std::{sync::Arc, time::Instant};

use http::{HeaderMap, Request, StatusCode};
use hyper::body::Incoming;

use super::{
    body::Meter,
    connection::{Active, Peer},
    exchange::Notes,
    headers::{X_REQUEST_ID, client_address},
    reply::Flags,
};
use crate::{
    config::{Direction, is_grpc},
    telemetry::{AccessLine, PartyId, RequestKey, RequestProtocol, Telemetry},
};

/// Collects, and reports when dropped: a request whose client goes away is reported too.
pub(crate) struct Report {
    telemetry: Arc<Telemetry>,
    worker: usize,
    direction: Direction,
    started: Instant,
    source: PartyId,
    grpc: bool,
    status: u16,
    grpc_status: Option<u32>,
    flags: Flags,
    destination: PartyId,
    bytes_sent: u64,
    meter: Option<Arc<Meter>>,
    complete: bool,
    _active: Active,
    line: Option<Box<AccessLine>>,
}

impl Report {
    pub(crate) fn begin(
        telemetry: &Arc<Telemetry>,
        worker: usize,
        direction: Direction,
        peer: &Peer,
        request: &Request<Incoming>,
        active: Active,
    ) -> Self {
        Self {
            telemetry: telemetry.clone(),
            worker,
            direction,
            started: Instant::now(),
            source: peer.party,
            grpc: is_grpc(request.headers()),
            status: 0,
            grpc_status: None,
            flags: Flags::default(),
            destination: PartyId::UNKNOWN,
            bytes_sent: 0,
            meter: None,
            complete: false,
            _active: active,
            line: telemetry.logs_access().then(|| Box::new(AccessLine::of_request(request, peer))),
        }
    }

    /// The request as it goes on: its id is known now.
    pub(crate) fn accepted(&mut self, headers: &HeaderMap, peer: &Peer, meter: Option<&Arc<Meter>>) {
        self.meter = meter.cloned();
        if let Some(line) = &mut self.line {
            let id = headers.get(&X_REQUEST_ID).and_then(|id| id.to_str().ok());
            line.request_id = id.map(str::to_owned).unwrap_or_default();
            line.x_forwarded_for = client_address(headers, peer.address);
        }
    }

    /// Where it goes.
    pub(crate) fn routed(&mut self, route: &str, cluster: &str, destination: PartyId) {
        self.destination = destination;
        if let Some(line) = &mut self.line {
            line.route_name.push_str(route);
            line.upstream_cluster.push_str(cluster);
        }
    }

    /// What the layers noted.
    pub(crate) fn noted(&mut self, notes: &Notes) {
        self.flags.add(notes.flags);
        self.destination = notes.party.unwrap_or(self.destination);
        if let Some(line) = &mut self.line {
            line.upstream_host = notes.upstream.map(|address| address.to_string());
            line.upstream_service_time = notes.upstream_time.map(|time| time.as_millis());
            line.attempts = notes.attempts;
        }
    }

    pub(crate) fn flag(&mut self, flags: Flags) {
        self.flags.add(flags);
    }

    /// The response's head, as it goes to the client.
    pub(crate) fn answered(&mut self, status: StatusCode, headers: &HeaderMap) {
        self.status = status.as_u16();
        self.grpc_status(headers);
    }

    pub(crate) fn grpc_status(&mut self, headers: &HeaderMap) {
        if self.grpc
            && let Some(status) = headers.get("grpc-status")
        {
            self.grpc_status = status.to_str().ok().and_then(|status| status.parse().ok());
        }
    }

    pub(crate) fn sent(&mut self, bytes: u64) {
        self.bytes_sent += bytes;
    }

    pub(crate) fn timed_out(&mut self) {
        self.flags.add(Flags::TIMEOUT);
        self.complete = true;
    }

    pub(crate) fn cut_off(&mut self) {
        self.flags.add(Flags::TERMINATED);
        self.complete = true;
    }

    pub(crate) fn complete(&mut self) {
        self.complete = true;
    }
}

impl Drop for Report {
    fn drop(&mut self) {
        if !self.complete {
            self.flags.add(Flags::DOWNSTREAM);
        }
        let received = self.meter.as_ref().map_or(0, |meter| meter.bytes());
        let duration = self.started.elapsed();
        let key = RequestKey {
            direction: self.direction,
            source: self.source,
            destination: self.destination,
            protocol: if self.grpc { RequestProtocol::Grpc } else { RequestProtocol::Http },
            status: self.status,
            grpc_status: self.grpc_status,
            flags: self.flags,
        };
        self.telemetry.request(self.worker, key, duration, received, self.bytes_sent);
        if let Some(mut line) = self.line.take() {
            line.response_code = self.status;
            line.grpc_status = self.grpc_status;
            line.response_flags = self.flags.text();
            line.bytes_received = received;
            line.bytes_sent = self.bytes_sent;
            line.duration = duration.as_millis();
            self.telemetry.log(&line);
        }
    }
}
