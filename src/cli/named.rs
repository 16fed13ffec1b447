//! Files that flags name: an error about one says by which flag it came.

use std::path::{Path, PathBuf};

/// Flags, each with the file that it names.
#[derive(Debug, Default)]
pub(crate) struct NamedFiles(Vec<(&'static str, PathBuf)>);

impl NamedFiles {
    /// Takes a flag's file, if it names one.
    pub(crate) fn and(mut self, flag: &'static str, file: Option<&Path>) -> Self {
        self.0.extend(file.map(|file| (flag, file.to_owned())));
        self
    }

    /// The words of an error, after the flag that named the file which is to blame for it.
    pub(crate) fn blame(&self, file: Option<&Path>, words: String) -> String {
        match file.and_then(|file| self.0.iter().find(|(_, named)| named == file)) {
            Some((flag, _)) => format!("{flag}: {words}"),
            None => words,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_flag_is_told_with_the_file_that_it_named() {
        let files = NamedFiles::default().and("--cacert", None).and("--cert", Some(Path::new("a")));
        let told = |file: Option<&str>| files.blame(file.map(Path::new), "a: holds no CERTIFICATE".to_owned());
        assert_eq!(told(Some("a")), "--cert: a: holds no CERTIFICATE");
        assert_eq!(told(Some("b")), "a: holds no CERTIFICATE");
        assert_eq!(told(None), "a: holds no CERTIFICATE");
    }
}
