use super::*;
use proptest::prelude::*;
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use rustls::crypto::{SupportedKxGroup, ring::default_provider};

/// The group order L (RFC 8032, section 5.1), little-endian.
const ORDER: [u8; 32] = [
    0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde, 0x14, 0, 0, 0,
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
];

/// Encodings of points of small order (RFC 7748, section 7; the list of libsodium), as X25519 takes them.
const SMALL_ORDER: [&str; 5] = [
    "0000000000000000000000000000000000000000000000000000000000000000",
    "0100000000000000000000000000000000000000000000000000000000000000",
    "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
    "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
];

fn bytes(hex: &str) -> Vec<u8> {
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
}

fn x25519(provider: &CryptoProvider) -> &'static dyn SupportedKxGroup {
    *provider.kx_groups.iter().find(|group| group.name() == NamedGroup::X25519).unwrap()
}

/// The verdict of the verifier that handshakes use.
fn ours(public_key: &[u8], message: &[u8], signature: &[u8]) -> bool {
    let all = accelerate(default_provider()).signature_verification_algorithms.all;
    let verifier = all.iter().find(|each| each.signature_alg_id() == alg_id::ED25519).unwrap();
    verifier.verify_signature(public_key, message, signature).is_ok()
}

fn rings(public_key: &[u8], message: &[u8], signature: &[u8]) -> bool {
    UnparsedPublicKey::new(&ED25519, public_key).verify(message, signature).is_ok()
}

#[test]
fn the_same_groups_and_signatures_are_offered_in_the_same_order() {
    let (before, after) = (default_provider(), accelerate(default_provider()));
    let groups =
        |provider: &CryptoProvider| provider.kx_groups.iter().map(|each| each.name()).collect::<Vec<_>>();
    assert_eq!(groups(&after), groups(&before));
    let (before, after) = (before.signature_verification_algorithms, after.signature_verification_algorithms);
    assert_eq!(after.supported_schemes(), before.supported_schemes());
    let ids = |verifiers: &[Verifier]| {
        verifiers.iter().map(|each| (each.public_key_alg_id(), each.signature_alg_id())).collect::<Vec<_>>()
    };
    assert_eq!(ids(after.all), ids(before.all));
    for ((_, after), (_, before)) in after.mapping.iter().zip(before.mapping) {
        assert_eq!(ids(after), ids(before));
    }
}

#[test]
fn a_processor_with_the_instructions_is_taken_for_one() {
    let processor = std::fs::read_to_string("/proc/cpuinfo").unwrap();
    let flags = processor.lines().find(|line| line.starts_with("flags")).unwrap();
    let has = |flag| flags.split_whitespace().any(|each| each == flag);
    assert_eq!(
        is_supported(),
        ["aes", "pclmulqdq", "bmi1", "bmi2", "adx", "avx", "avx2"].into_iter().all(has)
    );
}

#[test]
fn x25519_ed25519_and_nothing_else_are_replaced_if_the_processor_can() {
    let (before, after) = (default_provider(), crate::tls::server::provider());
    for (after, before) in after.kx_groups.iter().zip(before.kx_groups) {
        let is_ours = !std::ptr::addr_eq(*after, before);
        assert_eq!(is_ours, is_supported() && after.name() == NamedGroup::X25519, "{after:?}");
    }
    let after = after.signature_verification_algorithms;
    for verifier in after.mapping.iter().flat_map(|(_, verifiers)| *verifiers).chain(after.all) {
        let is_ours = format!("{verifier:?}") == "Ed25519";
        let is_ed25519 = verifier.signature_alg_id() == alg_id::ED25519;
        assert_eq!(is_ours, is_supported() && is_ed25519, "{verifier:?}");
    }
}

#[test]
fn signatures_of_rfc_8032_are_verified() {
    // Section 7.1, tests 1 to 3.
    let rows = [
        (
            "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
            "",
            "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b",
        ),
        (
            "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
            "72",
            "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
        ),
        (
            "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
            "af82",
            "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a",
        ),
    ];
    for (public_key, message, signature) in rows {
        let (public_key, message, mut signature) = (bytes(public_key), bytes(message), bytes(signature));
        assert!(ours(&public_key, &message, &signature));
        assert!(!ours(&public_key, b"another message", &signature));
        signature.push(0);
        assert!(!ours(&public_key, &message, &signature));
        assert!(!ours(&public_key[..31], &message, &signature[..64]));
        assert!(!ours(&public_key, &message, &signature[..63]));
        assert!(!ours(&public_key, &message, &[]));
    }
}

