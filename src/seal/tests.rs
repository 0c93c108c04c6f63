use proptest::prelude::*;

use super::{file::*, *};
use crate::crypto::Secret;

const NONE: &[u8] = include_bytes!("../../tests/vectors/seal/none.seal");
const PASSPHRASE: &[u8] = include_bytes!("../../tests/vectors/seal/passphrase.seal");
const CREDENTIAL: &[u8] = include_bytes!("../../tests/vectors/seal/credential.seal");
const COMMAND: &[u8] = include_bytes!("../../tests/vectors/seal/command.seal");

fn name(text: &str) -> KeyName {
    KeyName::parse(text).unwrap()
}

fn root(byte: u8) -> RootKey {
    RootKey::new(Secret::from_slice(&[byte; 32]).unwrap(), 1_764_000_000 + u64::from(byte))
}

fn sealer(active: u8, retired: &[u8]) -> Sealer {
    let retired = retired.iter().map(|&byte| root(byte)).collect();
    Sealer::new(RootKeys::new(root(active), retired).unwrap())
}

/// A seal file with the right checksum.
fn checked(content: &str) -> Vec<u8> {
    let check =
        crate::text::encode::hex(ring::digest::digest(&ring::digest::SHA256, content.as_bytes()).as_ref());
    format!("{content}check {check}\n").into_bytes()
}

fn root_line(byte: u8, state: &str) -> String {
    let key = root(byte);
    let secret = STANDARD.encode(key.secret().expose());
    format!("root {} {state} {} {secret}\n", key.id(), key.created())
}

#[test]
fn a_sealed_value_opens_under_its_name_with_either_cipher() {
    let sealer = sealer(1, &[]);
    for cipher in [Cipher::Aes256Gcm, Cipher::ChaCha20Poly1305] {
        for value in [&b""[..], b"value", &[7; 100_000]] {
            let text = sealer.seal_as(cipher, &name("a"), value).unwrap();
            assert_eq!(&sealer.open(&name("a"), text.as_bytes()).unwrap()[..], value);
            assert_eq!(sealer.open(&name("b"), text.as_bytes()).unwrap_err(), SealError::NotAuthentic);
        }
    }
}

#[test]
fn two_seals_of_one_value_differ_and_hide_it() {
    let sealer = sealer(1, &[]);
    let one = sealer.seal(&name("a"), b"value").unwrap();
    assert_ne!(one, sealer.seal(&name("a"), b"value").unwrap());
    assert!(one.starts_with(&format!("kes-sealed v1 {}\n", root(1).id())));
    let sealed = KeyFile::parse(one.as_bytes()).unwrap().sealed;
    assert!(!sealed.windows(5).any(|window| window == b"value"));
}

#[test]
fn every_flipped_bit_of_a_key_file_is_refused() {
    let sealer = sealer(1, &[2]);
    for cipher in [Cipher::Aes256Gcm, Cipher::ChaCha20Poly1305] {
        let text = sealer.seal_as(cipher, &name("a"), &[5; 208]).unwrap().into_bytes();
        for bit in 0..text.len() * 8 {
            let mut flipped = text.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(sealer.open(&name("a"), &flipped).is_err(), "bit {bit}");
        }
    }
}

#[test]
fn a_key_file_cut_or_lengthened_anywhere_is_refused() {
    let sealer = sealer(1, &[]);
    let text = sealer.seal(&name("a"), b"some value").unwrap().into_bytes();
    for len in 0..text.len() {
        assert!(sealer.open(&name("a"), &text[..len]).is_err(), "{len} bytes");
    }
    assert_eq!(sealer.open(&name("a"), &text[..text.len() - 1]).unwrap_err(), SealError::Truncated);
    for more in [&b"\n"[..], b" ", b"A", b"AAAA\n", b"\0"] {
        assert!(sealer.open(&name("a"), &[&text, more].concat()).is_err());
    }
}

