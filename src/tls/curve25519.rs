//! Half of what a full handshake costs are four operations on Curve25519 (`docs/performance.md`). Three of them, both halves
//! of the key exchange and the check of the client's Ed25519 signature, are done here by graviola, whose formally verified
//! assembly (of s2n-bignum) makes a handshake a seventh cheaper than ring's. All else is ring's, and on processors without
//! AES, PCLMULQDQ, BMI1, BMI2, ADX and AVX2 (before 2015, or so) these three as well.

use graviola::signing::eddsa::Ed25519VerifyingKey;
use rustls::{
    NamedGroup,
    crypto::{CryptoProvider, WebPkiSupportedAlgorithms},
};
use rustls_pki_types::{AlgorithmIdentifier, InvalidSignature, SignatureVerificationAlgorithm, alg_id};

type Verifier = &'static dyn SignatureVerificationAlgorithm;

/// Puts graviola's X25519 and Ed25519 in the place of those of `provider`, if the processor has what they need. What takes
/// their place stays in memory for good: once for each call.
pub(super) fn accelerate(mut provider: CryptoProvider) -> CryptoProvider {
    if !is_supported() {
        return provider;
    }
    for group in provider.kx_groups.iter_mut().filter(|group| group.name() == NamedGroup::X25519) {
        *group = &rustls_graviola::kx::X25519;
    }
    let WebPkiSupportedAlgorithms { all, mapping } = provider.signature_verification_algorithms;
    let mapping: Vec<_> = mapping.iter().map(|(scheme, verifiers)| (*scheme, replace(verifiers))).collect();
    provider.signature_verification_algorithms =
        WebPkiSupportedAlgorithms { all: replace(all), mapping: mapping.leak() };
    provider
}

/// Whether the processor has what graviola needs. Its own check leaves out BMI2, and ADX if it was built for valgrind.
fn is_supported() -> bool {
    graviola::util::is_cpu_supported() && is_x86_feature_detected!("bmi2") && is_x86_feature_detected!("adx")
}

fn replace(verifiers: &[Verifier]) -> &'static [Verifier] {
    let replaced = verifiers.iter().map(|verifier| match verifier.signature_alg_id() {
        alg_id::ED25519 => &Ed25519,
        _ => *verifier,
    });
    replaced.collect::<Vec<_>>().leak()
}

/// Pure Ed25519 (RFC 8032, section 5.1), for webpki.
#[derive(Debug)]
struct Ed25519;

impl SignatureVerificationAlgorithm for Ed25519 {
    fn verify_signature(
        &self,
        public_key: &[u8],
        message: &[u8],
        signature: &[u8],
    ) -> Result<(), InvalidSignature> {
        Ed25519VerifyingKey::from_bytes(public_key)
            .and_then(|key| key.verify(signature, message))
            .map_err(|_| InvalidSignature)
    }

    fn public_key_alg_id(&self) -> AlgorithmIdentifier {
        alg_id::ED25519
    }

    fn signature_alg_id(&self) -> AlgorithmIdentifier {
        alg_id::ED25519
    }
}

#[cfg(test)]
mod tests;
