//! The workload's registration: other proxies find it as long as this one says that it is there.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use futures_util::stream;
use proto::mesh::{KeepAlive, RegisterRequest, Workload, register_request::Request, workloads_client::WorkloadsClient};
use tls::Connector;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tonic::transport::Endpoint;

use crate::settings::Config;

/// First and longest wait between attempts.
const BACK_OFF: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(10));
/// Proofs of life in the time that the registration outlives silence.
const KEEP_ALIVES: u32 = 3;
/// A registration that lasted so long was a good one: the wait starts anew.
const GOOD: Duration = Duration::from_secs(30);

/// Keeps the workload registered until told to stop; it is then deregistered by the stream's end.
pub(crate) async fn keep_registered(config: Config, endpoint: Endpoint, connector: Connector, stop: CancellationToken) {
    let mut wait = BACK_OFF.0;
    while !stop.is_cancelled() {
        let begun = Instant::now();
        match stop.run_until_cancelled(registered(&config, &endpoint, &connector)).await {
            None => return,
            Some(error) => tracing::warn!(%error, "registration ended"),
        }
        wait = if begun.elapsed() > GOOD { BACK_OFF.0 } else { (wait * 2).min(BACK_OFF.1) };
        stop.run_until_cancelled(tokio::time::sleep(wait.mul_f64(0.5 + rand::random::<f64>() / 2.0))).await;
    }
}

/// Registers, and keeps the registration alive until it fails.
async fn registered(config: &Config, endpoint: &Endpoint, connector: &Connector) -> tonic::Status {
    match register(config, endpoint, connector).await {
        Ok(()) => tonic::Status::unavailable("the server closed the stream"),
        Err(status) => status,
    }
}

async fn register(config: &Config, endpoint: &Endpoint, connector: &Connector) -> Result<(), tonic::Status> {
    let channel = endpoint.connect_with_connector(connector.clone()).await;
    let channel = channel.map_err(|error| tonic::Status::unavailable(format!("{error:?}")))?;
    let (requests, mut queue) = mpsc::channel::<RegisterRequest>(1);
    let send = async |request: Request| {
        let sent = requests.send(RegisterRequest { request: Some(request) }).await;
        sent.map_err(|_| tonic::Status::unavailable("the stream is closed"))
    };
    send(Request::Workload(workload(config))).await?;
    let outgoing = stream::poll_fn(move |cx| queue.poll_recv(cx));
    let mut responses = WorkloadsClient::new(channel).register(outgoing).await?.into_inner();
    let mut period: Option<Duration> = None;
    loop {
        let pause = async {
            match period {
                Some(period) => tokio::time::sleep(period).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            response = responses.message() => {
                let Some(response) = response? else { return Ok(()) };
                if period.is_none() {
                    tracing::info!(ttl_seconds = response.ttl_seconds, "workload registered");
                }
                let ttl = Duration::from_secs(u64::try_from(response.ttl_seconds).unwrap_or(1).max(1));
                period = Some(ttl / KEEP_ALIVES);
            }
            () = pause => send(Request::KeepAlive(KeepAlive {})).await?,
        }
    }
}

fn workload(config: &Config) -> Workload {
    let ports: HashMap<String, u32> =
        config.inbound.iter().map(|port| (port.name.clone(), u32::from(port.bind.port()))).collect();
    Workload {
        name: config.name.clone(),
        namespace: config.namespace.to_string(),
        service_account: config.service_account.to_string(),
        labels: config.labels.clone().into_iter().collect(),
        address: config.address.to_string(),
        ports,
    }
}
