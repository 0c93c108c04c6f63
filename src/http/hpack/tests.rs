use proptest::prelude::*;

use super::*;
use crate::text::encode::decode_hex;

type Field = (Vec<u8>, Vec<u8>);

fn decode(decoder: &mut Decoder, block: &[u8]) -> Result<Vec<Field>, CompressionError> {
    let mut fields = Vec::new();
    decoder.decode(block, |name, value| fields.push((name.to_vec(), value.to_vec())))?;
    Ok(fields)
}

fn bytes(hex: &str) -> Vec<u8> {
    decode_hex(&hex.replace([' ', '\n'], "")).unwrap()
}

/// Decodes `hex` and compares the fields with `expected` (lines of `name: value`), the table's size with `size`.
#[track_caller]
fn check(decoder: &mut Decoder, hex: &str, expected: &str, size: usize) {
    let fields = decode(decoder, &bytes(hex)).unwrap();
    let text: Vec<String> = fields
        .iter()
        .map(|(n, v)| format!("{}: {}", String::from_utf8_lossy(n), String::from_utf8_lossy(v)))
        .collect();
    let expected: Vec<&str> = expected.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    assert_eq!(text, expected);
    assert_eq!(decoder.table.size, size);
}

impl Decoder {
    fn with_limit(limit: usize) -> Self {
        Self { limit, ..Self::default() }
    }
}

#[test]
fn integers_of_appendix_c_1() {
    for (hex, prefix, value) in [("0a", 5, 10), ("1f9a0a", 5, 1337), ("2a", 8, 42)] {
        let input = bytes(hex);
        let mut rest = &input[..];
        assert_eq!(integer(&mut rest, prefix), Ok(value));
        assert!(rest.is_empty());
        let mut out = Vec::new();
        put_integer(&mut out, prefix, 0, value);
        assert_eq!(out, input);
    }
}

#[test]
fn single_fields_of_appendix_c_2() {
    check(
        &mut Decoder::new(),
        "400a 6375 7374 6f6d 2d6b 6579 0d63 7573 746f 6d2d 6865 6164 6572",
        "custom-key: custom-header",
        55,
    );
    check(&mut Decoder::new(), "040c 2f73 616d 706c 652f 7061 7468", ":path: /sample/path", 0);
    check(&mut Decoder::new(), "1008 7061 7373 776f 7264 0673 6563 7265 74", "password: secret", 0);
    check(&mut Decoder::new(), "82", ":method: GET", 0);
}

const REQUESTS: [&str; 3] = [
    ":method: GET\n:scheme: http\n:path: /\n:authority: www.example.com",
    ":method: GET\n:scheme: http\n:path: /\n:authority: www.example.com\ncache-control: no-cache",
    ":method: GET\n:scheme: https\n:path: /index.html\n:authority: www.example.com\ncustom-key: custom-value",
];

#[test]
fn requests_of_appendix_c_3_and_c_4() {
    let mut plain = Decoder::new();
    check(&mut plain, "8286 8441 0f77 7777 2e65 7861 6d70 6c65 2e63 6f6d", REQUESTS[0], 57);
    check(&mut plain, "8286 84be 5808 6e6f 2d63 6163 6865", REQUESTS[1], 110);
    check(
        &mut plain,
        "8287 85bf 400a 6375 7374 6f6d 2d6b 6579 0c63 7573 746f 6d2d 7661 6c75 65",
        REQUESTS[2],
        164,
    );
    let mut coded = Decoder::new();
    check(&mut coded, "8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff", REQUESTS[0], 57);
    check(&mut coded, "8286 84be 5886 a8eb 1064 9cbf", REQUESTS[1], 110);
    check(&mut coded, "8287 85bf 4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf", REQUESTS[2], 164);
}

