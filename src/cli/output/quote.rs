//! Bytes as text that shows every byte.

use std::fmt::Write;

/// `\x66\x6f`: each byte.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "\\x{byte:02x}");
        text
    })
}

/// A quoted string as Go's `%q` writes it.
pub(crate) fn quoted(bytes: &[u8]) -> String {
    let mut text = String::from("\"");
    for chunk in bytes.utf8_chunks() {
        chunk.valid().chars().for_each(|c| push(&mut text, c));
        text.push_str(&hex(chunk.invalid()));
    }
    text.push('"');
    text
}

fn push(text: &mut String, c: char) {
    let escape = match c {
        '"' => "\\\"",
        '\\' => "\\\\",
        '\u{7}' => "\\a",
        '\u{8}' => "\\b",
        '\u{c}' => "\\f",
        '\n' => "\\n",
        '\r' => "\\r",
        '\t' => "\\t",
        '\u{b}' => "\\v",
        c if c.is_ascii_control() => {
            text.push_str(&hex(&[c as u8]));
            return;
        }
        c if c.is_control() => {
            let _ = write!(text, "\\u{:04x}", u32::from(c));
            return;
        }
        c => {
            text.push(c);
            return;
        }
    };
    text.push_str(escape);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_is_shown() {
        let cases: [(&[u8], &str); 6] = [
            (b"foo", r#""foo""#),
            (b"a\"b\\c", r#""a\"b\\c""#),
            (b"\n\t\0\x7f", r#""\n\t\x00\x7f""#),
            ("ü→".as_bytes(), r#""ü→""#),
            (b"a\xff\xfeb", r#""a\xff\xfeb""#),
            ("\u{85}".as_bytes(), r#""\u0085""#),
        ];
        for (bytes, expected) in cases {
            assert_eq!(quoted(bytes), expected);
        }
        assert_eq!(hex(b"fo"), r"\x66\x6f");
    }
}
