//! Errors with their causes, for people.

use std::error::Error;

/// An error with its causes, on one line. Nothing decides by this text.
pub fn with_causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        next = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("outer")]
    struct Outer(#[source] Inner);

    #[derive(Debug, thiserror::Error)]
    #[error("inner")]
    struct Inner;

    #[test]
    fn causes_follow_what_they_caused() {
        assert_eq!(with_causes(&Outer(Inner)), "outer: inner");
        assert_eq!(with_causes(&Inner), "inner");
    }
}
