//! The running Bookinfo mesh: one server, a gateway, and each app behind its sidecar.
//!
//! Owns: the processes, their addresses and their files; starting them in order, and knowing when they are ready.
//!
//! - Ready is what a user would find: every process answers, and the page comes whole through gateway and sidecars.

use std::{
    future::Future,
    net::SocketAddr,
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use http::{HeaderMap, StatusCode};
use tokio::net::{TcpListener, TcpStream};

use super::{
    administrator::Administrator,
    console::Console,
    examples::{self, Example, Folder},
    fleet::Fleet,
    http::{Answer, Call, Client, HttpError},
    layout::Layout,
    ports::Ports,
    roles::{self, Home},
};

/// Longest wait for anything to become ready.
const READY_DEADLINE: Duration = Duration::from_mins(1);
/// How often readiness is asked for.
const READY_INTERVAL: Duration = Duration::from_millis(20);
/// Longest wait for one answer while asking.
const ANSWER_DEADLINE: Duration = Duration::from_secs(5);

/// See the module.
#[derive(Debug)]
pub(crate) struct Bookinfo {
    pub(crate) layout: Layout,
    pub(crate) home: Home,
    examples: Folder,
    /// Once bootstrap has made the credential.
    administrator: Option<Administrator>,
    client: Client,
    fleet: Fleet,
    /// Keeps others off its ports.
    _ports: Ports,
}

impl Bookinfo {
    /// Prepares the files below `root` and picks the addresses; nothing runs yet.
    ///
    /// `page`: where people will find the page; port 0 takes any free one.
    pub(crate) async fn prepare(root: &Path, page: SocketAddr) -> anyhow::Result<Self> {
        let mut ports = Ports::default();
        let page = if page.port() == 0 { ports.next()? } else { page };
        let taken = || format!("{page} is taken by another program: stop it, or choose another port with --port");
        TcpListener::bind(page).await.with_context(taken)?;
        let layout = Layout::pick(page, &mut ports)?;
        let home = Home::create(root)?;
        let examples = Folder::write(&home.examples(), page)?;
        let fleet = Fleet::new(home.logs());
        Ok(Self { layout, home, examples, administrator: None, client: Client::new(), fleet, _ports: ports })
    }

    /// Starts everything; returns when the page is whole.
    pub(crate) async fn start(&mut self, console: Console) -> anyhow::Result<()> {
        let since = Instant::now();
        roles::bootstrap(&self.home).run().await?;
        self.administrator = Some(Administrator::new(&self.home.credentials(), self.layout.mesh)?);
        console.done("trust domain, administrator and join tokens made", since);

        let since = Instant::now();
        self.fleet.start(&roles::server(&self.home, &self.layout))?;
        self.server_ready().await?;
        console.done(&format!("server: etcd API on {}, mesh on {}", self.layout.etcd, self.layout.mesh), since);

        let since = Instant::now();
        for example in examples::BASE {
            self.apply(example).await?;
        }
        console.done("services, subsets, gateway and strict mutual TLS applied", since);

        let since = Instant::now();
        self.start_pods()?;
        let (layout, client) = (&self.layout, &self.client);
        self.fleet.watch(pods_ready(layout, client)).await?;
        console.done(&format!("{} apps with their sidecars, and the gateway", layout.pods.len()), since);

        let since = Instant::now();
        self.fleet.watch(page_whole(layout, client)).await?;
        console.done("the page comes whole through the mesh", since);
        Ok(())
    }

    fn start_pods(&mut self) -> anyhow::Result<()> {
        for pod in &self.layout.pods {
            self.fleet.start(&roles::app(pod))?;
            self.fleet.start(&roles::sidecar(&self.home, &self.layout, pod)?)?;
        }
        self.fleet.start(&roles::gateway(&self.home, &self.layout)?)
    }

    /// Waits until the server takes connections and answers the administrator.
    async fn server_ready(&mut self) -> anyhow::Result<()> {
        let (layout, administrator) = (&self.layout, administrator(self.administrator.as_ref())?);
        let answers = async {
            eventually("the server's etcd API", async || Ok(TcpStream::connect(layout.etcd).await.is_ok())).await?;
            eventually("the server's mesh port", async || Ok(TcpStream::connect(layout.mesh).await.is_ok())).await?;
            eventually("the mesh API", async || Ok(administrator.is_served().await)).await
        };
        self.fleet.watch(answers).await
    }

    /// Applies one example's file.
    pub(crate) async fn apply(&self, example: Example) -> anyhow::Result<()> {
        let text = self.examples.read(example)?;
        administrator(self.administrator.as_ref())?.apply(example.name, text).await
    }

    /// Kills the server as a crash would: SIGKILL.
    pub(crate) async fn kill_server(&mut self) -> anyhow::Result<()> {
        self.fleet.kill_first().await
    }

    /// Starts the killed server again, on its data; returns when it answers.
    pub(crate) async fn restart_server(&mut self) -> anyhow::Result<()> {
        self.fleet.restart_first(&roles::server(&self.home, &self.layout))?;
        self.server_ready().await
    }

    /// Runs `work` to its end, or fails as soon as a process ends by itself.
    pub(crate) async fn watch<T>(&mut self, work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
        self.fleet.watch(work).await
    }

    /// Stops every process.
    pub(crate) async fn stop(self) -> anyhow::Result<()> {
        self.fleet.stop().await
    }
}

fn administrator(made: Option<&Administrator>) -> anyhow::Result<&Administrator> {
    made.context("the cluster is not bootstrapped")
}

async fn pods_ready(layout: &Layout, client: &Client) -> anyhow::Result<()> {
    for pod in &layout.pods {
        let name = pod.workload.name();
        let healthy = async || Ok(is_ok(&get(client, pod.app, "/health").await));
        eventually(&format!("the app of {name}"), healthy).await?;
        let ready = async || Ok(is_ok(&get(client, pod.admin, "/ready").await));
        eventually(&format!("the sidecar of {name}"), ready).await?;
    }
    eventually("the gateway", async || Ok(is_ok(&get(client, layout.gateway_admin, "/ready").await))).await
}

/// Waits for the page with both of its parts.
async fn page_whole(layout: &Layout, client: &Client) -> anyhow::Result<()> {
    let whole = async || {
        let answer = get(client, layout.page, "/productpage").await;
        Ok(answer.is_ok_and(|answer| answer.status == StatusCode::OK && !answer.text().contains("data-failed")))
    };
    eventually("the page", whole).await
}

async fn get(client: &Client, to: SocketAddr, path: &str) -> Result<Answer, HttpError> {
    let host = to.to_string();
    client.get(Call { to, host: &host, path, headers: HeaderMap::new(), deadline: ANSWER_DEADLINE }).await
}

fn is_ok(answer: &Result<Answer, HttpError>) -> bool {
    answer.as_ref().is_ok_and(|answer| answer.status == StatusCode::OK)
}

/// Asks until the answer is yes, or the deadline passes.
pub(crate) async fn eventually(what: &str, condition: impl AsyncFn() -> anyhow::Result<bool>) -> anyhow::Result<()> {
    let asked = async {
        while !condition().await? {
            tokio::time::sleep(READY_INTERVAL).await;
        }
        Ok(())
    };
    match tokio::time::timeout(READY_DEADLINE, asked).await {
        Ok(result) => result,
        Err(_) => bail!("{what} was not ready within {} s", READY_DEADLINE.as_secs()),
    }
}
