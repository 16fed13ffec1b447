//! The crates' dependencies against the table of rooms in ARCHITECTURE.md: arrows only point up it.

use std::{collections::BTreeMap, process::Command};

use serde_json::Value;

/// Each room and the rooms it may know; the binary, last, may know all.
const ROOMS: [(&str, &[&str]); 12] = [
    ("types", &[]),
    ("proto", &[]),
    ("tls", &["types"]),
    ("engine", &["types"]),
    ("bbolt", &[]),
    ("raft", &["types", "proto", "tls", "engine"]),
    ("store", &["types", "engine"]),
    ("ca", &["types", "proto", "tls", "engine", "raft"]),
    ("client", &["types", "proto", "tls"]),
    ("control", &["types", "proto", "tls", "client"]),
    ("proxy", &["types", "proto", "tls"]),
    ("server", &["types", "proto", "tls", "engine", "bbolt", "raft", "store", "ca"]),
];
const PREFIX: &str = "meshstore-";

#[test]
fn rooms_know_only_what_the_table_allows() {
    let mut rooms = rooms_of_the_workspace();
    rooms.remove("meshstore").expect("the binary is the root package");
    // A test, which nobody depends on.
    rooms.remove("sim").expect("the simulation is a package of its own");
    for (room, allowed) in ROOMS {
        let known = rooms.remove(room).unwrap_or_else(|| panic!("there is no room {room}"));
        let forbidden: Vec<_> = known.iter().filter(|known| !allowed.contains(&known.as_str())).collect();
        assert!(forbidden.is_empty(), "{room} may not know {forbidden:?}; it may know {allowed:?}");
    }
    assert!(rooms.is_empty(), "rooms that the table does not name: {:?}", rooms.keys());
}

/// Each crate of the workspace, without its prefix, and the crates of the workspace that it depends on. Dependencies of
/// its tests count too.
fn rooms_of_the_workspace() -> BTreeMap<String, Vec<String>> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--no-deps", "--format-version", "1", "--offline", "--manifest-path"])
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"))
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("cargo metadata prints JSON");
    let packages = metadata["packages"].as_array().expect("packages are a list");
    packages.iter().map(|package| (room(&package["name"]), known(package))).collect()
}

fn known(package: &Value) -> Vec<String> {
    let dependencies = package["dependencies"].as_array().expect("dependencies are a list");
    // Only a dependency by path is of this workspace.
    dependencies.iter().filter(|one| one["path"].is_string()).map(|one| room(&one["name"])).collect()
}

fn room(name: &Value) -> String {
    let name = name.as_str().expect("a package has a name");
    name.strip_prefix(PREFIX).unwrap_or(name).to_owned()
}
