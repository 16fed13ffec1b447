//! A certificate that a server makes for itself, where somebody wants TLS and has no authority.
//!
//! - Nobody vouches for it: clients take whoever answers, or were given its file.
//! - It is kept, so that they may go on trusting that file, until its last month or until the server has another host.
//! - Its key counts only beside it, and is written first.

use std::{
    fs::{self, Permissions},
    io,
    os::unix::fs::{DirBuilderExt, PermissionsExt},
    path::Path,
    time::{Duration, SystemTime},
};

use rcgen::{CertificateParams, DnType, ExtendedKeyUsagePurpose, KeyPair};
use rustls::{
    client::verify_server_name,
    pki_types::{ServerName, UnixTime},
    server::ParsedCertificate,
};
use tracing::info;
use zeroize::Zeroizing;

use super::{ServerFiles, certified, trusted::check_time};
use crate::{CredentialsError, pem};

/// So long before its end it is made anew.
const RENEWED_BEFORE: Duration = Duration::from_hours(30 * 24);

/// The files of such a certificate, `cert.pem` and `key.pem` in `folder`; made if there are none, or none of use.
///
/// `hosts`: names and addresses at which the server is reached. `validity`: how long a new one is good.
///
/// # Errors
/// If a host is neither a name nor an address, or the files cannot be written.
pub fn self_signed(folder: &Path, hosts: &[String], validity: Duration) -> Result<ServerFiles, CredentialsError> {
    let files = ServerFiles::new(folder.join("cert.pem"), folder.join("key.pem"));
    if is_of_use(&files, hosts).unwrap_or(false) {
        return Ok(files);
    }
    let failed = |error: rcgen::Error| CredentialsError::SelfSigned(error.to_string());
    let mut params = CertificateParams::new(hosts).map_err(failed)?;
    params.distinguished_name.push(DnType::OrganizationName, "meshstore");
    params.extended_key_usages.push(ExtendedKeyUsagePurpose::ServerAuth);
    let now = SystemTime::now();
    (params.not_before, params.not_after) = (now.into(), (now + validity).into());
    let key = KeyPair::generate().map_err(failed)?;
    let certificate = params.self_signed(&key).map_err(failed)?;

    let written = write(folder, &files, &certificate.pem(), &Zeroizing::new(key.serialize_pem()));
    written.map_err(|source| CredentialsError::Write { path: folder.to_owned(), source })?;
    info!(cert = %files.cert.display(), ?hosts, "made a certificate for TLS, for which nobody vouches");
    Ok(files)
}

fn is_of_use(files: &ServerFiles, hosts: &[String]) -> Result<bool, CredentialsError> {
    certified(&files.cert, &files.key)?;
    let chain = pem::certificate_file(&files.cert)?;
    let Some(certificate) = chain.first() else { return Ok(false) };
    let Ok(parsed) = ParsedCertificate::try_from(certificate) else { return Ok(false) };
    let bears = |host: &String| {
        ServerName::try_from(host.as_str()).is_ok_and(|name| verify_server_name(&parsed, &name).is_ok())
    };
    let then = UnixTime::since_unix_epoch(Duration::from_secs(UnixTime::now().as_secs()) + RENEWED_BEFORE);
    Ok(hosts.iter().all(bears) && check_time(certificate, then).is_ok())
}

fn write(folder: &Path, files: &ServerFiles, certificate: &str, key: &str) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    match fs::remove_file(&files.cert) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    pem::write_private(&files.key, key.as_bytes())?;
    pem::write_private(&files.cert, certificate.as_bytes())?;
    // Clients may be given it.
    fs::set_permissions(&files.cert, Permissions::from_mode(0o644))
}
