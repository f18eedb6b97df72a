//! Key material, which cannot be printed, cloned, compared or serialized by habit.

use zeroize::Zeroize;

/// A secret of `N` bytes. Wiped when dropped.
///
/// It has no `Clone`, `Debug`, `Display`, `PartialEq` or encoding:
///
/// ```compile_fail
/// let secret = heirloom_model::secret::Secret::new([1; 32]);
/// println!("{secret:?}");
/// ```
///
/// ```compile_fail
/// let secret = heirloom_model::secret::Secret::new([1; 32]);
/// let copy = secret.clone();
/// ```
///
/// ```compile_fail
/// let secret = heirloom_model::secret::Secret::new([1; 32]);
/// assert!(secret == secret);
/// ```
///
/// ```compile_fail
/// let secret = heirloom_model::secret::Secret::new([1; 32]);
/// minicbor::to_vec(&secret);
/// ```
pub struct Secret<const N: usize>(Box<[u8; N]>);

impl<const N: usize> Secret<N> {
    /// Takes over secret bytes and wipes the argument.
    pub fn new(mut bytes: [u8; N]) -> Self {
        let boxed = Box::new(bytes);
        bytes.zeroize();
        Self(boxed)
    }

    /// Takes over a slice of exactly `N` secret bytes. The caller wipes its own copy.
    pub fn from_slice(bytes: &[u8]) -> Option<Self> {
        <[u8; N]>::try_from(bytes).ok().map(Self::new)
    }

    /// Lends the bytes to `use_bytes`.
    pub fn expose<R>(&self, use_bytes: impl FnOnce(&[u8; N]) -> R) -> R {
        use_bytes(&self.0)
    }

    /// Whether two secrets are the same, in time that does not depend on their content.
    pub fn same_as(&self, other: &Self) -> bool {
        subtle::ConstantTimeEq::ct_eq(self.0.as_slice(), other.0.as_slice()).into()
    }
}

impl<const N: usize> Drop for Secret<N> {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

/// Secret bytes of any length, as they cross a channel. Wiped when dropped.
pub struct SecretBytes(Vec<u8>);

impl SecretBytes {
    /// Takes over secret bytes.
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }

    /// Lends the bytes to `use_bytes`.
    pub fn expose<R>(&self, use_bytes: impl FnOnce(&[u8]) -> R) -> R {
        use_bytes(&self.0)
    }
}

impl Drop for SecretBytes {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_compared_without_being_shown() {
        let one = Secret::new([1; 32]);
        assert!(one.same_as(&Secret::new([1; 32])));
        assert!(!one.same_as(&Secret::new([2; 32])));
        assert!(Secret::<4>::from_slice(&[1, 2, 3]).is_none());
    }
}
