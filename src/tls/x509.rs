//! Reads what the program needs to know of an X.509 certificate, of any version and with any kind of key. It verifies
//! nothing, and hands out the public key's bytes exactly as they stand.

use std::{cell::RefCell, ops::Range};

use der::{
    AnyRef, Decode, Reader, SliceReader, Tag, TagNumber, Tagged,
    asn1::{ObjectIdentifier, OctetStringRef},
};

const BASIC_CONSTRAINTS: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.19");
const SUBJECT_ALT_NAME: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.17");
const KEY_USAGE: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.15");
const EXTENDED_KEY_USAGE: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.37");
const ANY_USAGE: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.37.0");
const CLIENT_AUTH: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.3.2");

/// The bytes are not a certificate.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Malformed;

impl std::fmt::Display for Malformed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("x509: malformed certificate")
    }
}

impl From<der::Error> for Malformed {
    fn from(_: der::Error) -> Self {
        Self
    }
}

/// What a certificate says (RFC 5280, section 4.1).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Certificate<'a> {
    /// The DER bytes of the SubjectPublicKeyInfo, as they stand.
    pub public_key: &'a [u8],
    /// basicConstraints says `CA:TRUE`. A certificate without that extension is no CA.
    pub is_ca: bool,
    /// It may have issued others: it is a CA whose key usage does not forbid that, or of a version before 3, which cannot say
    /// what it is.
    pub may_issue: bool,
    /// Start of validity in seconds since 1970.
    pub not_before: i64,
    /// End of validity (inclusive) in seconds since 1970.
    pub not_after: i64,
    /// The subject alternative name holds a DNS name or an IP address.
    pub names_a_host: bool,
    /// The extended key usage is absent, or allows clientAuth or anything.
    pub allows_client_auth: bool,
}

/// The longest certificate that a thread keeps.
const MOST_KEPT: usize = 4096;

/// A certificate that was read before.
struct Kept {
    der: Vec<u8>,
    /// Where its public key stands in it.
    public_key: Range<usize>,
    /// All else that it says.
    certificate: Certificate<'static>,
}

thread_local! {
    /// What this thread has read last: a handshake reads the same certificate three times, and the next client often
    /// comes with the same one again.
    static LAST: RefCell<Option<Kept>> = const { RefCell::new(None) };
}

impl<'a> Certificate<'a> {
    /// Reads a DER certificate.
    pub fn parse(der: &'a [u8]) -> Result<Self, Malformed> {
        LAST.with_borrow_mut(|last| match last {
            Some(kept) if kept.der == der => {
                Ok(Self { public_key: &der[kept.public_key.clone()], ..kept.certificate })
            }
            _ => {
                let certificate = Self::read(der)?;
                let start = certificate.public_key.as_ptr().addr() - der.as_ptr().addr();
                *last = (der.len() <= MOST_KEPT).then(|| Kept {
                    der: der.to_vec(),
                    public_key: start..start + certificate.public_key.len(),
                    certificate: Certificate { public_key: &[], ..certificate },
                });
                Ok(certificate)
            }
        })
    }

    fn read(der: &'a [u8]) -> Result<Self, Malformed> {
        let mut outer = SliceReader::new(der)?;
        let mut certificate = sequence(&mut outer)?;
        outer.finish()?;
        let to_be_signed = sequence(&mut certificate)?;
        sequence(&mut certificate)?;
        content(&mut certificate, Tag::BitString)?;
        certificate.finish()?;
        parse_to_be_signed(to_be_signed)
    }

    /// Whether `now`, in seconds since 1970, lies within the validity.
    pub fn is_valid_at(&self, now: i64) -> bool {
        self.not_before <= now && now <= self.not_after
    }
}

