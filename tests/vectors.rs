//! Stored keys, ciphertexts and HMACs made by the original, read by this program's own functions.

use std::{fs, path::Path};

use kes::{
    crypto::Secret,
    keyring::{KeyVersion, codec},
    text::encode::{decode_base64, decode_hex, hex},
};
use ring::digest::{SHA256, digest};
use serde_json::Value;

fn vectors(file: &str, list: &str) -> Vec<Value> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors").join(file);
    let text = fs::read_to_string(path).unwrap();
    serde_json::from_str::<Value>(&text).unwrap()[list].as_array().unwrap().clone()
}

fn key(name: &str) -> Result<KeyVersion, String> {
    let all = vectors("keys.json", "keys");
    let stored = all.iter().find(|key| key["name"] == name).unwrap()["stored"].as_str().unwrap().to_owned();
    codec::decode(stored.as_bytes())
}

fn base64(value: &Value) -> Vec<u8> {
    decode_base64(value.as_str().unwrap_or("").as_bytes()).unwrap().to_vec()
}

#[test]
fn every_stored_key_is_read_or_refused_as_the_original_does() {
    let (mut read, mut refused) = (0, 0);
    for vector in vectors("keys.json", "keys") {
        let name = vector["name"].as_str().unwrap();
        let key = codec::decode(vector["stored"].as_str().unwrap().as_bytes());
        let Some(parsed) = vector["parsed"].as_object() else {
            assert!(key.is_err(), "{name}");
            refused += 1;
            continue;
        };
        let key = key.unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(hex(key.secret.expose()), parsed["key"], "{name}");
        assert_eq!(key.hmac.map(|hmac| hex(hmac.expose())).as_deref(), parsed["hmac_key"].as_str(), "{name}");
        assert_eq!(key.algorithm.name(), parsed["algorithm"], "{name}");
        let described = &vector["describe"]["body"];
        assert_eq!(key.created_at.to_string(), described["created_at"], "{name}");
        assert_eq!(key.created_by, described["created_by"].as_str().unwrap_or(""), "{name}");
        read += 1;
    }
    println!("{read} stored keys read, {refused} refused");
    assert!(read > 10 && refused > 5);
}

#[test]
fn every_ciphertext_decrypts_or_is_refused_as_the_original_does() {
    let (mut opened, mut refused, mut sealed_again, mut for_the_api) = (0, 0, 0, 0);
    for vector in vectors("ciphertexts.json", "vectors") {
        let id = vector["id"].as_str().unwrap();
        let Some(ciphertext) = vector["ciphertext"].as_str() else {
            for_the_api += usize::from(vector["large"].is_null());
            continue;
        };
        // A ciphertext that is not even base64 is the API's matter, and so is a key that cannot be read.
        let (Some(ciphertext), Ok(key)) =
            (decode_base64(ciphertext.as_bytes()), key(vector["key"].as_str().unwrap()))
        else {
            for_the_api += 1;
            continue;
        };
        let context = base64(&vector["context"]);
        let plaintext = key.decrypt(&ciphertext, &context);
        if vector["expect"]["status"] != 200 {
            assert!(plaintext.is_err(), "{id}");
            refused += 1;
            continue;
        }
        let plaintext = plaintext.unwrap_or_else(|_| panic!("{id} is not authentic"));
        assert_eq!(&plaintext[..], base64(&vector["expect"]["plaintext"]), "{id}");
        opened += 1;
        if vector["kind"] == "native" {
            let random = ciphertext.last_chunk().unwrap();
            assert_eq!(key.encrypt_with(random, &plaintext, &context).unwrap(), &ciphertext[..], "{id}");
            sealed_again += 1;
        }
    }
    println!(
        "{opened} ciphertexts opened, {sealed_again} sealed again, {refused} refused, {for_the_api} left to the API's test"
    );
    assert!(opened > 50 && refused > 20 && sealed_again > 20);
}

#[test]
fn large_plaintexts_are_sealed_as_the_original_does() {
    let mut count = 0;
    for vector in vectors("ciphertexts.json", "vectors").iter().filter(|vector| !vector["large"].is_null()) {
        let large = &vector["large"];
        let seed = decode_hex(large["seed"].as_str().unwrap()).unwrap();
        let length = large["length"].as_u64().unwrap() as usize;
        let blocks = (0u32..).map(|counter| digest(&SHA256, &[&seed[..], &counter.to_be_bytes()].concat()));
        let plaintext: Vec<u8> = blocks.flat_map(|block| block.as_ref().to_vec()).take(length).collect();
        let random =
            decode_hex(&format!("{}{}", large["iv"].as_str().unwrap(), large["nonce"].as_str().unwrap()));
        let key = key(vector["key"].as_str().unwrap()).unwrap();
        let context = base64(&vector["context"]);
        let random = random.unwrap().try_into().unwrap();
        let ciphertext = key.encrypt_with(&random, &plaintext, &context).unwrap();
        assert_eq!(
            hex(digest(&SHA256, &ciphertext).as_ref()),
            large["ciphertext_sha256"],
            "{}",
            vector["id"]
        );
        assert_eq!(&key.decrypt(&ciphertext, &context).unwrap()[..], &plaintext[..]);
        count += 1;
    }
    println!("{count} large plaintexts");
    assert!(count > 0);
}

#[test]
fn every_hmac_equals_the_originals() {
    let mut count = 0;
    for vector in vectors("hmac.json", "vectors") {
        let (Ok(key), Some(message)) = (key(vector["key"].as_str().unwrap()), vector["message"].as_str())
        else {
            continue;
        };
        let Some(message) = decode_base64(message.as_bytes()) else { continue };
        match vector["expect"]["status"].as_u64() {
            Some(200) => {
                assert_eq!(&key.hmac(&message).unwrap()[..], base64(&vector["expect"]["body"]["hmac"]));
                count += 1;
            }
            Some(409) => assert_eq!(key.hmac(&message), None),
            _ => {}
        }
    }
    println!("{count} HMACs");
    assert!(count > 10);
}

#[test]
fn a_secret_of_the_wrong_size_is_no_secret() {
    assert!(Secret::<32>::from_slice(&[0; 31]).is_none());
}
