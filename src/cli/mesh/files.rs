//! The documents that `-f` names.
//!
//! - A folder stands for its own `*.yaml`, `*.yml` and `*.json` files, sorted by name; folders inside it are not read.

use super::shown;
use crate::cli::failure::{Exit, Failure};
use client::mesh::Source;
use std::{
    fs,
    io::{self, Read},
    path::{Path, PathBuf},
};

/// Reads all of them, in order.
pub(super) fn collect(names: &[PathBuf]) -> Result<Vec<Source>, Failure> {
    let mut sources = Vec::new();
    for name in names {
        if name.as_os_str() == "-" {
            let mut text = String::new();
            io::stdin().lock().read_to_string(&mut text).map_err(|error| unreadable(Path::new("stdin"), &error))?;
            sources.push(Source { name: "stdin".to_owned(), text });
        } else if name.is_dir() {
            for file in folder(name)? {
                sources.push(read(&file)?);
            }
        } else {
            sources.push(read(name)?);
        }
    }
    Ok(sources)
}

fn folder(path: &Path) -> Result<Vec<PathBuf>, Failure> {
    let entries = fs::read_dir(path).and_then(|entries| entries.map(|entry| Ok(entry?.path())).collect());
    let mut files: Vec<PathBuf> = entries.map_err(|error| unreadable(path, &error))?;
    files.retain(|file| is_document(file) && file.is_file());
    files.sort();
    if files.is_empty() {
        let failure = Failure::new(Exit::InvalidInput, format!("-f: {}: no *.yaml, *.yml or *.json file", shown(path)));
        return Err(failure.next("folders inside it are not read: name each by -f"));
    }
    Ok(files)
}

fn is_document(path: &Path) -> bool {
    path.extension().and_then(|extension| extension.to_str()).is_some_and(|one| ["yaml", "yml", "json"].contains(&one))
}

fn read(path: &Path) -> Result<Source, Failure> {
    let text = fs::read_to_string(path).map_err(|error| unreadable(path, &error))?;
    Ok(Source { name: shown(path), text })
}

fn unreadable(path: &Path, error: &io::Error) -> Failure {
    Failure::new(Exit::Io, format!("-f: cannot read {}: {error}", shown(path)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_stands_for_its_documents_in_order() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["b.yaml", "a.yml", "c.json", "notes.md", "d.yaml.bak"] {
            fs::write(folder.path().join(name), name).unwrap();
        }
        fs::create_dir(folder.path().join("inner.yaml")).unwrap();
        let one = folder.path().join("notes.md");
        let sources = collect(&[folder.path().to_owned(), one]).unwrap();
        let texts: Vec<_> = sources.iter().map(|source| source.text.as_str()).collect();
        assert_eq!(texts, ["a.yml", "b.yaml", "c.json", "notes.md"]);
        assert!(sources[0].name.ends_with("/a.yml"), "{}", sources[0].name);
    }

    #[test]
    fn what_is_not_there_is_said() {
        let folder = tempfile::tempdir().unwrap();
        let missing = folder.path().join("missing.yaml");
        for path in [[missing], [folder.path().to_owned()]] {
            let failure = collect(&path).unwrap_err();
            assert!(failure.text.contains(&shown(&path[0])), "{failure}");
        }
    }
}
