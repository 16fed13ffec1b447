//! The command lines of the demo's processes: how each role of the binary is started.
//!
//! Owns: the folder of the demo's files, and which flags point where in it.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
};

use anyhow::Context;

use super::{
    layout::{GATEWAY, GATEWAY_LABELS, Layout, NAMESPACE, Pod, TRUST_DOMAIN, WORKLOADS},
    process::Role,
};

/// The demo's files: `data/` the store, `credentials/` of the administrator, `state/` of the proxies, `logs/`, `bookinfo/`.
#[derive(Clone, Debug)]
pub(crate) struct Home {
    root: PathBuf,
}

impl Home {
    /// Makes the folders that the processes expect.
    pub(crate) fn create(root: &Path) -> anyhow::Result<Self> {
        let home = Self { root: root.to_owned() };
        for folder in [home.logs(), home.state()] {
            fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        }
        Ok(home)
    }

    pub(crate) fn logs(&self) -> PathBuf {
        self.root.join("logs")
    }

    pub(crate) fn examples(&self) -> PathBuf {
        self.root.join("bookinfo")
    }

    pub(crate) fn credentials(&self) -> PathBuf {
        self.root.join("credentials")
    }

    fn data(&self) -> PathBuf {
        self.root.join("data")
    }

    fn state(&self) -> PathBuf {
        self.root.join("state")
    }

    fn access_log(&self, name: &str) -> PathBuf {
        self.logs().join(format!("{name}.access.json"))
    }

    /// A join token that bootstrap made for `service_account`: the `index`th.
    fn token(&self, service_account: &str, index: usize) -> anyhow::Result<PathBuf> {
        let folder = self.credentials().join("tokens");
        let prefix = format!("{NAMESPACE}.{service_account}.");
        let entries = fs::read_dir(&folder).with_context(|| format!("cannot read {}", folder.display()))?;
        let paths = entries.map(|entry| entry.map(|entry| entry.path())).collect::<Result<Vec<_>, _>>()?;
        let is_ours = |path: &PathBuf| {
            path.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.starts_with(&prefix))
        };
        let mut ours: Vec<_> = paths.into_iter().filter(is_ours).collect();
        ours.sort();
        ours.into_iter().nth(index).with_context(|| format!("bootstrap made too few join tokens for {service_account}"))
    }
}

/// A command line under construction.
#[derive(Debug, Default)]
struct Line(Vec<OsString>);

impl Line {
    fn words(words: &[&str]) -> Self {
        Self(words.iter().map(OsString::from).collect())
    }

    fn flag(mut self, name: &str, value: impl Into<OsString>) -> Self {
        self.0.push(format!("--{name}").into());
        self.0.push(value.into());
        self
    }

    fn role(self, name: impl Into<String>) -> Role {
        Role { name: name.into(), arguments: self.0 }
    }
}

/// Makes the trust domain, the administrator's credential, and a join token for every proxy.
pub(crate) fn bootstrap(home: &Home) -> Role {
    let line = Line::words(&["cluster", "bootstrap"])
        .flag("data-dir", home.data())
        .flag("trust-domain", TRUST_DOMAIN)
        .flag("credentials-dir", home.credentials())
        .flag("join-token", format!("{NAMESPACE}/{GATEWAY}"));
    let mut proxies = BTreeMap::new();
    for workload in WORKLOADS {
        *proxies.entry(workload.service_account()).or_insert(0_usize) += 1;
    }
    let token = |line: Line, (account, count)| line.flag("join-token", format!("{NAMESPACE}/{account}={count}"));
    let line = proxies.into_iter().fold(line, token);
    line.role("cluster-bootstrap")
}

/// The one member.
pub(crate) fn server(home: &Home, layout: &Layout) -> Role {
    Line::words(&["server"])
        .flag("data-dir", home.data())
        .flag("listen-client-urls", format!("http://{}", layout.etcd))
        .flag("advertise-client-urls", format!("http://{}", layout.etcd))
        .flag("listen-mesh-addr", layout.mesh.to_string())
        .role("server")
}

/// A workload's app.
pub(crate) fn app(pod: &Pod) -> Role {
    let name = pod.workload.name();
    Line::words(&["demo", "app", pod.workload.app.name()])
        .flag("version", pod.workload.version.name())
        .flag("pod", &name)
        .flag("listen", pod.app.to_string())
        .flag("outbound", pod.outbound.to_string())
        .role(format!("{name}-app"))
}

/// A workload's sidecar.
pub(crate) fn sidecar(home: &Home, layout: &Layout, pod: &Pod) -> anyhow::Result<Role> {
    let (name, account) = (pod.workload.name(), pod.workload.service_account());
    let before = WORKLOADS.iter().take_while(|workload| **workload != pod.workload);
    let token = home.token(&account, before.filter(|workload| workload.service_account() == account).count())?;
    let labels = format!("app={},version={}", pod.workload.app.name(), pod.workload.version.name());
    let line = proxy(home, layout, "sidecar", &name)
        .flag("token-file", token)
        .flag("service-account", account)
        .flag("labels", labels)
        .flag("address", pod.inbound.ip().to_string())
        .flag("inbound", format!("http={}:{}", pod.inbound, pod.app.port()))
        .flag("http-outbound", pod.outbound.port().to_string())
        .flag("admin", pod.admin.to_string());
    Ok(line.role(format!("{name}-sidecar")))
}

/// The way in.
pub(crate) fn gateway(home: &Home, layout: &Layout) -> anyhow::Result<Role> {
    let line = proxy(home, layout, "gateway", GATEWAY)
        .flag("token-file", home.token(GATEWAY, 0)?)
        .flag("service-account", GATEWAY)
        .flag("labels", GATEWAY_LABELS)
        .flag("address", layout.page.ip().to_string())
        .flag("admin", layout.gateway_admin.to_string());
    Ok(line.role("gateway"))
}

fn proxy(home: &Home, layout: &Layout, mode: &str, name: &str) -> Line {
    Line::words(&["proxy", mode])
        .flag("server", layout.mesh.to_string())
        .flag("trust-bundle", home.credentials().join("ca.crt"))
        .flag("name", name)
        .flag("namespace", NAMESPACE)
        .flag("state-dir", home.state().join(name))
        .flag("access-log", home.access_log(name))
}
