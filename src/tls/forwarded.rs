//! Client certificates that a TLS proxy forwards in a header (`config` §4, `tls.proxy`).

use rustls_pki_types::CertificateDer;

use crate::text::encode::decode_base64;

const BEGIN: &str = "-----BEGIN CERTIFICATE-----";
const END: &str = "-----END CERTIFICATE-----";

/// The first certificate in the value of such a header; `None` if there is none in a known form:
/// - PEM, percent-encoded (nginx `$ssl_client_escaped_cert`, cloud load balancers) or as it is;
/// - the DER form in base64 (haproxy `%[ssl_c_der,base64]`);
/// - the same between colons (RFC 9440 `Client-Cert`, RFC 8941 §3.3.5).
///
/// The certificate itself is not looked at.
pub fn parse(value: &[u8]) -> Option<CertificateDer<'static>> {
    let text = std::str::from_utf8(value).ok()?.trim();
    if let Some(rest) = text.strip_prefix(':') {
        return certificate(rest.strip_suffix(':')?);
    }
    // Some write a space as `+`, as in a form. In base64 a plus sign is itself, so the two can be told apart.
    let is_form = text.contains("BEGIN+CERTIFICATE");
    let decoded = if text.contains('%') || is_form { unescape(text, is_form)? } else { text.to_owned() };
    match decoded.trim_start().strip_prefix(BEGIN) {
        Some(rest) => certificate(&rest[..rest.find(END)?]),
        None => certificate(&decoded),
    }
}

/// A certificate from base64, which may be broken into lines.
fn certificate(base64: &str) -> Option<CertificateDer<'static>> {
    let digits: String = base64.chars().filter(|c| !c.is_ascii_whitespace()).collect();
    let der = decode_base64(digits.as_bytes())?;
    (!der.is_empty()).then(|| CertificateDer::from(der.to_vec()))
}

fn unescape(text: &str, is_form: bool) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [byte, tail @ ..] = rest {
        rest = tail;
        bytes.push(match byte {
            b'%' => {
                let (digits, tail) = rest.split_at_checked(2)?;
                rest = tail;
                let digit = |b: u8| char::from(b).to_digit(16);
                (digit(digits[0])? << 4 | digit(digits[1])?) as u8
            }
            b'+' if is_form => b' ',
            byte => *byte,
        });
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    // Bytes whose base64 has plus signs and slashes.
    const DER: [u8; 6] = [0xfb, 0xff, 0xbe, 0x3e, 0x3f, 0xfe];
    const BASE64: &str = "+/++Pj/+";

    fn is_read(value: &str) -> bool {
        parse(value.as_bytes()).is_some_and(|der| der.as_ref() == DER)
    }

    #[test]
    fn all_forms_are_read() {
        let pem = format!("{BEGIN}\n{BASE64}\n{END}\n");
        let escaped = pem.replace('\n', "%0A").replace(' ', "%20").replace('+', "%2B").replace('/', "%2F");
        for value in [
            BASE64.to_owned(),
            format!(":{BASE64}:"),
            pem.clone(),
            pem.replace('\n', " "),
            pem.replace('\n', "%0A").replace(' ', "%20"),
            escaped.clone(),
            escaped.replace("%20", "+"),
            escaped.to_lowercase().replace("begin", "BEGIN").replace("2b", "2B"),
            format!("{pem}{BEGIN}\nAAAA\n{END}\n"),
        ] {
            let is_lower = value.contains("certificate");
            assert_eq!(is_read(&value), !is_lower, "{value}");
        }
    }

    #[test]
    fn what_is_no_certificate_is_refused() {
        for value in [
            "",
            "::",
            ":+/++Pj/+",
            "+/++Pj/",
            "%zz",
            "%2",
            "%ff",
            "-----BEGIN CERTIFICATE-----",
            "-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----",
            "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----",
        ] {
            assert!(parse(value.as_bytes()).is_none(), "{value}");
        }
        assert!(parse(b"\xff").is_none());
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(value in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse(&value);
        }

        #[test]
        fn escapes_never_panic(value in "[-+%:A-Fa-f0-9 BEGINCRTFA]{0,80}") {
            let _ = parse(value.as_bytes());
        }
    }
}