#[test]
fn a_second_signature_made_of_a_first_is_refused() {
    let pair = Ed25519KeyPair::from_seed_unchecked(&[7; 32]).unwrap();
    let mut signature = pair.sign(b"message").as_ref().to_vec();
    assert!(ours(pair.public_key().as_ref(), b"message", &signature));
    // S + L fulfils the equation as well (RFC 8032, section 5.1.7: S must be below L).
    let mut carry = 0;
    for (byte, order) in signature[32..].iter_mut().zip(ORDER) {
        let sum = u16::from(*byte) + u16::from(order) + carry;
        (*byte, carry) = (sum as u8, sum >> 8);
    }
    assert!(!ours(pair.public_key().as_ref(), b"message", &signature));
}

#[test]
fn a_public_key_that_is_not_written_as_it_must_be_is_refused() {
    // RFC 8032, section 5.1.3: 1, the neutral element, as itself, as p + 1, and with a sign that it cannot have. It fulfils
    // the equation with R = 1 and S = 0 for every message. ring takes all three for a key, of no use to anybody.
    let neutral = format!("01{}", "00".repeat(31));
    let signature = [bytes(&neutral), vec![0; 32]].concat();
    assert!(ours(&bytes(&neutral), b"message", &signature));
    if is_supported() {
        assert!(!ours(&bytes(&format!("ee{}7f", "ff".repeat(30))), b"message", &signature));
        assert!(!ours(&bytes(&format!("01{}80", "00".repeat(30))), b"message", &signature));
    }
}

#[test]
fn both_sides_of_a_key_exchange_agree_with_ring_on_either_side() {
    let (before, after) = (default_provider(), accelerate(default_provider()));
    for (server, client) in [(&after, &before), (&before, &after), (&after, &after)] {
        let client = x25519(client).start().unwrap();
        let answered = x25519(server).start_and_complete(client.pub_key()).unwrap();
        let secret = client.complete(&answered.pub_key).unwrap();
        assert_eq!(secret.secret_bytes(), answered.secret.secret_bytes());
        assert_ne!(secret.secret_bytes(), [0; 32]);
    }
}

#[test]
fn a_key_share_of_small_order_or_another_length_is_refused() {
    for share in SMALL_ORDER.map(bytes).into_iter().chain([vec![9; 31], vec![9; 33], Vec::new()]) {
        for provider in [accelerate(default_provider()), default_provider()] {
            let refused = x25519(&provider).start_and_complete(&share).map(|_| ()).unwrap_err();
            assert_eq!(refused, rustls::PeerMisbehaved::InvalidKeyShare.into(), "{share:02x?}");
        }
    }
}

proptest! {
    #[test]
    fn a_signature_passes_exactly_if_it_passes_with_ring(
        private: [u8; 32],
        message in proptest::collection::vec(any::<u8>(), 0..2000),
        at in 0..96_usize,
        flip in 0..=255_u8,
    ) {
        let pair = Ed25519KeyPair::from_seed_unchecked(&private).unwrap();
        let signature = pair.sign(&message);
        let mut key_and_signature = [pair.public_key().as_ref(), signature.as_ref()].concat();
        key_and_signature[at] ^= flip;
        let (public_key, signature) = key_and_signature.split_at(32);
        let verdict = ours(public_key, &message, signature);
        prop_assert_eq!(verdict, flip == 0);
        prop_assert_eq!(verdict, rings(public_key, &message, signature));
    }

    #[test]
    fn what_nobody_has_signed_is_refused(
        public_key in proptest::collection::vec(any::<u8>(), 30..34),
        signature in proptest::collection::vec(any::<u8>(), 60..68),
    ) {
        prop_assert!(!ours(&public_key, b"message", &signature));
    }
}