#[test]
fn a_refusal_says_what_is_wrong() {
    let sealer = sealer(1, &[]);
    let own = sealer.seal(&name("a"), b"value").unwrap();
    let foreign = super::tests::sealer(2, &[]).seal(&name("a"), b"value").unwrap();
    let header = format!("kes-sealed v1 {}\n", root(1).id());
    let with_cipher = |byte: u8| format!("{header}{}\n", STANDARD.encode([byte; OVERHEAD]));
    use cipher::OVERHEAD;
    let cases = [
        ("", SealError::Truncated),
        ("kes-sea", SealError::Truncated),
        ("kes-sealed v1 0011", SealError::Truncated),
        (&header, SealError::Truncated),
        ("CiQKIJfHzfibaJmZH1Tk", SealError::NotSealed),
        ("{\"bytes\":\"\"}", SealError::NotSealed),
        ("kes-sealed v2 x\n", SealError::UnknownVersion("v2".into())),
        ("kes-sealed x\n", SealError::Malformed("version")),
        (
            &own.to_uppercase().replacen("KES-SEALED V1", "kes-sealed v1", 1),
            SealError::Malformed("root key ID"),
        ),
        (&own.replacen("v1 ", "v1  ", 1), SealError::Malformed("root key ID")),
        (&own.replacen('\n', "\r\n", 1), SealError::Malformed("root key ID")),
        (&format!("{header}AQ\n"), SealError::Malformed("base64")),
        (&format!("{header}AAAA\nAAAA\n"), SealError::Malformed("base64")),
        (&format!("{header}AQAA\n"), SealError::Truncated),
        (&format!("{header}\n"), SealError::Truncated),
        (&with_cipher(0), SealError::UnknownCipher(0)),
        (&with_cipher(3), SealError::UnknownCipher(3)),
        (&with_cipher(1), SealError::NotAuthentic),
        (&foreign, SealError::UnknownRootKey(root(2).id())),
    ];
    for (text, error) in cases {
        assert_eq!(sealer.open(&name("a"), text.as_bytes()).unwrap_err(), error, "{text:?}");
        assert!(!error.to_string().is_empty());
    }
}

#[test]
fn a_file_under_another_root_key_with_our_id_does_not_authenticate() {
    let foreign = sealer(2, &[]).seal(&name("a"), b"value").unwrap();
    let relabelled = foreign.replacen(&root(2).id().to_string(), &root(1).id().to_string(), 1);
    assert_eq!(sealer(1, &[2]).open(&name("a"), relabelled.as_bytes()).unwrap_err(), SealError::NotAuthentic);
}

#[test]
fn a_retired_root_key_still_opens_and_no_longer_seals() {
    let old = sealer(1, &[]).seal(&name("a"), b"value").unwrap();
    let rotated = sealer(2, &[1]);
    assert_eq!(&rotated.open(&name("a"), old.as_bytes()).unwrap()[..], b"value");
    let new = rotated.seal(&name("a"), b"value").unwrap();
    assert_eq!(KeyFile::parse(new.as_bytes()).unwrap().root, root(2).id());
}

#[test]
fn sealing_a_vector_again_with_its_salt_gives_the_same_file() {
    let text = include_bytes!("../../tests/vectors/seal/keys/aes");
    let keys = SealFile::parse(NONE).unwrap().into_root_keys().unwrap();
    let sealer = Sealer::new(keys);
    let value = sealer.open(&name("aes"), text).unwrap();
    let file = KeyFile::parse(text).unwrap();
    let salt: [u8; 32] = file.sealed[1..33].try_into().unwrap();
    let secret = sealer.root_keys().active().secret().expose();
    let bound = bound_to(file.header, &name("aes"));
    let again = cipher::seal_with_salt(Cipher::Aes256Gcm, &salt, secret, KEY_INFO, &bound, &value).unwrap();
    assert_eq!(again, file.sealed);
}

#[test]
fn every_flipped_bit_of_a_seal_file_is_refused() {
    for text in [NONE, PASSPHRASE, CREDENTIAL, COMMAND] {
        for bit in 0..text.len() * 8 {
            let mut flipped = text.to_vec();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(SealFile::parse(&flipped).is_err(), "bit {bit}");
        }
        for len in 0..text.len() {
            assert!(SealFile::parse(&text[..len]).is_err(), "{len} bytes");
        }
        assert_eq!(SealFile::parse(&[text, b"\n"].concat()).unwrap_err(), SealError::Edited);
    }
}