const RESPONSES: [&str; 3] = [
    ":status: 302\ncache-control: private\ndate: Mon, 21 Oct 2013 20:13:21 GMT\nlocation: https://www.example.com",
    ":status: 307\ncache-control: private\ndate: Mon, 21 Oct 2013 20:13:21 GMT\nlocation: https://www.example.com",
    ":status: 200\ncache-control: private\ndate: Mon, 21 Oct 2013 20:13:22 GMT\nlocation: https://www.example.com
     content-encoding: gzip\nset-cookie: foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1",
];

#[test]
fn responses_of_appendix_c_5_and_c_6_with_a_table_of_256_bytes() {
    let mut plain = Decoder::with_limit(256);
    check(
        &mut plain,
        "4803 3330 3258 0770 7269 7661 7465 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 2032 303a 3133 3a32
         3120 474d 546e 1768 7474 7073 3a2f 2f77 7777 2e65 7861 6d70 6c65 2e63 6f6d",
        RESPONSES[0],
        222,
    );
    check(&mut plain, "4803 3330 37c1 c0bf", RESPONSES[1], 222);
    check(
        &mut plain,
        "88c1 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 2032 303a 3133 3a32 3220 474d 54c0 5a04 677a 6970
         7738 666f 6f3d 4153 444a 4b48 514b 425a 584f 5157 454f 5049 5541 5851 5745 4f49 553b 206d 6178 2d61
         6765 3d33 3630 303b 2076 6572 7369 6f6e 3d31",
        RESPONSES[2],
        215,
    );
    let mut coded = Decoder::with_limit(256);
    check(
        &mut coded,
        "4882 6402 5885 aec3 771a 4b61 96d0 7abe 9410 54d4 44a8 2005 9504 0b81 66e0 82a6 2d1b ff6e 919d 29ad
         1718 63c7 8f0b 97c8 e9ae 82ae 43d3",
        RESPONSES[0],
        222,
    );
    check(&mut coded, "4883 640e ffc1 c0bf", RESPONSES[1], 222);
    check(
        &mut coded,
        "88c1 6196 d07a be94 1054 d444 a820 0595 040b 8166 e084 a62d 1bff c05a 839b d9ab 77ad 94e7 821d d7f2
         e6c7 b335 dfdf cd5b 3960 d5af 2708 7f36 72c1 ab27 0fb5 291f 9587 3160 65c0 03ed 4ee5 b106 3d50 07",
        RESPONSES[2],
        215,
    );
}

#[test]
fn malformed_blocks_are_refused() {
    for (hex, why) in [
        ("80", "index 0"),
        ("be", "index 62 of an empty table"),
        ("ff", "an integer that ends too early"),
        ("ffffffffff0f", "an integer too long"),
        ("3fe21f", "a table bigger than allowed"),
        ("823f e11f", "a table size after a field"),
        ("7f81ffffffff7f", "a huge name index"),
        ("0085f2b24a84ff84 49509fff", "padding of more than 7 bits"),
        ("0084ffffffff 0161", "EOS"),
        ("0085f2b24a84fe 0161", "padding that is not all ones"),
        ("00036162", "a string longer than the block"),
        ("4001", "no string"),
        ("40016101", "no value"),
    ] {
        assert_eq!(decode(&mut Decoder::new(), &bytes(hex)), Err(CompressionError), "{why}");
    }
}

#[test]
fn two_table_sizes_may_open_a_block() {
    check(&mut Decoder::new(), "20 3fe11f 82", ":method: GET", 0);
}

#[test]
fn a_field_bigger_than_the_table_empties_it() {
    let mut decoder = Decoder::new();
    check(&mut decoder, "4001610162", "a: b", 34);
    let mut block = vec![0x40, 1, b'c'];
    put_integer(&mut block, 7, 0, 5000);
    block.resize(block.len() + 5000, b'x');
    assert_eq!(decode(&mut decoder, &block).unwrap()[0].1.len(), 5000);
    assert_eq!(decoder.table.size, 0);
    assert_eq!(decode(&mut decoder, &[0xbe]), Err(CompressionError));
}

