use super::*;
use crate::tls::ApiKey;
use proptest::prelude::*;
use std::{io::Write, process::Command, process::Stdio};

/// What openssl prints for these arguments; `None` where openssl is not installed.
fn openssl(arguments: &[&str], input: &[u8]) -> Option<Vec<u8>> {
    let mut child = Command::new("openssl")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .ok()?;
    child.stdin.take().unwrap().write_all(input).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    Some(output.stdout)
}

fn error_of(text: &[u8], password: Option<&[u8]>) -> KeyError {
    PrivateKey::parse(text, password).and_then(|key| key.signing_key()).unwrap_err()
}

#[test]
fn a_key_sealed_under_rfc1423_opens_with_its_password_alone() {
    let key = ApiKey::generate().unwrap();
    let text = seal_rfc1423(&key.to_pkcs8(), b"correct horse").unwrap();
    let shown = String::from_utf8_lossy(&text);
    assert!(shown.starts_with("-----BEGIN PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-256-CBC,"));
    let opened = PrivateKey::parse(&text, Some(b"correct horse")).unwrap();
    assert_eq!(opened.pkcs8().unwrap(), &key.to_pkcs8()[..]);
    assert_eq!(error_of(&text, None), KeyError::PasswordRequired);
    let error = error_of(&text, Some(b"wrong"));
    assert!(matches!(error, KeyError::WrongPassword | KeyError::Malformed), "{error}");
}

/// One line for each kind of key: what openssl makes it with, and what signs in the end.
#[test]
fn the_kinds_of_keys_that_openssl_makes_are_read() {
    for (arguments, scheme) in [
        (&["genpkey", "-algorithm", "ED25519"][..], "ED25519"),
        (&["genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"], "ECDSA"),
        (&["genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-384"], "ECDSA"),
        (&["genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"], "RSA"),
        // Writes an EC PARAMETERS block first, then SEC1.
        (&["ecparam", "-name", "prime256v1", "-genkey"], "ECDSA"),
        (&["genrsa", "-traditional", "2048"], "RSA"),
    ] {
        let Some(text) = openssl(arguments, b"") else { return };
        let key = PrivateKey::parse(&text, Some(b"not needed")).unwrap().signing_key().unwrap();
        assert!(format!("{:?}", key.algorithm()).contains(scheme), "{arguments:?}");
        let public = openssl(&["pkey", "-pubout", "-outform", "DER"], &text).unwrap();
        assert_eq!(key.public_key().unwrap().as_ref(), public, "{arguments:?}");
    }
}

#[test]
fn the_ways_in_which_openssl_encrypts_keys_are_read() {
    let Some(ec) = openssl(&["ecparam", "-name", "secp384r1", "-genkey", "-noout"], b"") else { return };
    let plain = PrivateKey::parse(&ec, None).unwrap().signing_key().unwrap();
    let secret: &[_] = &["-passout", "pass:secret"];
    for arguments in [
        &["ec", "-aes128"][..],
        &["ec", "-aes192"],
        &["ec", "-aes256"],
        &["ec", "-des3"],
        &["pkcs8", "-topk8"],
        &["pkcs8", "-topk8", "-v2", "aes-128-cbc", "-v2prf", "hmacWithSHA512"],
        &["pkcs8", "-topk8", "-v2", "aes-192-cbc", "-v2prf", "hmacWithSHA384"],
        &["pkcs8", "-topk8", "-v2", "des3", "-v2prf", "hmacWithSHA1"],
    ] {
        let text = openssl(&[arguments, secret].concat(), &ec).unwrap();
        let key = PrivateKey::parse(&text, Some(b"secret")).unwrap().signing_key().unwrap();
        assert_eq!(key.public_key(), plain.public_key(), "{arguments:?}");
        assert_eq!(error_of(&text, None), KeyError::PasswordRequired);
        let error = error_of(&text, Some(b"Secret"));
        assert!(matches!(error, KeyError::WrongPassword | KeyError::Malformed), "{arguments:?}: {error}");
    }
    let scrypt = openssl(&["pkcs8", "-topk8", "-scrypt", "-passout", "pass:secret"], &ec).unwrap();
    assert!(matches!(error_of(&scrypt, Some(b"secret")), KeyError::UnsupportedEncryption(_)));
}

