//! HChaCha20, which ring lacks: a key and 16 bytes of input make another key (draft-irtf-cfrg-xchacha §2.2).

use super::Secret;

/// "expand 32-byte k" as four little-endian words.
const CONSTANTS: [u32; 4] = [0x6170_7865, 0x3320_646e, 0x7962_2d32, 0x6b20_6574];

/// Derives a key from `key` and `input`.
pub fn hchacha20(key: &[u8; 32], input: &[u8; 16]) -> Secret<32> {
    let mut state = zeroize::Zeroizing::new([0u32; 16]);
    state[..4].copy_from_slice(&CONSTANTS);
    for (word, bytes) in state[4..].iter_mut().zip(key.chunks_exact(4).chain(input.chunks_exact(4))) {
        *word = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
    }
    for _ in 0..10 {
        quarter_round(&mut state, 0, 4, 8, 12);
        quarter_round(&mut state, 1, 5, 9, 13);
        quarter_round(&mut state, 2, 6, 10, 14);
        quarter_round(&mut state, 3, 7, 11, 15);
        quarter_round(&mut state, 0, 5, 10, 15);
        quarter_round(&mut state, 1, 6, 11, 12);
        quarter_round(&mut state, 2, 7, 8, 13);
        quarter_round(&mut state, 3, 4, 9, 14);
    }
    let mut derived = Secret::zeroed();
    let words = state[..4].iter().chain(&state[12..]);
    for (bytes, word) in derived.expose_mut().chunks_exact_mut(4).zip(words) {
        bytes.copy_from_slice(&word.to_le_bytes());
    }
    derived
}

/// RFC 8439 §2.1.
fn quarter_round(state: &mut [u32; 16], a: usize, b: usize, c: usize, d: usize) {
    state[a] = state[a].wrapping_add(state[b]);
    state[d] = (state[d] ^ state[a]).rotate_left(16);
    state[c] = state[c].wrapping_add(state[d]);
    state[b] = (state[b] ^ state[c]).rotate_left(12);
    state[a] = state[a].wrapping_add(state[b]);
    state[d] = (state[d] ^ state[a]).rotate_left(8);
    state[c] = state[c].wrapping_add(state[d]);
    state[b] = (state[b] ^ state[c]).rotate_left(7);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::encode::{decode_hex, hex};

    /// draft-irtf-cfrg-xchacha-03 §2.2.1.
    #[test]
    fn the_published_vector_is_met() {
        let key = decode_hex("000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f").unwrap();
        let input = decode_hex("000000090000004a0000000031415927").unwrap();
        let derived = hchacha20(&key.try_into().unwrap(), &input.try_into().unwrap());
        assert_eq!(hex(derived.expose()), "82413b4227b27bfed30e42508a877d73a0f9e4d58a74a853c12ec41326d3ecdc");
    }
}
