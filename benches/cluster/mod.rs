//! Three members on loopback, of meshstore or of etcd, formed by the same flags and with the same certificates.
//!
//! Peers speak mTLS in both; clients speak plain text. Timers and everything else are the programs' defaults. The disk of one
//! member may be made slow, by strace.

use std::{
    env, fs,
    net::SocketAddr,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use proto::etcdserverpb::{MoveLeaderRequest, MoveLeaderResponse, StatusRequest, StatusResponse};
use tempfile::TempDir;
use tokio::time::{sleep, timeout};

use crate::{
    client::Client,
    harness::{Process, free_port, peer_certificates},
};

/// Members of a cluster.
pub(crate) const MEMBERS: usize = 3;
/// Longest that a cluster may take to be whole.
const WHOLE_WITHIN: Duration = Duration::from_mins(1);
/// Longest wait for one answer on the way to that.
const ANSWER_WITHIN: Duration = Duration::from_secs(1);
const PAUSE: Duration = Duration::from_millis(20);

/// The member whose disk may be slow; it does not lead.
const SLOW: usize = MEMBERS - 1;

/// A running cluster on no data; killed when dropped.
pub(crate) struct Cluster {
    pub(crate) name: &'static str,
    program: String,
    /// How much longer each sync of one member takes.
    slowness: Option<Duration>,
    members: Vec<Member>,
    certificates: Vec<String>,
    folder: TempDir,
}

struct Member {
    client: SocketAddr,
    peer: SocketAddr,
    mesh: SocketAddr,
    process: Option<Process>,
}

impl Cluster {
    /// Three of ours, or of the build that MESHSTORE names.
    pub(crate) async fn meshstore(slowness: Option<Duration>) -> anyhow::Result<Self> {
        let program = env::var("MESHSTORE").unwrap_or_else(|_| env!("CARGO_BIN_EXE_meshstore").to_owned());
        Self::start("meshstore", program, slowness).await
    }

    /// Three of etcd's.
    pub(crate) async fn etcd(program: &str, slowness: Option<Duration>) -> anyhow::Result<Self> {
        Self::start("etcd", program.to_owned(), slowness).await
    }

    async fn start(name: &'static str, program: String, slowness: Option<Duration>) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        let mut certificates = peer_certificates(folder.path());
        certificates.push("--peer-client-cert-auth=true".to_owned());
        let member = |_| Member { client: free_port(), peer: free_port(), mesh: free_port(), process: None };
        let members = (0..MEMBERS).map(member).collect();
        let mut cluster = Self { name, program, slowness, members, certificates, folder };
        for at in 0..MEMBERS {
            cluster.start_member(at);
        }
        if cluster.whole().await? == SLOW && slowness.is_some() {
            cluster.lead_elsewhere().await?;
        }
        Ok(cluster)
    }

    async fn lead_elsewhere(&self) -> anyhow::Result<()> {
        let target = self.written(0).await?.header.context("a header")?.member_id;
        let slow = Client::connect(&self.endpoint(SLOW)).await?;
        let request = MoveLeaderRequest { target_id: target };
        let _moved: MoveLeaderResponse = slow.0.call("/etcdserverpb.Maintenance/MoveLeader", &request).await?;
        ensure!(self.whole().await? != SLOW, "{} is led by the member with the slow disk", self.name);
        Ok(())
    }

    /// Starts a member on what it has.
    pub(crate) fn start_member(&mut self, at: usize) {
        let all: Vec<_> =
            self.members.iter().enumerate().map(|(at, member)| format!("m{at}=https://{}", member.peer)).collect();
        let member = &mut self.members[at];
        let (client, peer) = (format!("http://{}", member.client), format!("https://{}", member.peer));
        let data = self.folder.path().join(format!("data-{at}"));
        let mut words = vec![
            format!("--name=m{at}"),
            format!("--data-dir={}", data.display()),
            format!("--listen-client-urls={client}"),
            format!("--advertise-client-urls={client}"),
            format!("--listen-peer-urls={peer}"),
            format!("--initial-advertise-peer-urls={peer}"),
            format!("--initial-cluster={}", all.join(",")),
        ];
        words.extend(self.certificates.iter().cloned());
        if self.name == "meshstore" {
            words.insert(0, "server".to_owned());
            words.push(format!("--listen-mesh-addr={}", member.mesh));
        }
        let mut program = self.program.clone();
        if let Some(slowness) = self.slowness.filter(|_| at == SLOW) {
            words.insert(0, std::mem::replace(&mut program, "strace".to_owned()));
            let slowed = format!("inject=fdatasync,fsync:delay_enter={}", slowness.as_micros());
            let strace = ["-D", "-f", "-qq", "--seccomp-bpf", "-o/dev/null", "-etrace=fdatasync,fsync", "-e", &slowed];
            words.splice(0..0, strace.map(str::to_owned));
        }
        member.process = Some(Process::start(&format!("{}-{at}", self.name), program, words, self.folder.path()));
    }

    /// SIGKILL; returns when it is gone.
    pub(crate) fn kill(&mut self, at: usize) {
        if let Some(mut process) = self.members[at].process.take() {
            process.kill();
        }
    }

    /// Those whose disk is as fast as it is.
    pub(crate) fn steady(&self) -> impl Iterator<Item = usize> {
        let is_slow = self.slowness.is_some();
        (0..MEMBERS).filter(move |at| *at != SLOW || !is_slow)
    }

    /// Where a member serves clients.
    pub(crate) fn endpoint(&self, at: usize) -> String {
        self.members[at].client.to_string()
    }

    /// Waits until every member takes writes and they agree who leads; gives its place.
    pub(crate) async fn whole(&self) -> anyhow::Result<usize> {
        let begun = Instant::now();
        loop {
            if let Some(leader) = self.leader().await {
                return Ok(leader);
            }
            ensure!(begun.elapsed() < WHOLE_WITHIN, "{} was not whole within {WHOLE_WITHIN:?}", self.name);
            sleep(PAUSE).await;
        }
    }

    async fn leader(&self) -> Option<usize> {
        let (mut leaders, mut leading) = (Vec::new(), None);
        for at in 0..MEMBERS {
            let status = timeout(ANSWER_WITHIN, self.written(at)).await.ok()?.ok()?;
            let own = status.header?.member_id;
            leaders.push(status.leader);
            if status.leader == own {
                leading = Some(at);
            }
        }
        leading.filter(|_| leaders.iter().all(|leader| *leader == leaders[0]))
    }

    /// A member's state, after a write through it.
    async fn written(&self, at: usize) -> anyhow::Result<StatusResponse> {
        let client = Client::connect(&self.endpoint(at)).await?;
        client.put(0).await?;
        client.0.call("/etcdserverpb.Maintenance/Status", &StatusRequest {}).await
    }

    /// The processor time that all members have used so far.
    pub(crate) fn cpu(&self) -> anyhow::Result<Duration> {
        self.members.iter().filter_map(|member| member.process.as_ref()).map(|process| cpu(process.id())).sum()
    }
}

/// The processor time that a process has used so far. Source: proc(5), `stat`, fields 14 and 15, in ticks of 10 ms.
pub(crate) fn cpu(process: u32) -> anyhow::Result<Duration> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat"))?;
    let (_, fields) = stat.rsplit_once(')').context("no command in stat")?;
    let ticks = fields.split_whitespace().skip(11).take(2).map(str::parse::<u64>).sum::<Result<u64, _>>()?;
    Ok(Duration::from_millis(ticks * 10))
}
