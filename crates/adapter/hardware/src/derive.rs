//! What platforms whose seal keys take no identifier share.

use aws_lc_rs::hmac;
use heirloom_keeper::port::PlatformError;
use heirloom_model::digest::Nonce;
use heirloom_model::secret::Secret;
use zeroize::Zeroizing;

/// What a recipe for another kind of platform is answered with.
pub(crate) const OTHER_RECIPE: &str = "a recipe for another kind of platform";

/// The seal key of one purpose and file: HMAC-SHA-256 under the platform's key, cut to 16 bytes.
pub(crate) fn seal_key(platform_key: &[u8], context: &[u8], key_id: &Nonce) -> Secret<16> {
    let key = hmac::Key::new(hmac::HMAC_SHA256, platform_key);
    let mut mac = hmac::Context::with_key(&key);
    mac.update(context);
    mac.update(key_id.as_bytes());
    let tag = mac.sign();
    let mut made = Zeroizing::new([0; 16]);
    made.iter_mut().zip(tag.as_ref()).for_each(|(to, from)| *to = *from);
    Secret::new(*made)
}

/// Random bytes of the operating system, which on these platforms is part of what is measured.
pub(crate) fn system_random(bytes: &mut [u8]) -> Result<(), PlatformError> {
    aws_lc_rs::rand::fill(bytes)
        .map_err(|_| PlatformError::Unreachable("the system has no random bytes".to_owned()))
}