#[test]
fn a_seal_file_with_a_right_checksum_and_a_wrong_line_is_refused_with_the_line() {
    let start = "kes-seal v1\nunlock none\n";
    let [active, retired] = [root_line(1, "active"), root_line(2, "retired")];
    let good = format!("{start}{active}{retired}");
    assert!(SealFile::parse(&checked(&good)).is_ok());
    let other_id = active.replacen(&root(1).id().to_string(), &root(2).id().to_string(), 1);
    let cases = [
        ("kes-seal v1\n".into(), 2),
        (start.into(), 3),
        (format!("{start}{retired}"), 3),
        (format!("{start}{active}{active}"), 4),
        (format!("{start}{active}{}", root_line(1, "retired")), 4),
        (format!("{start}{active}{}", root_line(2, "active")), 4),
        (format!("{start}{other_id}"), 3),
        (format!("{start}\n{active}"), 3),
        (format!("{start}{active}extra\n"), 4),
        (format!("{start}{active}{retired}\n"), 5),
        (format!("{start}{active}extra"), 4),
        (format!("{start}{}", active.replace(" 1764", " 01764")), 3),
        (format!("{start}{}", active.replace(" 1764", " +1764")), 3),
        (format!("{start}{}", active.replace(" 1764000001", " 99999999999999999999")), 3),
        (format!("{start}{}", active.replace('\n', " \n")), 3),
        (format!("{start}{}", active.replace('\n', "\r\n")), 3),
        (format!("kes-seal v1\nunlock nothing\n{active}"), 2),
        (format!("kes-seal v1\nunlock credential\n{active}"), 3),
        ("kes-seal v1\nunlock command\nbody AAA\n".into(), 3),
    ];
    for (content, line) in cases {
        match SealFile::parse(&checked(&content)) {
            Err(SealError::BadLine(found, _)) => assert_eq!(found, line, "{content}"),
            other => panic!("{other:?}: {content}"),
        }
    }
    assert_eq!(
        SealFile::parse(&checked("kes-seal v2\nanything\n")).unwrap_err(),
        SealError::UnknownVersion("v2".into())
    );
    assert!(matches!(SealFile::parse(b"my notes\n").unwrap_err(), SealError::BadLine(1, _)));
    assert_eq!(SealFile::parse(&vec![b'x'; MAX_SEAL_FILE + 1]).unwrap_err(), SealError::TooLong);
}

#[test]
fn argon2id_parameters_out_of_bounds_are_refused() {
    let salt = STANDARD.encode([1; 16]);
    let line = |fields: &str| {
        checked(&format!("kes-seal v1\nunlock passphrase {fields}\nbody {}\n", STANDARD.encode([1; 60])))
    };
    let good = format!("argon2id v=19 m=65536 t=3 p=4 salt={salt}");
    let file = SealFile::parse(&line(&good)).unwrap();
    let expected = Argon2id { memory_kib: 65536, passes: 3, lanes: 4, salt: vec![1; 16] };
    assert_eq!(file.unlock(), &Unlock::Passphrase(expected));
    for (from, to) in [
        ("argon2id", "argon2i"),
        ("v=19", "v=16"),
        ("m=65536", "m=7"),
        ("m=65536", "m=31"),
        ("m=65536", "m=1048577"),
        ("m=65536", "m=065536"),
        ("m=65536", "m=-1"),
        ("t=3", "t=0"),
        ("t=3", "t=101"),
        ("p=4", "p=0"),
        ("p=4", "p=17"),
        ("salt=", ""),
        (&salt, "AAAA"),
        (&salt, &format!("{salt} ")),
    ] {
        let bad = good.replacen(from, to, 1);
        assert!(matches!(SealFile::parse(&line(&bad)), Err(SealError::BadLine(2, _))), "{bad}");
    }
}

#[test]
fn a_protected_seal_file_without_a_secret_names_its_method() {
    for (text, method) in [(PASSPHRASE, "passphrase"), (CREDENTIAL, "credential"), (COMMAND, "command")] {
        let cause = SealFile::parse(text).unwrap().into_root_keys().unwrap_err();
        assert_eq!(
            cause.to_string(),
            format!("is protected by the method '{method}', but keystore.fs.seal.unlock says 'none'")
        );
    }
}