#[test]
fn openssl_opens_what_is_sealed_here() {
    let key = ApiKey::generate().unwrap();
    let text = seal_rfc1423(&key.to_pkcs8(), b"secret").unwrap();
    // The openssl of today reads RFC 1423 headers for the traditional labels only; the content is the same.
    let text = String::from_utf8_lossy(&text).replace("PRIVATE KEY", "EC PRIVATE KEY");
    let block = &pem::parse(text.as_bytes()).blocks[0];
    let iv = block.header("DEK-Info").unwrap().split_once(',').unwrap().1.to_owned();
    let key_hex = hex(&stretch_md5(b"secret", &decode_hex(&iv).unwrap()[..8], 32));
    let arguments = ["enc", "-d", "-aes-256-cbc", "-K", &key_hex, "-iv", &iv];
    let Some(plain) = openssl(&arguments, &block.bytes) else { return };
    assert_eq!(plain, key.to_pkcs8()[..]);
}

#[test]
fn keys_that_cannot_be_used_are_named() {
    for (arguments, cause) in [
        (&["genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:1024"][..], "2048"),
        (&["genrsa", "-traditional", "1024"], "2048"),
        (&["genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-521"], "P-521"),
        (&["ecparam", "-name", "secp521r1", "-genkey"], "P-521"),
        (&["ecparam", "-name", "secp256k1", "-genkey"], "secp256k1"),
    ] {
        let Some(text) = openssl(arguments, b"") else { return };
        let error = error_of(&text, None).to_string();
        assert!(error.contains(cause), "{arguments:?}: {error}");
    }
}

#[test]
fn other_blocks_and_no_blocks_are_told_apart() {
    let block = |label: &str| pem::encode(label, &[], b"0");
    assert_eq!(error_of(b"", None), KeyError::Missing);
    assert_eq!(error_of(&block("CERTIFICATE"), None), KeyError::Missing);
    assert_eq!(error_of(&block("PUBLIC KEY"), None), KeyError::UnsupportedBlock);
    assert_eq!(error_of(&block("PRIVATE KEY"), None), KeyError::Malformed);
    let key = ApiKey::generate().unwrap();
    let text = [
        &block("CERTIFICATE")[..],
        &pem::encode("PRIVATE KEY", &[], &key.to_pkcs8())[..],
        &block("JUNK")[..],
    ]
    .concat();
    assert!(PrivateKey::parse(&text, None).unwrap().signing_key().is_ok(), "the first private key counts");
}

proptest! {
    #[test]
    fn arbitrary_keys_never_panic(
        label in "(EC |RSA |ENCRYPTED )?PRIVATE KEY",
        bytes in proptest::collection::vec(any::<u8>(), 0..80),
        info in "(AES-(128|192|256)-CBC|DES-EDE3-CBC|X)?,?[0-9a-f]{0,33}",
        sealed: bool,
    ) {
        let headers: &[_] = if sealed { &[("Proc-Type", "4,ENCRYPTED"), ("DEK-Info", &info)] } else { &[] };
        let text = pem::encode(&label, headers, &bytes);
        let _ = PrivateKey::parse(&text, Some(b"x")).and_then(|key| key.signing_key());
    }

    #[test]
    fn any_password_round_trips(password: Vec<u8>, content in proptest::collection::vec(any::<u8>(), 0..100)) {
        let der = [&[0x30, content.len() as u8][..], &content].concat();
        let text = seal_rfc1423(&der, &password).unwrap();
        let key = PrivateKey::parse(&text, Some(&password)).unwrap();
        prop_assert_eq!(key.pkcs8().unwrap(), &der[..]);
    }
}
