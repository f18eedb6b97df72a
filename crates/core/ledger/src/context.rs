//! Every domain separation string of the ledger, unique by test.
//!
//! Each ends with a zero byte, so that none is the prefix of another.

macro_rules! contexts {
    ($($(#[$doc:meta])* $name:ident = $value:literal;)+) => {
        $($(#[$doc])* pub const $name: &[u8] = concat!($value, "\0").as_bytes();)+

        /// All of them, by name.
        pub const ALL: &[(&str, &[u8])] = &[$((stringify!($name), $name)),+];
    };
}

contexts! {
    /// Id of a transaction, which is what the owners of its inputs sign.
    TRANSACTION = "heirloom ledger v1 transaction";
    /// Id of an output that a transaction makes.
    OUTPUT = "heirloom ledger v1 output";
    /// Id of an output that a network starts with.
    ALLOCATION = "heirloom ledger v1 allocation";
    /// Commitment of a private output to its owner.
    COMMITMENT = "heirloom ledger v1 commitment";
    /// Id of a block.
    BLOCK = "heirloom ledger v1 block";
    /// What the instance that proposed a block signs.
    METADATA = "heirloom ledger v1 metadata";
    /// What the hint of a private output is sealed for.
    HINT = "heirloom ledger v1 hint";
    /// What the owner of an account signs to see its private outputs.
    VIEW = "heirloom ledger v1 view";
    /// What a client seals for an instance.
    SEALED_REQUEST = "heirloom ledger v1 sealed request";
    /// What an instance seals for a client.
    SEALED_ANSWER = "heirloom ledger v1 sealed answer";
    /// Report data of evidence that an instance shows to clients.
    EVIDENCE_CLIENTS = "heirloom ledger v1 evidence for clients";
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    #[test]
    fn no_two_purposes_share_a_context() {
        let distinct: BTreeSet<_> = super::ALL.iter().map(|(_, value)| value).collect();
        assert_eq!(distinct.len(), super::ALL.len());
        let ends = |value: &[u8]| value.iter().position(|b| *b == 0) == Some(value.len() - 1);
        assert!(super::ALL.iter().all(|(_, value)| ends(value)));
    }
}