fn parse_to_be_signed(mut fields: SliceReader<'_>) -> Result<Certificate<'_>, Malformed> {
    // Versions 1, 2 and 3 are written as nothing or 0, 1 and 2.
    let is_version_3 = optional(&mut fields, 0)?.is_some_and(|version| version == [2, 1, 2]);
    content(&mut fields, Tag::Integer)?;
    sequence(&mut fields)?;
    sequence(&mut fields)?;
    let mut validity = sequence(&mut fields)?;
    let not_before = time(&mut validity)?;
    let not_after = time(&mut validity)?;
    validity.finish()?;
    sequence(&mut fields)?;
    if Tag::peek(&fields)? != Tag::Sequence {
        return Err(Malformed);
    }
    let public_key = fields.tlv_bytes()?;
    optional(&mut fields, 1)?;
    optional(&mut fields, 2)?;
    let extensions = optional(&mut fields, 3)?;
    fields.finish()?;

    let mut certificate = Certificate {
        public_key,
        is_ca: false,
        may_issue: true,
        not_before,
        not_after,
        names_a_host: false,
        allows_client_auth: true,
    };
    if let Some(extensions) = extensions {
        read_extensions(extensions, &mut certificate)?;
    }
    certificate.may_issue &= certificate.is_ca || !is_version_3;
    Ok(certificate)
}

fn read_extensions(wrapped: &[u8], certificate: &mut Certificate<'_>) -> Result<(), Malformed> {
    let mut wrapped = SliceReader::new(wrapped)?;
    let mut list = sequence(&mut wrapped)?;
    wrapped.finish()?;
    let mut seen = Vec::new();
    while !list.is_finished() {
        let mut extension = sequence(&mut list)?;
        let id = ObjectIdentifier::decode(&mut extension)?;
        if Tag::peek(&extension)? == Tag::Boolean {
            bool::decode(&mut extension)?;
        }
        let value = <&OctetStringRef>::decode(&mut extension)?;
        extension.finish()?;
        // A second basicConstraints must not be able to hide the first one.
        if seen.contains(&id) {
            return Err(Malformed);
        }
        seen.push(id);
        let value = value.as_bytes();
        match id {
            BASIC_CONSTRAINTS => certificate.is_ca = says_ca(value)?,
            SUBJECT_ALT_NAME => certificate.names_a_host = names_a_host(value)?,
            KEY_USAGE => certificate.may_issue = says_cert_sign(value)?,
            EXTENDED_KEY_USAGE => certificate.allows_client_auth = allows_client_auth(value)?,
            _ => {}
        }
    }
    Ok(())
}

fn says_ca(value: &[u8]) -> Result<bool, Malformed> {
    let mut reader = SliceReader::new(value)?;
    let mut constraints = sequence(&mut reader)?;
    reader.finish()?;
    if constraints.is_finished() || Tag::peek(&constraints)? != Tag::Boolean {
        return Ok(false);
    }
    Ok(bool::decode(&mut constraints)?)
}

/// keyCertSign is the sixth bit (RFC 5280, section 4.2.1.3).
fn says_cert_sign(value: &[u8]) -> Result<bool, Malformed> {
    let mut reader = SliceReader::new(value)?;
    let bits = content(&mut reader, Tag::BitString)?;
    reader.finish()?;
    Ok(bits.get(1).is_some_and(|first| first & 0b0000_0100 != 0))
}

fn names_a_host(value: &[u8]) -> Result<bool, Malformed> {
    let mut reader = SliceReader::new(value)?;
    let mut names = sequence(&mut reader)?;
    reader.finish()?;
    let mut found = false;
    while !names.is_finished() {
        let name = AnyRef::decode(&mut names)?;
        let Tag::ContextSpecific { number, .. } = name.tag() else { return Err(Malformed) };
        // GeneralName: 2 is dNSName, 7 is iPAddress.
        found |= matches!(number.value(), 2 | 7);
    }
    Ok(found)
}

fn allows_client_auth(value: &[u8]) -> Result<bool, Malformed> {
    let mut reader = SliceReader::new(value)?;
    let mut usages = sequence(&mut reader)?;
    reader.finish()?;
    let mut found = false;
    while !usages.is_finished() {
        let usage = ObjectIdentifier::decode(&mut usages)?;
        found |= usage == CLIENT_AUTH || usage == ANY_USAGE;
    }
    Ok(found)
}

/// Reads one value of the given tag and returns its content.
pub(super) fn content<'a>(reader: &mut SliceReader<'a>, tag: Tag) -> Result<&'a [u8], Malformed> {
    let value = AnyRef::decode(reader)?;
    value.tag().assert_eq(tag)?;
    Ok(value.value())
}

/// Reads a SEQUENCE and returns a reader of its content.
pub(super) fn sequence<'a>(reader: &mut SliceReader<'a>) -> Result<SliceReader<'a>, Malformed> {
    Ok(SliceReader::new(content(reader, Tag::Sequence)?)?)
}

/// Reads the context-specific value `number` if it comes next.
pub(super) fn optional<'a>(reader: &mut SliceReader<'a>, number: u32) -> Result<Option<&'a [u8]>, Malformed> {
    if reader.is_finished() {
        return Ok(None);
    }
    match Tag::peek(reader)? {
        Tag::ContextSpecific { number: found, .. } if found == TagNumber(number) => {
            Ok(Some(AnyRef::decode(reader)?.value()))
        }
        _ => Ok(None),
    }
}

/// Reads a UTCTime or GeneralizedTime in the only forms that RFC 5280 (section 4.1.2.5) allows.
fn time(reader: &mut SliceReader<'_>) -> Result<i64, Malformed> {
    let value = AnyRef::decode(reader)?;
    let digits = value.value().strip_suffix(b"Z").ok_or(Malformed)?;
    if !digits.iter().all(u8::is_ascii_digit) {
        return Err(Malformed);
    }
    let (year, rest) = match (value.tag(), digits.len()) {
        (Tag::UtcTime, 12) => {
            let (year, rest) = digits.split_at(2);
            let year = number(year);
            (if year < 50 { 2000 + year } else { 1900 + year }, rest)
        }
        (Tag::GeneralizedTime, 14) => {
            let (year, rest) = digits.split_at(4);
            (number(year), rest)
        }
        _ => return Err(Malformed),
    };
    let mut parts = rest.chunks_exact(2).map(number);
    let mut part = |range: std::ops::RangeInclusive<i64>| {
        parts.next().filter(|value| range.contains(value)).ok_or(Malformed)
    };
    let (month, day) = (part(1..=12)?, part(1..=31)?);
    let (hour, minute, second) = (part(0..=23)?, part(0..=59)?, part(0..=59)?);
    Ok(days_since_1970(year, month, day) * 86_400 + hour * 3_600 + minute * 60 + second)
}

