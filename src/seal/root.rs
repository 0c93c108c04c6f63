//! Root keys: the secrets under which all else is sealed.

use std::{
    fmt,
    time::{SystemTime, UNIX_EPOCH},
};

use ring::{
    hmac,
    rand::{SecureRandom, SystemRandom},
};

use super::SealError;
use crate::{
    crypto::Secret,
    text::encode::{decode_hex, hex},
};

/// What a root key is called: the first 8 bytes of HMAC-SHA256(root key, `kes root key id v1`), shown as 16 lower-case
/// hexadecimal digits. It follows from the key, so that no file can call a key by another's name.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct RootKeyId([u8; 8]);

impl RootKeyId {
    /// From its 16 digits, in lower case only: each ID has one written form.
    pub fn parse(text: &str) -> Option<Self> {
        if text.bytes().any(|byte| byte.is_ascii_uppercase()) {
            return None;
        }
        Some(Self(decode_hex(text)?.try_into().ok()?))
    }

    fn of(key: &Secret<32>) -> Self {
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &key.expose()[..]), b"kes root key id v1");
        let mut id = [0; 8];
        id.iter_mut().zip(tag.as_ref()).for_each(|(to, from)| *to = *from);
        Self(id)
    }
}

impl fmt::Display for RootKeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex(&self.0))
    }
}

impl fmt::Debug for RootKeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RootKeyId({self})")
    }
}

/// One root key.
#[derive(Debug)]
pub struct RootKey {
    id: RootKeyId,
    created: u64,
    secret: Secret<32>,
}

impl RootKey {
    /// A key with this secret, made `created` seconds after 1970-01-01T00:00:00Z.
    pub fn new(secret: Secret<32>, created: u64) -> Self {
        Self { id: RootKeyId::of(&secret), created, secret }
    }

    /// A new random key, made now.
    pub fn generate() -> Result<Self, SealError> {
        let mut secret = Secret::zeroed();
        SystemRandom::new().fill(secret.expose_mut()).map_err(|_| SealError::NoRandomBytes)?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Ok(Self::new(secret, now.as_secs()))
    }

    /// Its ID.
    pub fn id(&self) -> RootKeyId {
        self.id
    }

    /// When it was made, in seconds since 1970-01-01T00:00:00Z.
    pub fn created(&self) -> u64 {
        self.created
    }

    /// The key itself.
    pub fn secret(&self) -> &Secret<32> {
        &self.secret
    }
}

/// The root keys of one store: one active, under which new files are sealed, and any number of retired ones.
#[derive(Debug)]
pub struct RootKeys {
    active: RootKey,
    retired: Vec<RootKey>,
}

impl RootKeys {
    /// `None` if two of the keys are the same.
    pub fn new(active: RootKey, retired: Vec<RootKey>) -> Option<Self> {
        let mut ids: Vec<_> = retired.iter().map(|key| key.id.0).chain([active.id.0]).collect();
        ids.sort_unstable();
        let are_distinct = ids.windows(2).all(|pair| pair.first() != pair.last());
        are_distinct.then_some(Self { active, retired })
    }

    /// One new random key, active.
    pub fn generate() -> Result<Self, SealError> {
        Ok(Self { active: RootKey::generate()?, retired: Vec::new() })
    }

    /// A new random key is active, and all keys of before are retired.
    pub fn rotated(self) -> Result<Self, SealError> {
        let retired = std::iter::once(self.active).chain(self.retired).collect();
        Ok(Self { active: RootKey::generate()?, retired })
    }

    /// Without the retired keys of these IDs.
    pub fn without(mut self, forgotten: &[RootKeyId]) -> Self {
        self.retired.retain(|key| !forgotten.contains(&key.id));
        self
    }

    /// The key for new files.
    pub fn active(&self) -> &RootKey {
        &self.active
    }

    /// The keys that only open older files.
    pub fn retired(&self) -> &[RootKey] {
        &self.retired
    }

    /// The IDs of all keys, the active one first.
    pub fn ids(&self) -> impl Iterator<Item = RootKeyId> {
        std::iter::once(&self.active).chain(&self.retired).map(RootKey::id)
    }

    /// The key of this ID, active or retired.
    pub fn find(&self, id: RootKeyId) -> Option<&RootKey> {
        std::iter::once(&self.active).chain(&self.retired).find(|key| key.id == id)
    }
}