#[test]
fn a_protected_seal_file_opens_with_its_secret_alone() {
    let keys = RootKeys::new(root(1), vec![root(2), root(3)]).unwrap();
    let passphrase = Argon2id { memory_kib: 8, passes: 1, lanes: 1, salt: vec![9; 16] };
    for unlock in [Unlock::Passphrase(passphrase), Unlock::Credential, Unlock::Command] {
        let text = write_locked(&keys, &unlock, b"the secret").unwrap();
        let opened = SealFile::parse(&text).unwrap().open_with(b"the secret").unwrap();
        assert_eq!(&write_plain(&opened)[..], &write_plain(&keys)[..]);
        let cause = SealFile::parse(&text).unwrap().open_with(b"another").unwrap_err();
        assert_eq!(cause, SealError::WrongUnlockSecret);
    }
    let text = write_locked(&keys, &Unlock::Credential, b"the secret").unwrap();
    let content = std::str::from_utf8(&text).unwrap().rsplit_once("check ").unwrap().0;
    let moved = checked(&content.replace("credential", "command"));
    assert_eq!(
        SealFile::parse(&moved).unwrap().open_with(b"the secret").unwrap_err(),
        SealError::WrongUnlockSecret,
        "the method is bound to the body"
    );
}

#[test]
fn no_key_material_is_printed() {
    let keys = RootKeys::generate().unwrap();
    let secret = crate::text::encode::hex(keys.active().secret().expose());
    let listed = format!("{:?}", keys.active().secret().expose());
    let printed = format!("{:?} {keys:?} {:?}", keys.active(), SealFile::parse(NONE).unwrap());
    assert!(!printed.contains(&secret) && !printed.contains(&listed));
    assert!(printed.contains("Secret<32>(..)"));
}

proptest! {
    #[test]
    fn any_bytes_are_a_key_file_or_refused(
        bytes in proptest::collection::vec(any::<u8>(), 0..200),
        cut in 0..30_usize,
    ) {
        let sealer = sealer(1, &[]);
        let header = format!("kes-sealed v1 {}\n", root(1).id());
        prop_assert!(sealer.open(&name("a"), &bytes).is_err());
        let text = [&header.as_bytes()[..cut.min(header.len())], &bytes].concat();
        prop_assert!(sealer.open(&name("a"), &text).is_err());
        let encoded = format!("{header}{}\n", STANDARD.encode(&bytes));
        prop_assert!(sealer.open(&name("a"), encoded.as_bytes()).is_err());
    }

    #[test]
    fn any_value_round_trips(value in proptest::collection::vec(any::<u8>(), 0..2000), key in "[a-z0-9_]{2,80}") {
        let sealer = sealer(1, &[]);
        let text = sealer.seal(&name(&key), &value).unwrap();
        prop_assert_eq!(&sealer.open(&name(&key), text.as_bytes()).unwrap()[..], &value[..]);
    }

    #[test]
    fn any_bytes_are_a_seal_file_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(SealFile::parse(&bytes).is_err());
        let text = [b"kes-seal v1\n", &bytes[..]].concat();
        prop_assert!(SealFile::parse(&text).is_err());
    }

    #[test]
    fn lines_with_a_right_checksum_are_read_as_written_or_refused(
        lines in proptest::collection::vec(
            prop_oneof![
                Just("unlock none\n".to_owned()),
                Just("unlock credential\n".to_owned()),
                "[ -~\n]{0,30}",
                (1..4_u8).prop_map(|byte| root_line(byte, "active")),
                (1..4_u8).prop_map(|byte| root_line(byte, "retired")),
                proptest::collection::vec(any::<u8>(), 0..80)
                    .prop_map(|bytes| format!("body {}\n", STANDARD.encode(bytes))),
            ],
            0..6,
        ),
    ) {
        let text = checked(&format!("kes-seal v1\n{}", lines.concat()));
        let Ok(file) = SealFile::parse(&text) else { return Ok(()) };
        if let Ok(keys) = file.into_root_keys() {
            prop_assert_eq!(&write_plain(&keys)[..], &text[..]);
        }
    }

    #[test]
    fn any_root_keys_round_trip(
        bytes in proptest::collection::hash_set(any::<u8>(), 1..20),
        created in any::<u64>(),
    ) {
        let mut keys: Vec<_> = bytes
            .iter()
            .map(|&byte| RootKey::new(Secret::from_slice(&[byte; 32]).unwrap(), created))
            .collect();
        let active = keys.pop().unwrap();
        let keys = RootKeys::new(active, keys).unwrap();
        let text = write_plain(&keys);
        let read = SealFile::parse(&text).unwrap().into_root_keys().unwrap();
        prop_assert_eq!(&write_plain(&read)[..], &text[..]);
        prop_assert_eq!(read.active().created(), created);
        prop_assert_eq!(read.retired().len() + 1, bytes.len());
    }
}
