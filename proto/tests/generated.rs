//! The checked-in code and descriptors are what the `.proto` files generate. `UPDATE_PROTO=1 cargo test -p meshstore-proto` rewrites it.

use std::{collections::BTreeMap, error::Error, fs, path::Path};

use prost::Message;

const FILES: [&str; 11] = [
    "etcd/auth.proto",
    "etcd/election.proto",
    "etcd/kv.proto",
    "etcd/lock.proto",
    "etcd/rpc.proto",
    "istio/ca.proto",
    "meshstore/ca.proto",
    "meshstore/member.proto",
    "meshstore/mesh.proto",
    "meshstore/peer.proto",
    "meshstore/upgrade.proto",
];

/// What [`proto::ETCD_DESCRIPTORS`] describes.
const ETCD_FILES: [&str; 5] =
    ["etcd/auth.proto", "etcd/election.proto", "etcd/kv.proto", "etcd/lock.proto", "etcd/rpc.proto"];

#[test]
fn checked_in_code_is_fresh() -> Result<(), Box<dyn Error>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let checked_in = root.join("src/gen");
    let generated = tempfile::tempdir()?;
    let descriptors = protox::compile(FILES, [root.join("proto")])?;
    let offer = ".meshstore.peer.v1.ImageRequest.step.offer";
    tonic_prost_build::configure().bytes(".").boxed(offer).out_dir(generated.path()).compile_fds(descriptors)?;
    let mut etcd = protox::Compiler::new([root.join("proto")])?;
    let etcd = etcd.include_source_info(false).include_imports(true).open_files(ETCD_FILES)?.file_descriptor_set();
    fs::write(generated.path().join("etcd.binpb"), etcd.encode_to_vec())?;

    if std::env::var_os("UPDATE_PROTO").is_some() {
        fs::remove_dir_all(&checked_in)?;
        fs::create_dir_all(&checked_in)?;
        for (name, content) in read_all(generated.path())? {
            fs::write(checked_in.join(name), content)?;
        }
    }
    let (expected, actual) = (read_all(generated.path())?, read_all(&checked_in)?);
    assert!(expected == actual, "proto/src/gen is stale: run UPDATE_PROTO=1 cargo test -p meshstore-proto");
    Ok(())
}

fn read_all(folder: &Path) -> Result<BTreeMap<String, Vec<u8>>, Box<dyn Error>> {
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str()).ok_or("file name is not UTF-8")?;
        files.insert(name.to_owned(), fs::read(&path)?);
    }
    Ok(files)
}
