//! What programs do with their clients of etcd: `clients/` holds those in Python, and the one in Rust.

mod in_rust;

use std::{env, path::PathBuf, process::Command};

use crate::harness::Server;

#[tokio::test]
async fn aetcd_finds_what_it_expects_of_etcd() {
    run("with_aetcd.py", "etcd-clients").await;
}

#[tokio::test]
async fn etcd3gw_finds_what_it_expects_of_etcd() {
    run("with_etcd3gw.py", "etcd-clients").await;
}

#[tokio::test]
async fn etcd3_finds_what_it_expects_of_etcd() {
    run("with_etcd3.py", "etcd3").await;
}

/// Runs one of the programs, with the Python of that name, against a server of its own.
async fn run(program: &str, python: &str) {
    let server = Server::start().await;
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/end_to_end/clients").join(program);
    let venv = PathBuf::from(env::var("HOME").unwrap()).join(".cache/meshstore/venv").join(python);
    let output = Command::new(venv.join("bin/python")).arg(path).env("ENDPOINT", server.endpoint()).output();
    let output = output.expect("the clients are installed: scripts/setup.sh test");
    assert!(output.status.success(), "{program}:\n{}", String::from_utf8_lossy(&output.stderr));
}
