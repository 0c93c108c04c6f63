//! The Huffman code of RFC 7541 Appendix B. The code is canonical, so its lengths define it.

/// Symbols with the one that ends a string (EOS), which must not occur.
const SYMBOLS: usize = 257;
/// The longest code, in bits.
const LONGEST: usize = 30;
/// How many bits one step of the fast table looks at.
const FAST_BITS: u32 = 8;
/// The number of EOS.
const EOS: u16 = 256;

/// Code lengths in bits of the symbols 0 to 255 and EOS.
const LENGTHS: [u8; SYMBOLS] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28, 28, 28,
    28, 28, 28, 28, 28, 28, 6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, 5, 5, 5, 6, 6, 6, 6, 6,
    6, 6, 7, 8, 15, 6, 12, 10, 13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 8, 7,
    8, 13, 19, 13, 14, 6, 15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5, 6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7,
    15, 11, 14, 13, 28, 20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23, 24, 24, 22, 23, 24,
    23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24, 22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23,
    23, 21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23, 26, 26, 20, 19, 22, 23, 22, 25, 26,
    26, 26, 27, 27, 26, 24, 25, 19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27, 20, 24, 20,
    21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23, 26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27,
    27, 27, 26, 30,
];

/// What a decoder needs, built from [`LENGTHS`].
struct Tables {
    /// For the first 8 bits of the input: symbol and length of a code not longer than that, or length 0.
    fast: [(u8, u8); 1 << FAST_BITS],
    /// The symbols in the order of their codes.
    symbols: [u16; SYMBOLS],
    /// For each length: one more than its last code, moved to the top of 32 bits.
    limit: [u64; LONGEST + 1],
    /// For each length: its first code.
    first: [u32; LONGEST + 1],
    /// For each length: where its symbols begin in `symbols`.
    place: [u16; LONGEST + 1],
}

static TABLES: Tables = build();

const fn build() -> Tables {
    let mut tables = Tables {
        fast: [(0, 0); 1 << FAST_BITS],
        symbols: [0; SYMBOLS],
        limit: [0; LONGEST + 1],
        first: [0; LONGEST + 1],
        place: [0; LONGEST + 1],
    };
    let (mut code, mut placed, mut length) = (0u32, 0usize, 1usize);
    while length <= LONGEST {
        code <<= 1;
        tables.first[length] = code;
        tables.place[length] = placed as u16;
        let mut symbol = 0;
        while symbol < SYMBOLS {
            if LENGTHS[symbol] as usize == length {
                tables.symbols[placed] = symbol as u16;
                tables.fast = with_code(tables.fast, code, length as u32, symbol as u8);
                placed += 1;
                code += 1;
            }
            symbol += 1;
        }
        tables.limit[length] = (code as u64) << (32 - length as u32);
        length += 1;
    }
    // A complete code uses up all bit patterns.
    assert!(code == 1 << LONGEST && placed == SYMBOLS);
    tables
}

const fn with_code(
    mut fast: [(u8, u8); 1 << FAST_BITS],
    code: u32,
    length: u32,
    symbol: u8,
) -> [(u8, u8); 1 << FAST_BITS] {
    if length > FAST_BITS {
        return fast;
    }
    let free = FAST_BITS - length;
    let mut low = 0;
    while low < 1 << free {
        fast[(code << free | low) as usize] = (symbol, length as u8);
        low += 1;
    }
    fast
}

/// Appends what `text` stands for to `out`. `None` if it holds EOS or is padded with anything but fewer than 8 bits of
/// ones (RFC 7541 §5.2).
pub(super) fn decode(text: &[u8], out: &mut Vec<u8>) -> Option<()> {
    // The next bits are at the top of `bits`, `have` of them from the input; below them are zeros.
    let (mut bits, mut have) = (0u64, 0u32);
    let mut input = text.iter();
    loop {
        while have <= 56 {
            let Some(&byte) = input.next() else { break };
            bits |= u64::from(byte) << (56 - have);
            have += 8;
        }
        let (symbol, length) = next_symbol((bits >> 32) as u32)?;
        if length > have {
            let padding = if have == 0 { 0 } else { bits >> (64 - have) };
            return (have < 8 && padding + 1 == 1 << have).then_some(());
        }
        if symbol == EOS {
            return None;
        }
        out.push(symbol as u8);
        bits <<= length;
        have -= length;
    }
}

/// The symbol whose code is at the top of `window`, and the length of the code.
fn next_symbol(window: u32) -> Option<(u16, u32)> {
    let (symbol, length) = *TABLES.fast.get((window >> (32 - FAST_BITS)) as usize)?;
    if length != 0 {
        return Some((u16::from(symbol), u32::from(length)));
    }
    let long = &TABLES.limit[FAST_BITS as usize + 1..];
    let length = long.iter().position(|&limit| u64::from(window) < limit)? + FAST_BITS as usize + 1;
    let nth = (window >> (32 - length as u32)).checked_sub(*TABLES.first.get(length)?)? as usize;
    let symbol = *TABLES.symbols.get(usize::from(*TABLES.place.get(length)?) + nth)?;
    Some((symbol, length as u32))
}

/// The Huffman form of `text`, for tests.
#[cfg(test)]
pub(super) fn encode(text: &[u8]) -> Vec<u8> {
    let (mut out, mut bits, mut have) = (Vec::new(), 0u64, 0u32);
    for &byte in text {
        let length = usize::from(LENGTHS[usize::from(byte)]);
        let place = usize::from(TABLES.place[length]);
        let nth = TABLES.symbols[place..].iter().position(|&s| s == u16::from(byte)).unwrap();
        bits = bits << length | u64::from(TABLES.first[length] + nth as u32);
        have += length as u32;
        while have >= 8 {
            have -= 8;
            out.push((bits >> have) as u8);
        }
    }
    if have > 0 {
        out.push((bits << (8 - have)) as u8 | (0xff >> have));
    }
    out
}
