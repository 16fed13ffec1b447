//! `mesh apply|get|delete|status`: the mesh API from the command line.

mod files;
mod render;

pub(crate) use render::{pretty, yaml};

use super::failure::{Exit, Failure};
use client::{
    Client, ClientError, Config,
    mesh::{ApplyRequest, Change, DeleteRequest, GetRequest, Problem, ResourceName},
};
use std::{
    io::{self, Write},
    net::SocketAddr,
    path::{Path, PathBuf},
};
use tls::{Credentials, Expect};
use types::{Namespace, Revision, ServiceAccount, SpiffeId, TrustDomain};

/// Where the mesh API is, and who asks.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Connection")]
pub(crate) struct Administration {
    /// The server's mesh port
    #[arg(long, value_name = "HOST:PORT", env = "MESHSTORE_MESH_ENDPOINT", default_value = "127.0.0.1:15012")]
    mesh_endpoint: String,
    /// Folder with `admin.crt`, `admin.key` and `ca.crt`, as `meshstore cluster bootstrap` wrote it
    #[arg(long, value_name = "DIR", env = "MESHSTORE_CREDENTIALS")]
    credentials: Option<PathBuf>,
}

/// Where a server listens for the mesh by default.
pub(crate) fn default_mesh_address() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 15012))
}

/// Who every server of the mesh is.
pub(crate) fn server_id(trust_domain: TrustDomain) -> SpiffeId {
    let namespace = Namespace::parse("meshstore-system").expect("a namespace");
    SpiffeId::new(trust_domain, namespace, ServiceAccount::parse("server").expect("a service account"))
}

impl Administration {
    /// The first of the mesh ports that are named.
    pub(crate) fn first_endpoint(&self) -> String {
        self.mesh_endpoint.split(',').next().unwrap_or_default().to_owned()
    }

    /// A client with the administrator's certificate, of a server that proves to be one of the mesh's.
    pub(crate) fn client(&self) -> Result<Client, Failure> {
        let folder = self.credentials.as_ref().ok_or_else(|| {
            let failure = Failure::bad_args("the mesh API wants the administrator's credentials");
            failure.next(
                "name their folder by --credentials or MESHSTORE_CREDENTIALS; `meshstore cluster bootstrap` writes it",
            )
        })?;
        let file = |name| folder.join(name);
        let credentials = Credentials::from_files(&file("admin.crt"), &file("admin.key"), &file("ca.crt"));
        let credentials = credentials.map_err(|error| Failure::bad_args(format!("--credentials: {error}")))?;
        let server = server_id(credentials.trust_domain());
        let tls = tls::client_config(&credentials, Expect::OneOf(vec![server]), tls::H2);
        let endpoints = self.mesh_endpoint.split(',').map(str::to_owned).collect();
        let config = Config { endpoints, tls: Some(tls), ..Config::default() };
        Client::connect(&config).map_err(|error| Failure::bad_args(error.to_string()))
    }
}

/// Configuration of the mesh, and what its proxies run.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Mesh {
    /// Stores resources, all of them or none
    #[command(after_help = "Examples:
  meshstore mesh apply -f examples/bookinfo/
  meshstore mesh apply -f services.yaml -f routes.yaml --dry-run
  generate-routes | meshstore mesh apply -f -")]
    Apply(ApplyArgs),
    /// Prints resources
    #[command(after_help = "Examples:
  meshstore mesh get virtualservices
  meshstore mesh get vs reviews -o yaml
  meshstore mesh get all -A -o wide")]
    Get(GetArgs),
    /// Deletes resources, all of them or none
    #[command(after_help = "Examples:
  meshstore mesh delete virtualservice reviews
  meshstore mesh delete -f examples/bookinfo/")]
    Delete(DeleteArgs),
    /// Prints what each proxy has acknowledged and refused
    #[command(after_help = "Example:\n  meshstore mesh status")]
    Status(StatusArgs),
}

#[derive(Debug, clap::Args)]
pub(crate) struct ApplyArgs {
    /// YAML or JSON file, folder of them, or - for standard input; may be repeated
    #[arg(short, long = "filename", value_name = "FILE|DIR|-", required = true)]
    filenames: Vec<PathBuf>,
    /// Check only, and store nothing
    #[arg(long)]
    dry_run: bool,
    /// Namespace of resources that name none
    #[arg(short, long, default_value = "default")]
    namespace: String,
    #[command(flatten)]
    administration: Administration,
}

#[derive(Debug, clap::Args)]
pub(crate) struct GetArgs {
    /// Kind, in any of its names: virtualservice, virtualservices, vs; or all
    kind: String,
    /// Name; all where it is left out
    name: Option<String>,
    /// Namespace
    #[arg(short, long, default_value = "default", conflicts_with = "all_namespaces")]
    namespace: String,
    /// All namespaces
    #[arg(short = 'A', long)]
    all_namespaces: bool,
    /// Store revision to read at; 0 is the latest
    #[arg(long, default_value_t = 0)]
    rev: i64,
    /// How to print them
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    output: Output,
    #[command(flatten)]
    administration: Administration,
}