#[test]
fn memory_of_the_table_stays_bounded() {
    let mut decoder = Decoder::new();
    for i in 0..20_000usize {
        let mut block = vec![0x40];
        put_integer(&mut block, 7, 0, 1 + i % 7);
        block.resize(block.len() + 1 + i % 7, b'n');
        let value = i * 31 % 300;
        put_integer(&mut block, 7, 0, value);
        block.resize(block.len() + value, b'v');
        decode(&mut decoder, &block).unwrap();
        assert!(decoder.table.size <= TABLE_LIMIT);
        assert!(decoder.capacity() < 20_000, "{}", decoder.capacity());
    }
    decoder.release();
    assert!(decoder.capacity() <= 2 * TABLE_LIMIT, "{}", decoder.capacity());
}

#[test]
fn a_new_decoder_takes_no_memory() {
    assert_eq!(Decoder::new().capacity(), 0);
}

/// A table as RFC 7541 describes it, without any thrift, to compare with.
#[derive(Default)]
struct Model(Vec<Field>);

impl Model {
    fn insert(&mut self, field: Field) {
        self.0.insert(0, field);
        while self.0.iter().map(|(n, v)| n.len() + v.len() + 32).sum::<usize>() > TABLE_LIMIT {
            self.0.pop();
        }
    }
}

proptest! {
    #[test]
    fn huffman_round_trips(text in proptest::collection::vec(any::<u8>(), 0..300)) {
        let mut out = Vec::new();
        prop_assert!(huffman::decode(&huffman::encode(&text), &mut out).is_some());
        prop_assert_eq!(out, text);
    }

    #[test]
    fn arbitrary_bytes_never_panic(blocks in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..200), 0..8)) {
        let mut decoder = Decoder::new();
        for block in blocks {
            if decode(&mut decoder, &block).is_err() {
                break;
            }
            prop_assert!(decoder.table.size <= TABLE_LIMIT);
        }
    }

    #[test]
    fn indexed_fields_are_those_that_were_stored(
        fields in proptest::collection::vec((0usize..400, 0usize..900, any::<u8>(), any::<bool>(), any::<bool>(), 0usize..200), 1..80)
    ) {
        let (mut decoder, mut model) = (Decoder::new(), Model::default());
        for (name, value, seed, coded, store, nth) in fields {
            let field = (vec![seed; name], vec![seed.wrapping_add(1); value]);
            let mut block = vec![if store { 0x40 } else { 0x10 }];
            for text in [&field.0, &field.1] {
                let sent = if coded { huffman::encode(text) } else { text.clone() };
                put_integer(&mut block, 7, if coded { 0x80 } else { 0 }, sent.len());
                block.extend_from_slice(&sent);
            }
            prop_assert_eq!(decode(&mut decoder, &block).unwrap(), vec![field.clone()]);
            if store {
                model.insert(field);
            }
            let mut block = Vec::new();
            put_indexed(&mut block, 62 + nth);
            prop_assert_eq!(decode(&mut decoder, &block).ok(), model.0.get(nth).map(|f| vec![f.clone()]));
        }
    }

    #[test]
    fn what_is_written_is_read(name in "[a-z-]{1,20}", value in proptest::collection::vec(any::<u8>(), 0..400)) {
        let mut block = Vec::new();
        put_table_size(&mut block, 0);
        put_indexed(&mut block, 8);
        put_named(&mut block, 33, &value);
        put_literal(&mut block, name.as_bytes(), &value);
        let fields = decode(&mut Decoder::new(), &block).unwrap();
        prop_assert_eq!(&fields[0].1[..], b"200");
        prop_assert_eq!(&fields[1], &(b"date".to_vec(), value.clone()));
        prop_assert_eq!(&fields[2], &(name.into_bytes(), value));
    }
}
