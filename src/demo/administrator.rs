//! The demo as the cluster's administrator: it applies configuration by the mesh API, as any program could.
//!
//! Owns: one client, authenticated by the credential that bootstrap made.

use std::{net::SocketAddr, path::Path};

use anyhow::{Context, bail};
use client::{
    Client, Config,
    mesh::{ApplyRequest, GetRequest, Problem, Source},
};
use tls::{Credentials, Expect, H2};
use types::SpiffeId;

use super::layout::{NAMESPACE, TRUST_DOMAIN};

/// See the module.
#[derive(Clone, Debug)]
pub(crate) struct Administrator {
    client: Client,
}

impl Administrator {
    /// `credentials`: the folder that bootstrap wrote; `mesh`: the server's mesh port. Connects on first use.
    pub(crate) fn new(credentials: &Path, mesh: SocketAddr) -> anyhow::Result<Self> {
        let file = |name| credentials.join(name);
        let credentials = Credentials::from_files(&file("admin.crt"), &file("admin.key"), &file("ca.crt"))
            .context("cannot read the administrator's credential")?;
        let server = SpiffeId::parse(&format!("spiffe://{TRUST_DOMAIN}/ns/meshstore-system/sa/server"))?;
        let tls = tls::client_config(&credentials, Expect::OneOf(vec![server]), H2);
        let config = Config { tls: Some(tls), ..Config::new([format!("https://{mesh}")]) };
        Ok(Self { client: Client::connect(&config)? })
    }

    /// Whether the mesh API answers.
    pub(crate) async fn is_served(&self) -> bool {
        let services = GetRequest { kind: "services".to_owned(), ..GetRequest::default() };
        self.client.mesh_get(services).await.is_ok()
    }

    /// Applies one file's documents in one transaction.
    pub(crate) async fn apply(&self, name: &str, text: String) -> anyhow::Result<()> {
        let source = Source { name: name.to_owned(), text };
        let request = ApplyRequest { sources: vec![source], dry_run: false, default_namespace: NAMESPACE.to_owned() };
        let answer = self.client.mesh_apply(request).await.with_context(|| format!("cannot apply {name}"))?;
        if !answer.problems.is_empty() {
            let problems: Vec<_> = answer.problems.iter().map(describe).collect();
            bail!("nothing was applied:\n{}", problems.join("\n"));
        }
        Ok(())
    }
}

fn describe(problem: &Problem) -> String {
    format!("{}:{}: {}: {} {}", problem.source, problem.line, problem.field, problem.message, problem.suggestion)
}