fn number(digits: &[u8]) -> i64 {
    digits.iter().fold(0, |value, digit| value * 10 + i64::from(digit - b'0'))
}

/// Days from 1970-01-01 to a date of the Gregorian calendar. Years are counted from March, so that the leap day is the
/// last day of a year.
fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let (era, year_of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let day_of_year = (153 * month + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn utc(tag: u8, text: &[u8]) -> Result<i64, Malformed> {
        let mut der = vec![tag, text.len() as u8];
        der.extend_from_slice(text);
        time(&mut SliceReader::new(&der).unwrap())
    }

    #[test]
    fn times_are_read_in_both_forms() {
        assert_eq!(utc(23, b"700101000000Z"), Ok(0));
        assert_eq!(utc(23, b"261124111805Z"), Ok(1_795_519_085));
        assert_eq!(utc(23, b"500101000000Z"), Ok(-631_152_000));
        assert_eq!(utc(23, b"000229235959Z"), Ok(951_868_799));
        assert_eq!(utc(24, b"99991231235959Z"), Ok(253_402_300_799));
        assert_eq!(utc(24, b"00000101000000Z"), Ok(-62_167_219_200));
        for bad in [&b""[..], b"Z", b"2611241118Z", b"261324111805Z", b"261124111805+0000", b"26112411180aZ"]
        {
            assert_eq!(utc(23, bad), Err(Malformed), "{bad:?}");
        }
    }

    fn sample() -> Vec<u8> {
        let key = crate::tls::ApiKey::generate().unwrap();
        let request = crate::tls::certificate::Request {
            common_name: "sample",
            dns: &["localhost".to_owned()],
            ips: &[],
            not_before: 1_700_000_000,
            not_after: 1_800_000_000,
        };
        crate::tls::certificate::self_signed(&key, &request).unwrap()
    }

    #[test]
    fn what_a_certificate_says_is_found() {
        let der = sample();
        let certificate = Certificate::parse(&der).unwrap();
        assert_eq!(certificate.public_key.len(), 44);
        assert_eq!((certificate.not_before, certificate.not_after), (1_700_000_000, 1_800_000_000));
        assert!(!certificate.is_ca && certificate.names_a_host && certificate.allows_client_auth);
        assert!(certificate.is_valid_at(1_800_000_000) && !certificate.is_valid_at(1_800_000_001));
        assert!(!certificate.is_valid_at(1_699_999_999));
    }

    #[test]
    fn a_certificate_that_is_read_again_says_the_same_and_another_one_something_else() {
        let (first, second) = (sample(), sample());
        let read = |der: &Vec<u8>| Certificate::parse(der).map(|certificate| certificate.public_key.to_vec());
        let keys = [&first, &second].map(read);
        assert_ne!(keys[0], keys[1]);
        for (der, key) in [(&first, &keys[0]), (&first, &keys[0]), (&second, &keys[1]), (&second, &keys[1])] {
            assert_eq!(read(der), *key);
            assert_eq!(Certificate::parse(der), Certificate::read(der));
        }
        // As long as the last one, and with the same key, but valid a year longer.
        let mut longer = second.clone();
        let end = longer.windows(6).position(|digits| digits == b"270115").unwrap();
        longer[end + 1] = b'8';
        assert_eq!(Certificate::parse(&longer).unwrap().not_after, 1_800_000_000 + 365 * 86_400);
        assert_eq!(read(&second), keys[1]);
        // One that cannot be read does not take the place of one that can.
        let damaged = first[1..].to_vec();
        assert_eq!((read(&damaged), read(&damaged)), (Err(Malformed), Err(Malformed)));
        assert_eq!(read(&second), keys[1]);
    }

    #[test]
    fn bytes_after_the_certificate_are_refused() {
        let mut der = sample();
        der.push(0);
        assert_eq!(Certificate::parse(&der), Err(Malformed));
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = Certificate::parse(&bytes);
        }

        #[test]
        fn damaged_certificates_never_panic(changes in proptest::collection::vec((0usize..400, any::<u8>()), 1..6)) {
            static SAMPLE: std::sync::OnceLock<Vec<u8>> = std::sync::OnceLock::new();
            let mut der = SAMPLE.get_or_init(sample).clone();
            for (at, byte) in changes {
                let at = at % der.len();
                der[at] = byte;
            }
            let _ = Certificate::parse(&der);
        }
    }
}
