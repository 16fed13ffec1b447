//! Question: how long does it take from a route's commit until traffic follows it, through our proxy and through Envoy?
//!
//! Load: one member, one of our sidecars and one unmodified Envoy on delta xDS, both on the same configuration. A route is
//! flipped again and again; a client at each proxy asks without pause over one connection until its answer is the new one.
//! Unit: milliseconds, from sending the apply call (its validation, the transaction and the fsync included) and from its
//! return, to the first new answer. 0 where the traffic had changed before the call returned.
//!
//! `cargo bench --bench propagation -- --flips 200`. `scripts/setup.sh test` installs Envoy.

#![expect(clippy::print_stdout, reason = "a benchmark prints what it measured")]

#[allow(dead_code, unused_imports, reason = "the end-to-end tests' own harness, of which this uses a part")]
#[expect(clippy::unwrap_used, reason = "a harness fails by panicking")]
#[path = "../../tests/end_to_end"]
mod end_to_end {
    pub(crate) mod envoy;
}
#[allow(dead_code, unused_imports, reason = "the tests' own harness, of which this uses a part")]
#[expect(clippy::unwrap_used, clippy::panic, clippy::print_stderr, reason = "a harness fails by panicking")]
#[path = "../../tests/harness/mod.rs"]
mod harness;

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use anyhow::Context;
use bytes::Bytes;
use clap::Parser;
use client::Client;
use end_to_end::envoy::{Envoy, Protocol};
use http_body_util::{BodyExt, Empty};
use hyper_util::{client::legacy::connect::HttpConnector, rt::TokioExecutor};
use proto::mesh::{ApplyRequest, Source};
use tls::{Credentials, Expect, H2};
use types::SpiffeId;

/// Longest wait for one flip.
const DEADLINE: Duration = Duration::from_secs(10);

/// Measures commit to changed traffic.
#[derive(Debug, Parser)]
struct Args {
    /// How often the route is flipped.
    #[arg(long, default_value_t = 200)]
    flips: usize,
    /// Given by `cargo bench`.
    #[arg(long, hide = true)]
    bench: bool,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let mut mesh = harness::Mesh::start(&["bookinfo-ratings", "bookinfo-reviews"]).await;
    mesh.apply_examples(&["services.yaml", "destination-rules.yaml", "peer-authentication.yaml"]).await;
    let sidecar = mesh.start_pod("ratings", "bookinfo-ratings").await;
    let envoy = Envoy::start(&mut mesh, Protocol::Delta).await;
    let admin = administrator(&mesh)?;
    let proxies = [("meshstore", sidecar.outbound), ("envoy", envoy.outbound)];
    flip(&admin, &proxies.map(|(_, outbound)| outbound), usize::MAX).await?;

    let mut samples: [Vec<Sample>; 2] = Default::default();
    for number in 0..args.flips {
        let flipped = flip(&admin, &proxies.map(|(_, outbound)| outbound), number).await?;
        for (samples, sample) in samples.iter_mut().zip(flipped) {
            samples.push(sample);
        }
    }
    println!("{} flips; ms from sending the apply call, and from its return", args.flips);
    println!(
        "{:10} {:>9} {:>9} {:>9} {:>12} {:>12}",
        "proxy", "sent p50", "sent p99", "sent max", "returned p50", "returned p99"
    );
    for ((name, _), samples) in proxies.iter().zip(&samples) {
        let sent = |percent| percentile(samples, percent, |sample| sample.since_sent);
        let returned = |percent| percentile(samples, percent, |sample| sample.since_returned);
        println!(
            "{name:10} {:>9.2} {:>9.2} {:>9.2} {:>12.2} {:>12.2}",
            sent(50),
            sent(99),
            sent(100),
            returned(50),
            returned(99)
        );
    }
    Ok(())
}

/// How long one flip took at one proxy.
#[derive(Clone, Copy, Debug)]
struct Sample {
    since_sent: Duration,
    since_returned: Duration,
}

/// Applies the route's next form, and waits until all proxies answer by it.
async fn flip(admin: &Client, proxies: &[SocketAddr], number: usize) -> anyhow::Result<Vec<Sample>> {
    let answer = format!("flip-{number}");
    let watchers: Vec<_> = proxies.iter().map(|&proxy| tokio::spawn(first_new_answer(proxy, answer.clone()))).collect();
    let source = Source { name: "flip.yaml".to_owned(), text: route(&answer) };
    let request = ApplyRequest { sources: vec![source], dry_run: false, default_namespace: "default".to_owned() };
    let sent = Instant::now();
    let applied = admin.mesh_apply(request).await?;
    let returned = Instant::now();
    anyhow::ensure!(applied.problems.is_empty(), "{:?}", applied.problems);
    let mut samples = Vec::new();
    for watcher in watchers {
        let changed = tokio::time::timeout(DEADLINE, watcher).await.context("the traffic did not change")???;
        samples
            .push(Sample { since_sent: changed - sent, since_returned: changed.saturating_duration_since(returned) });
    }
    Ok(samples)
}

/// Asks without pause until the answer is the new one.
async fn first_new_answer(proxy: SocketAddr, expected: String) -> anyhow::Result<Instant> {
    let client = hyper_util::client::legacy::Client::builder(TokioExecutor::new())
        .build::<_, Empty<Bytes>>(HttpConnector::new());
    loop {
        let request = http::Request::get(format!("http://{proxy}/flip")).header(http::header::HOST, "ratings:9080");
        let answer = client.request(request.body(Empty::new())?).await?;
        if answer.into_body().collect().await?.to_bytes() == expected.as_bytes() {
            return Ok(Instant::now());
        }
    }
}

/// A route that answers by itself, so that only the route's change is measured.
fn route(answer: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1\n\
         kind: VirtualService\n\
         metadata: {{name: flip, namespace: default}}\n\
         spec:\n  hosts: [ratings]\n  http:\n  - directResponse: {{status: 200, body: {{string: {answer}}}}}\n"
    )
}

fn administrator(mesh: &harness::Mesh) -> anyhow::Result<Client> {
    let file = |name: &str| mesh.path(&format!("credentials/{name}"));
    let [chain, key, roots] = ["admin.crt", "admin.key", "ca.crt"].map(file);
    let credentials = Credentials::from_files(chain.as_ref(), key.as_ref(), roots.as_ref())?;
    let server = SpiffeId::parse("spiffe://cluster.local/ns/meshstore-system/sa/server")?;
    let tls = tls::client_config(&credentials, Expect::OneOf(vec![server]), H2);
    Ok(Client::connect(&client::Config { tls: Some(tls), ..client::Config::new([mesh.address().to_string()]) })?)
}

fn percentile(samples: &[Sample], percent: usize, figure: impl Fn(&Sample) -> Duration) -> f64 {
    let mut figures: Vec<Duration> = samples.iter().map(figure).collect();
    figures.sort_unstable();
    let at = (figures.len() * percent / 100).min(figures.len() - 1);
    figures[at].as_secs_f64() * 1e3
}
