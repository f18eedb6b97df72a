//! Where random bytes come from.

/// Fills a slice with random bytes: the operating system's, or those of a simulated world.
pub type Randomness = Box<dyn FnMut(&mut [u8]) + Send>;

/// The operating system's random bytes.
pub fn system_randomness() -> Randomness {
    Box::new(|bytes| {
        aws_lc_rs::rand::fill(bytes).expect("the operating system has random bytes");
    })
}