#[derive(Debug, clap::Args)]
pub(crate) struct DeleteArgs {
    /// Kind, and then the names
    #[arg(required_unless_present = "filenames", conflicts_with = "filenames", num_args = 2.., value_names = ["KIND", "NAME"])]
    names: Vec<String>,
    /// Delete what these files name
    #[arg(short, long = "filename", value_name = "FILE|DIR|-")]
    filenames: Vec<PathBuf>,
    /// Namespace
    #[arg(short, long, default_value = "default")]
    namespace: String,
    #[command(flatten)]
    administration: Administration,
}

#[derive(Debug, clap::Args)]
pub(crate) struct StatusArgs {
    /// How to print it
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    output: Output,
    #[command(flatten)]
    administration: Administration,
}

/// A format of `--output`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Output {
    /// Columns
    Table,
    /// More columns
    Wide,
    /// YAML, ready to be applied again
    Yaml,
    /// JSON
    Json,
}

impl Mesh {
    pub(crate) async fn run(self) -> Result<(), Failure> {
        match self {
            Self::Apply(arguments) => arguments.run().await,
            Self::Get(arguments) => arguments.run().await,
            Self::Delete(arguments) => arguments.run().await,
            Self::Status(arguments) => arguments.run().await,
        }
    }
}

/// Of the mesh API's errors, those that have a better next step than the store's.
fn failed(error: ClientError) -> Failure {
    let next = match &error {
        ClientError::Unavailable { .. } => "is the server running there? name another by --mesh-endpoint",
        ClientError::Uncertain { .. } => "apply it again: what is stored already stays as it is",
        ClientError::Denied { .. } => "are these the administrator's credentials of this cluster?",
        _ => return error.into(),
    };
    Failure::new(Exit::Error, error.to_string()).next(next)
}

impl ApplyArgs {
    async fn run(self) -> Result<(), Failure> {
        let sources = files::collect(&self.filenames)?;
        let request = ApplyRequest { sources, dry_run: self.dry_run, default_namespace: self.namespace };
        let answer = self.administration.client()?.mesh_apply(request).await.map_err(failed)?;
        refuse(&answer.problems, "nothing was applied")?;
        if answer.changes.is_empty() {
            return Err(nothing_named("apply"));
        }
        let note = if self.dry_run { " (dry run)" } else { "" };
        changes(&answer.changes, answer.revision, note)
    }
}

impl DeleteArgs {
    async fn run(self) -> Result<(), Failure> {
        let sources = files::collect(&self.filenames)?;
        let mut words = self.names.into_iter();
        let kind = words.next().unwrap_or_default();
        let resource = |name| ResourceName { kind: kind.clone(), namespace: self.namespace.clone(), name };
        let names = words.map(resource).collect();
        let request = DeleteRequest { names, sources, default_namespace: self.namespace.clone() };
        let answer = self.administration.client()?.mesh_delete(request).await.map_err(failed)?;
        refuse(&answer.problems, "nothing was deleted")?;
        if answer.changes.is_empty() {
            return Err(nothing_named("delete"));
        }
        changes(&answer.changes, answer.revision, "")
    }
}

impl GetArgs {
    async fn run(self) -> Result<(), Failure> {
        if self.rev != 0 && Revision::new(self.rev).is_none() {
            return Err(Failure::bad_args(format!("{} is not a revision", self.rev)));
        }
        let one = self.name.is_some();
        let request = GetRequest {
            kind: self.kind,
            namespace: if self.all_namespaces { String::new() } else { self.namespace },
            name: self.name.unwrap_or_default(),
            revision: self.rev,
        };
        let sought = request.name.clone();
        let place = if self.all_namespaces { String::new() } else { format!(" in namespace {}", request.namespace) };
        let answer = self.administration.client()?.mesh_get(request).await.map_err(failed)?;
        if answer.resources.is_empty() {
            if one {
                let failure = Failure::new(Exit::Error, format!("{sought} not found"));
                return Err(failure.next("see `meshstore mesh get all -A`"));
            }
            writeln!(io::stderr(), "No resources found{place}")?;
        }
        render::resources(&answer.resources, self.output, one, &mut io::stdout().lock())
    }
}

impl StatusArgs {
    async fn run(self) -> Result<(), Failure> {
        let answer = self.administration.client()?.mesh_proxy_status().await.map_err(failed)?;
        render::proxies(&answer, self.output, &mut io::stdout().lock())
    }
}

/// Tells the problems one a line, as compilers do.
fn refuse(problems: &[Problem], outcome: &str) -> Result<(), Failure> {
    if problems.is_empty() {
        return Ok(());
    }
    let mut stderr = io::stderr().lock();
    for problem in problems {
        writeln!(stderr, "{}", render::problem(problem))?;
    }
    let count = if problems.len() == 1 { "1 problem".to_owned() } else { format!("{} problems", problems.len()) };
    Err(Failure::new(Exit::Error, format!("{count}, {outcome}")))
}

/// More likely what should have written the files has failed.
fn nothing_named(verb: &str) -> Failure {
    Failure::new(Exit::InvalidInput, format!("-f: there are no resources to {verb}"))
}

fn changes(changes: &[Change], revision: i64, note: &str) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    for change in changes {
        writeln!(stdout, "{}{note}", render::change(change))?;
    }
    if revision > 0 {
        writeln!(stdout, "revision {revision}")?;
    }
    Ok(())
}

/// What a path is called in messages.
fn shown(path: &Path) -> String {
    path.display().to_string()
}
