//! The example configuration, as published under `examples/`, carried in the binary.
//!
//! - The files are applied as they are, except that the Gateway's port follows `--port`.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use anyhow::Context;

/// A file's name and text.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Example {
    pub(crate) name: &'static str,
    pub(crate) text: &'static str,
}

macro_rules! example {
    ($name:literal) => {
        Example { name: $name, text: include_str!(concat!("../../examples/bookinfo/", $name)) }
    };
}

/// What the mesh starts with.
pub(crate) const BASE: [Example; 4] = [
    example!("services.yaml"),
    example!("destination-rules.yaml"),
    example!("gateway.yaml"),
    example!("peer-authentication.yaml"),
];
/// Every request to reviews goes to v1, and so for the other services.
pub(crate) const ALL_V1: Example = example!("routes/all-v1.yaml");
/// Nine in ten to v1, one to v3.
pub(crate) const REVIEWS_90_10: Example = example!("routes/reviews-90-10.yaml");
/// User jason to v2, everybody else to v1.
pub(crate) const REVIEWS_JASON_V2: Example = example!("routes/reviews-jason-v2.yaml");
/// Ratings answer user jason two seconds late.
pub(crate) const RATINGS_DELAY: Example = example!("routes/ratings-delay.yaml");
/// Ratings refuse user jason with 500.
pub(crate) const RATINGS_ABORT: Example = example!("routes/ratings-abort.yaml");
/// Every request to reviews goes to v3.
pub(crate) const REVIEWS_V3: Example = example!("routes/reviews-v3.yaml");

const ROUTES: [Example; 6] = [ALL_V1, REVIEWS_90_10, REVIEWS_JASON_V2, RATINGS_DELAY, RATINGS_ABORT, REVIEWS_V3];
/// As `gateway.yaml` has it.
const GATEWAY_PORT: &str = "number: 8080";

/// Where the examples were written to.
#[derive(Clone, Debug)]
pub(crate) struct Folder {
    root: PathBuf,
}

impl Folder {
    /// Writes all examples below `root`, the Gateway's port being that of `page`.
    pub(crate) fn write(root: &Path, page: SocketAddr) -> anyhow::Result<Self> {
        for example in BASE.iter().chain(&ROUTES) {
            let path = root.join(example.name);
            let folder = path.parent().context("an example has a folder")?;
            let text = example.text.replace(GATEWAY_PORT, &format!("number: {}", page.port()));
            let written = fs::create_dir_all(folder).and_then(|()| fs::write(&path, text));
            written.with_context(|| format!("cannot write {}", path.display()))?;
        }
        Ok(Self { root: root.to_owned() })
    }

    /// An example's text as written: the page's port in its place.
    pub(crate) fn read(&self, example: Example) -> anyhow::Result<String> {
        let path = self.root.join(example.name);
        fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_gateway_port_stands_once_and_follows_the_page() {
        let gateway = BASE.iter().find(|example| example.name == "gateway.yaml").unwrap();
        assert_eq!(gateway.text.matches(GATEWAY_PORT).count(), 1);
        let others = BASE.iter().chain(&ROUTES).filter(|example| example.name != "gateway.yaml");
        assert!(others.into_iter().all(|example| !example.text.contains(GATEWAY_PORT)));

        let folder = tempfile::tempdir().unwrap();
        let written = Folder::write(folder.path(), "127.0.0.1:9999".parse().unwrap()).unwrap();
        let text = written.read(*gateway).unwrap();
        assert!(text.contains("number: 9999") && !text.contains(GATEWAY_PORT), "{text}");
    }
}
