//! PEM: certificates and one private key, from text or files, and back to text.

use std::{
    fs,
    io::{self, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::Path,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer, pem::PemObject};
use zeroize::Zeroizing;

use crate::CredentialsError;

/// All certificates of `text`, in order; at least one. `origin` names the text in errors.
pub(crate) fn certificates(text: &[u8], origin: &str) -> Result<Vec<CertificateDer<'static>>, CredentialsError> {
    let problem = |problem| CredentialsError::Pem { origin: origin.to_owned(), problem };
    let certificates = CertificateDer::pem_slice_iter(text)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|_| problem("is not well-formed PEM"))?;
    if certificates.is_empty() { Err(problem("holds no CERTIFICATE")) } else { Ok(certificates) }
}

/// The one private key of `text`: PKCS#8, SEC1 or PKCS#1.
pub(crate) fn private_key(text: &[u8], origin: &str) -> Result<PrivateKeyDer<'static>, CredentialsError> {
    let problem = "holds no PRIVATE KEY";
    PrivateKeyDer::from_pem_slice(text).map_err(|_| CredentialsError::Pem { origin: origin.to_owned(), problem })
}

pub(crate) fn certificate_file(path: &Path) -> Result<Vec<CertificateDer<'static>>, CredentialsError> {
    certificates(&read(path)?, &path.display().to_string())
}

pub(crate) fn private_key_file(path: &Path) -> Result<PrivateKeyDer<'static>, CredentialsError> {
    let text = Zeroizing::new(read(path)?);
    private_key(&text, &path.display().to_string())
}

/// The lists of revoked certificates of a file, each in PEM, or one in DER.
pub(crate) fn revocation_file(path: &Path) -> Result<Vec<CertificateRevocationListDer<'static>>, CredentialsError> {
    let content = read(path)?;
    if !content.starts_with(b"-----") {
        return Ok(vec![content.into()]);
    }
    let lists = CertificateRevocationListDer::pem_slice_iter(&content).collect::<Result<Vec<_>, _>>();
    let origin = path.display().to_string();
    lists.map_err(|_| CredentialsError::Pem { origin, problem: "is not well-formed PEM" })
}

/// Refuses a key that group or others may touch.
pub(crate) fn check_key_mode(path: &Path) -> Result<(), CredentialsError> {
    let metadata = fs::metadata(path).map_err(|source| CredentialsError::Read { path: path.to_owned(), source })?;
    let mode = metadata.mode() & 0o777;
    if mode & 0o077 != 0 { Err(CredentialsError::KeyMode { path: path.to_owned(), mode }) } else { Ok(()) }
}

/// One certificate as PEM. `der`: the certificate's bytes.
pub fn certificate_pem(der: &[u8]) -> String {
    armour("CERTIFICATE", der)
}

/// A private key as PEM. `pkcs8`: the key's bytes, in PKCS#8. The text is cleared when it is dropped.
pub fn private_key_pem(pkcs8: &[u8]) -> Zeroizing<String> {
    Zeroizing::new(armour("PRIVATE KEY", pkcs8))
}

/// Writes a file for its owner alone, in the place of an older one, to stable storage.
///
/// # Errors
/// What the system says.
pub fn write_private(path: &Path, content: &[u8]) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(content)?;
    file.sync_all()
}

/// Source: RFC 7468, section 2. The text is built in one allocation, so that no part of a key is left behind.
fn armour(label: &str, bytes: &[u8]) -> String {
    const LINE_BYTES: usize = 48; // 64 characters
    let mut text = String::with_capacity(bytes.len() * 3 / 2 + 2 * label.len() + 64);
    text.extend(["-----BEGIN ", label, "-----\n"]);
    for line in bytes.chunks(LINE_BYTES) {
        STANDARD.encode_string(line, &mut text);
        text.push('\n');
    }
    text.extend(["-----END ", label, "-----\n"]);
    text
}

fn read(path: &Path) -> Result<Vec<u8>, CredentialsError> {
    fs::read(path).map_err(|source| CredentialsError::Read { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_written_is_read(der in prop::collection::vec(any::<u8>(), 1..2000)) {
            let text = certificate_pem(&der) + &certificate_pem(&der);
            let read = certificates(text.as_bytes(), "test").unwrap();
            prop_assert_eq!(read, vec![CertificateDer::from(der); 2]);
            prop_assert!(text.lines().all(|line| line.len() <= 64));
        }
    }

    #[test]
    fn a_key_is_read_as_it_is_written() {
        let key = private_key(rcgen::KeyPair::generate().unwrap().serialize_pem().as_bytes(), "test").unwrap();
        let text = private_key_pem(key.secret_der());
        assert_eq!(private_key(text.as_bytes(), "test").unwrap(), key);
    }
}
