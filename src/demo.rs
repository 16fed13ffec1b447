//! `meshstore demo`: a Bookinfo mesh on loopback, from nothing to traffic, and a tour that measures it.
//!
//! Owns: the demo's processes (all of this same binary), its temporary files, and what it tells people.
//! In:   `meshstore demo` and its flags; Ctrl-C or SIGTERM ends it.
//! Out:  a page on 127.0.0.1, and with `--tour` a table of what was expected and measured.
//!
//! - Nothing it does is private: it starts the roles by their command lines, and applies the files of `examples/` by
//!   the public API.
//! - It ends everything it started, and no child outlives it, however it ends: see [`lifeline`].
//! - The tour succeeds only if every step showed what it should.

mod administrator;
mod apps;
mod bookinfo;
mod console;
mod examples;
mod fleet;
mod http;
mod layout;
pub(crate) mod lifeline;
mod ports;
mod process;
mod roles;
mod tour;

use std::{
    env, fs,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    process::Stdio,
    time::Instant,
};

use anyhow::{Context, bail};
use tokio::signal::unix::{SignalKind, signal};

use self::{bookinfo::Bookinfo, console::Console};

/// Runs a Bookinfo mesh on loopback: one server, a gateway, four services, a sidecar beside each.
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
#[command(after_help = "Examples: the page, until Ctrl-C; and the tour, which measures and ends
  meshstore demo
  meshstore demo --tour --port 0")]
pub(crate) struct Args {
    #[command(subcommand)]
    part: Option<Part>,
    /// Port of the page on 127.0.0.1; 0 takes any free one.
    #[arg(long, default_value_t = 8080)]
    port: u16,
    /// Drive traffic through the steps of the tour, print what was measured, and end; exit status 1 unless every step
    /// showed what it should.
    #[arg(long)]
    tour: bool,
    /// Do not open the page in a browser.
    #[arg(long)]
    no_open: bool,
    /// Folder for data, credentials and logs: new or empty, and kept afterwards. Without it a temporary one is used.
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

/// What the demo starts itself as.
#[derive(Debug, clap::Subcommand)]
enum Part {
    /// One of the Bookinfo apps.
    #[command(hide = true)]
    App(apps::Args),
}

/// Runs the demo, or one of its parts, to its end.
///
/// # Errors
/// A process that did not start or ended by itself, and a tour of which a step failed.
pub(crate) async fn run(args: Args) -> anyhow::Result<()> {
    match args.part {
        Some(Part::App(app)) => apps::run(app).await,
        None => demo(args).await,
    }
}

async fn demo(args: Args) -> anyhow::Result<()> {
    let console = Console::stdout();
    let folder = Folder::open(args.dir)?;
    console.heading("meshstore demo: Bookinfo on loopback");
    console.line(&format!("  files in {}", folder.path().display()));
    let page = SocketAddr::from((Ipv4Addr::LOCALHOST, args.port));
    let mut bookinfo = Bookinfo::prepare(folder.path(), page).await?;

    let result = tokio::select! {
        result = show(&mut bookinfo, console, args.tour, !args.no_open) => result,
        result = stop_asked() => result,
    };
    let since = Instant::now();
    let stopped = bookinfo.stop().await;
    console.done("everything stopped", since);
    if result.is_err() {
        folder.keep(console);
    }
    result.and(stopped)
}

/// Starts the mesh, then either takes the tour or stays.
async fn show(bookinfo: &mut Bookinfo, console: Console, tour: bool, open: bool) -> anyhow::Result<()> {
    bookinfo.start(console).await?;
    if tour {
        return tour::take(bookinfo, console).await;
    }
    invite(bookinfo, console);
    if open {
        open_browser(&page_url(bookinfo));
    }
    bookinfo.watch(std::future::pending()).await
}

async fn stop_asked() -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        _ = terminate.recv() => Ok(()),
        interrupted = tokio::signal::ctrl_c() => Ok(interrupted?),
    }
}

fn page_url(bookinfo: &Bookinfo) -> String {
    format!("http://{}/productpage", bookinfo.layout.page)
}

/// What to look at, and what to try.
fn invite(bookinfo: &Bookinfo, console: Console) {
    let (layout, home) = (&bookinfo.layout, &bookinfo.home);
    let flags = format!("--credentials {} --mesh-endpoint {}", home.credentials().display(), layout.mesh);
    let routes = home.examples().join("routes");
    console.heading(&page_url(bookinfo));
    console.line("  Reload the page: reviews answer with no stars (v1), black stars (v2), red stars (v3).");
    console.heading("Try");
    for (what, command) in [
        ("all to v1", format!("meshstore mesh apply -f {}/all-v1.yaml {flags}", routes.display())),
        ("one in ten to v3", format!("meshstore mesh apply -f {}/reviews-90-10.yaml {flags}", routes.display())),
        ("sign in as jason", format!("meshstore mesh apply -f {}/reviews-jason-v2.yaml {flags}", routes.display())),
        ("what is stored", format!("etcdctl --endpoints {} get --prefix --keys-only /mesh/", layout.etcd)),
    ] {
        console.line(&format!("  {what}\n    {command}", what = console.bold(what)));
    }
    console.heading("Look");
    console.line(&format!("  logs and access logs  {}", home.logs().display()));
    for pod in &layout.pods {
        console.line(&format!("  {:<21} http://{}/metrics", format!("{} metrics", pod.workload.name()), pod.admin));
    }
    console.line("\n  Ctrl-C ends it all.");
}

/// Opens the page where there is a desktop; best effort.
fn open_browser(url: &str) {
    let desktop =
        ["DISPLAY", "WAYLAND_DISPLAY"].iter().any(|name| env::var_os(name).is_some_and(|value| !value.is_empty()));
    if desktop {
        let opener = std::process::Command::new("xdg-open")
            .arg(url)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        // Without an opener the address printed above is all there is to do.
        drop(opener);
    }
}

/// Where the demo's files are.
#[derive(Debug)]
enum Folder {
    /// Removed when dropped.
    Temporary(tempfile::TempDir),
    /// The user's own, kept.
    Given(PathBuf),
}

impl Folder {
    fn open(given: Option<PathBuf>) -> anyhow::Result<Self> {
        let Some(path) = given else {
            let folder = tempfile::Builder::new().prefix("meshstore-demo-").tempdir();
            return Ok(Self::Temporary(folder.context("cannot make a temporary folder")?));
        };
        fs::create_dir_all(&path).with_context(|| format!("cannot make {}", path.display()))?;
        let mut entries = fs::read_dir(&path).with_context(|| format!("cannot read {}", path.display()))?;
        if entries.next().is_some() {
            bail!("{} is not empty: the demo starts from nothing; choose another folder", path.display());
        }
        Ok(Self::Given(path.canonicalize().with_context(|| format!("cannot read {}", path.display()))?))
    }

    fn path(&self) -> &Path {
        match self {
            Self::Temporary(folder) => folder.path(),
            Self::Given(path) => path,
        }
    }

    /// Leaves the files for whoever looks into a failure.
    fn keep(self, console: Console) {
        let path = match self {
            Self::Temporary(folder) => folder.keep(),
            Self::Given(path) => path,
        };
        console.line(&format!("  files kept for a look: {}", path.display()));
    }
}
