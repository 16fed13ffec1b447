//! The checked-in code is what the `.proto` files generate. `UPDATE_PROTO=1 cargo test -p meshstore-proto` rewrites it.

use std::{collections::BTreeMap, error::Error, fs, path::Path};

const FILES: [&str; 8] = [
    "etcd/auth.proto",
    "etcd/election.proto",
    "etcd/kv.proto",
    "etcd/lock.proto",
    "etcd/rpc.proto",
    "istio/ca.proto",
    "meshstore/ca.proto",
    "meshstore/mesh.proto",
];

#[test]
fn checked_in_code_is_fresh() -> Result<(), Box<dyn Error>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let checked_in = root.join("src/gen");
    let generated = tempfile::tempdir()?;
    let descriptors = protox::compile(FILES, [root.join("proto")])?;
    tonic_prost_build::configure().bytes(".").out_dir(generated.path()).compile_fds(descriptors)?;

    if std::env::var_os("UPDATE_PROTO").is_some() {
        fs::remove_dir_all(&checked_in)?;
        fs::create_dir_all(&checked_in)?;
        for (name, text) in read_all(generated.path())? {
            fs::write(checked_in.join(name), text)?;
        }
    }
    let (expected, actual) = (read_all(generated.path())?, read_all(&checked_in)?);
    assert!(expected == actual, "proto/src/gen is stale: run UPDATE_PROTO=1 cargo test -p meshstore-proto");
    Ok(())
}

fn read_all(folder: &Path) -> Result<BTreeMap<String, String>, Box<dyn Error>> {
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str()).ok_or("file name is not UTF-8")?;
        files.insert(name.to_owned(), fs::read_to_string(&path)?);
    }
    Ok(files)
}
