//! A bootstrapped cluster with its server, and whatever proxies and apps a test adds.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use tempfile::TempDir;
use tokio::process::Command;

use super::{MESHSTORE, Process, eventually, free_port, listening};

pub(crate) struct Mesh {
    processes: Vec<Process>,
    folder: TempDir,
    address: SocketAddr,
}

/// One workload behind one of our sidecars.
pub(crate) struct Pod {
    /// Where its app's own calls go.
    pub(crate) outbound: SocketAddr,
    /// Readiness and metrics.
    pub(crate) admin: SocketAddr,
}

impl Mesh {
    /// Bootstraps a cluster with one join token for each service account of namespace `default`; returns when the
    /// mesh API answers.
    pub(crate) async fn start(service_accounts: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (etcd, address) = (free_port(), free_port());
        let mut mesh = Self { processes: Vec::new(), folder, address };
        let tokens =
            service_accounts.iter().flat_map(|account| ["--join-token".to_owned(), format!("default/{account}")]);
        let bootstrap = ["cluster", "bootstrap", "--trust-domain", "cluster.local"].map(str::to_owned).into_iter();
        let folders =
            ["--data-dir".to_owned(), mesh.path("data"), "--credentials-dir".to_owned(), mesh.path("credentials")];
        mesh.run(bootstrap.chain(folders).chain(tokens)).await.unwrap();

        let url = format!("http://{etcd}");
        let (data, listen) = (mesh.path("data"), address.to_string());
        let flags = ["--listen-client-urls", &url, "--advertise-client-urls", &url, "--listen-mesh-addr", &listen];
        mesh.spawn("server", ["server", "--data-dir", &data].into_iter().chain(flags));
        listening(address).await;
        eventually("the mesh API", || async { mesh.mesh(&["status"]).await.ok() }).await;
        mesh
    }

    /// The mesh port.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// A file or folder of this cluster's.
    pub(crate) fn path(&self, name: &str) -> String {
        self.folder.path().join(name).to_str().unwrap().to_owned()
    }

    /// The roots of the trust domain.
    pub(crate) fn roots(&self) -> PathBuf {
        self.folder.path().join("credentials/ca.crt")
    }

    /// The join token of a service account.
    pub(crate) fn token_file(&self, service_account: &str) -> PathBuf {
        let prefix = format!("default.{service_account}.");
        let tokens = fs::read_dir(self.folder.path().join("credentials/tokens")).unwrap();
        let mut paths = tokens.map(|entry| entry.unwrap().path());
        paths.find(|path| path.file_name().unwrap().to_str().unwrap().starts_with(&prefix)).unwrap()
    }

    /// `meshstore mesh ...` as the administrator; what it prints, or what it says when it fails.
    pub(crate) async fn mesh(&self, words: &[&str]) -> Result<String, String> {
        let flags = [
            "--credentials".to_owned(),
            self.path("credentials"),
            "--mesh-endpoint".to_owned(),
            self.address.to_string(),
        ];
        self.run(["mesh"].iter().chain(words).map(|word| (*word).to_owned()).chain(flags)).await
    }

    /// Applies files of `examples/`.
    pub(crate) async fn apply_examples(&self, names: &[&str]) {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/bookinfo");
        let paths: Vec<_> = names.iter().map(|name| root.join(name).to_str().unwrap().to_owned()).collect();
        let files = paths.iter().flat_map(|path| ["-f", path]);
        self.mesh(&["apply"].into_iter().chain(files).collect::<Vec<_>>()).await.unwrap();
    }

    /// Applies one document.
    pub(crate) async fn apply_text(&self, name: &str, text: &str) {
        let path = self.path(name);
        fs::write(&path, text).unwrap();
        self.mesh(&["apply", "-f", &path]).await.unwrap();
    }

    /// Starts a Bookinfo app; its address.
    pub(crate) async fn start_app(&mut self, app: &str, outbound: SocketAddr) -> SocketAddr {
        let listen = free_port();
        let (pod, listen_text, outbound) = (format!("{app}-v1"), listen.to_string(), outbound.to_string());
        let flags = ["--pod", &pod, "--listen", &listen_text, "--outbound", &outbound];
        self.spawn(&pod, ["demo", "app", app].into_iter().chain(flags));
        listening(listen).await;
        listen
    }

    /// Starts a Bookinfo app behind one of our sidecars; returns when both are ready.
    pub(crate) async fn start_pod(&mut self, app: &str, service_account: &str) -> Pod {
        let (inbound, outbound, admin) = (free_port(), free_port(), free_port());
        let app_address = self.start_app(app, outbound).await;
        let name = format!("{app}-sidecar");
        let (token, roots) = (self.token_file(service_account), self.roots());
        let flags = [
            ("server", self.address.to_string()),
            ("trust-bundle", roots.to_str().unwrap().to_owned()),
            ("token-file", token.to_str().unwrap().to_owned()),
            ("name", format!("{app}-v1")),
            ("namespace", "default".to_owned()),
            ("service-account", service_account.to_owned()),
            ("labels", format!("app={app},version=v1")),
            ("address", "127.0.0.1".to_owned()),
            ("inbound", format!("http={inbound}:{}", app_address.port())),
            ("http-outbound", outbound.port().to_string()),
            ("state-dir", self.path(&format!("{name}-state"))),
            ("admin", admin.to_string()),
        ];
        let flags = flags.into_iter().flat_map(|(flag, value)| [format!("--{flag}"), value]);
        self.spawn(&name, ["proxy", "sidecar"].map(str::to_owned).into_iter().chain(flags));
        listening(inbound).await;
        Pod { outbound, admin }
    }

    /// Starts another program, which ends with the test.
    pub(crate) fn adopt(&mut self, process: Process) {
        self.processes.push(process);
    }

    fn spawn<A: AsRef<std::ffi::OsStr>>(&mut self, name: &str, arguments: impl IntoIterator<Item = A>) {
        self.processes.push(Process::start(name, MESHSTORE, arguments, self.folder.path()));
    }

    async fn run(&self, arguments: impl IntoIterator<Item = String>) -> Result<String, String> {
        let output = Command::new(MESHSTORE).args(arguments).current_dir(self.folder.path()).output().await.unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
    }
}

impl Drop for Mesh {
    /// The last started stops first.
    fn drop(&mut self) {
        while self.processes.pop().is_some() {}
    }
}
