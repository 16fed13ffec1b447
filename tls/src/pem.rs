//! Reading PEM: certificates and one private key, from text or files.

use std::{fs, os::unix::fs::MetadataExt, path::Path};

use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
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

/// Refuses a key that group or others may touch.
pub(crate) fn check_key_mode(path: &Path) -> Result<(), CredentialsError> {
    let metadata = fs::metadata(path).map_err(|source| CredentialsError::Read { path: path.to_owned(), source })?;
    let mode = metadata.mode() & 0o777;
    if mode & 0o077 == 0 { Ok(()) } else { Err(CredentialsError::KeyMode { path: path.to_owned(), mode }) }
}

fn read(path: &Path) -> Result<Vec<u8>, CredentialsError> {
    fs::read(path).map_err(|source| CredentialsError::Read { path: path.to_owned(), source })
}
