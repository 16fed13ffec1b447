//! `--auth-token`: `simple`, or `jwt` and its options, as etcd writes them.

use std::path::PathBuf;

use server::{JwtConfig, TokenConfig};

use crate::cli::duration;

/// Reads `simple` or `jwt,sign-method=…,pub-key=FILE,priv-key=FILE,ttl=TIME`.
pub(crate) fn parse(text: &str) -> Result<TokenConfig, String> {
    let mut words = text.split(',');
    match words.next() {
        Some("simple") => words.next().map_or(Ok(TokenConfig::Simple), |_| Err("simple has no options".to_owned())),
        Some("jwt") => jwt(words).map(TokenConfig::Jwt),
        _ => Err(format!("{text:?} is not simple, or jwt with its options")),
    }
}

fn jwt<'a>(options: impl Iterator<Item = &'a str>) -> Result<JwtConfig, String> {
    let (mut method, mut public_key, mut private_key, mut ttl) = (None, None, None, None);
    for option in options {
        let (name, value) = option.split_once('=').ok_or_else(|| format!("{option:?} is not NAME=VALUE"))?;
        let repeated = match name {
            "sign-method" => method.replace(value.parse()?).is_some(),
            "pub-key" => public_key.replace(PathBuf::from(value)).is_some(),
            "priv-key" => private_key.replace(PathBuf::from(value)).is_some(),
            "ttl" => ttl.replace(duration::parse(value)?).is_some(),
            _ => return Err(format!("jwt has no option {name:?}: sign-method, pub-key, priv-key and ttl")),
        };
        if repeated {
            return Err(format!("{name} is given twice"));
        }
    }
    let config = JwtConfig::new(method.ok_or("jwt needs its sign-method")?);
    let ttl = ttl.unwrap_or(config.ttl);
    Ok(JwtConfig { public_key, private_key, ttl, ..config })
}

#[cfg(test)]
mod tests {
    use super::*;
    use server::SignMethod;
    use std::time::Duration;

    #[test]
    fn tokens_are_written_as_in_etcd() {
        assert_eq!(parse("simple"), Ok(TokenConfig::Simple));
        let rs512 = JwtConfig::new(SignMethod::RS512);
        assert_eq!(parse("jwt,sign-method=RS512"), Ok(TokenConfig::Jwt(rs512.clone())));
        let whole = JwtConfig {
            public_key: Some("a.pub".into()),
            private_key: Some("a".into()),
            ttl: Duration::from_mins(10),
            ..rs512
        };
        let text = "jwt,pub-key=a.pub,priv-key=a,sign-method=RS512,ttl=10m";
        assert_eq!(parse(text), Ok(TokenConfig::Jwt(whole)));
        for text in [
            "",
            "simple,ttl=1s",
            "jwt",
            "jwt,sign-method=none",
            "jwt,sign-method=RS512,ttl",
            "opaque",
            "jwt,sign-method=RS512,sign-method=RS256",
            "jwt,sign-method=RS512,key=a",
        ] {
            assert!(parse(text).is_err(), "{text:?}");
        }
    }
}
