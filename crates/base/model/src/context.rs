//! Every domain separation string, in one table, unique by test.
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
    /// Signature over a statement.
    STATEMENT = "heirloom v1 statement";
    /// Hash of a log entry.
    LOG_ENTRY = "heirloom v1 log entry";
    /// Hash of a journal record.
    JOURNAL_RECORD = "heirloom v1 journal record";
    /// Digest of a first root.
    NETWORK_ID = "heirloom v1 network id";
    /// Digest of a plan.
    PLAN_DIGEST = "heirloom v1 plan";
    /// Digest of a policy.
    POLICY_DIGEST = "heirloom v1 policy";
    /// Digest of a release.
    RELEASE_DIGEST = "heirloom v1 release";
    /// Digest of the terms of a flag day.
    TERMS_DIGEST = "heirloom v1 terms";
    /// Digest of what the nodes of a service must have configured alike.
    CONFIGURATION_DIGEST = "heirloom v1 configuration";
    /// Digest of a party map.
    PARTY_MAP_DIGEST = "heirloom v1 party map";
    /// Digest of a set of contract ids.
    CONTRACT_SET_DIGEST = "heirloom v1 contract set";
    /// Digest of a snapshot of contracts.
    SNAPSHOT_DIGEST = "heirloom v1 snapshot of contracts";
    /// Digest of evidence.
    EVIDENCE_DIGEST = "heirloom v1 evidence";
    /// Report data of evidence that vouches for a statement.
    EVIDENCE_STATEMENT = "heirloom v1 evidence for a statement";
    /// Report data of evidence made for one session by the side that connected.
    EVIDENCE_SESSION_INITIATOR = "heirloom v1 evidence for a session, initiator";
    /// Report data of evidence made for one session by the side that accepted.
    EVIDENCE_SESSION_RESPONDER = "heirloom v1 evidence for a session, responder";
    /// Digest of what an approved plan allows with one step of a handover.
    HANDOVER_AUTHORISATION = "heirloom v1 handover authorisation";
    /// Digest of one channel, over its exporter and both identity keys.
    CHANNEL = "heirloom v1 channel";
    /// What the side that gives a keyring attests.
    EVIDENCE_HANDOVER_DONOR = "heirloom v1 evidence for a handover, donor";
    /// What the side that receives a keyring attests.
    EVIDENCE_HANDOVER_RECEIVER = "heirloom v1 evidence for a handover, receiver";
    /// TLS exporter label of a session.
    SESSION_EXPORTER = "EXPORTER-heirloom-v1-session";
    /// Key identifier of the seal key for keyring segments.
    SEAL_KEYRING = "heirloom v1 seal keyring";
    /// Key identifier of the seal key for a proposed generation.
    SEAL_PROPOSED = "heirloom v1 seal proposed generation";
    /// Key identifier of the seal key for the witness record.
    SEAL_WITNESS = "heirloom v1 seal witness";
    /// Expansion of a platform seal key into an AEAD key.
    SEAL_EXPAND = "heirloom v1 seal expand";
    /// Derivation of application keys from a generation.
    DERIVE = "heirloom v1 derive";
    /// Derivation of ephemeral application keys.
    DERIVE_EPHEMERAL = "heirloom v1 derive ephemeral";
    /// Digest of a derived key, so that keys can be compared without being shown.
    KEY_CHECK = "heirloom v1 key check";
    /// Measured page header of a manifest.
    MANIFEST = "heirloom v1 manifest";
    /// Digest of the PPID of an SGX machine.
    SGX_PPID = "heirloom v1 sgx ppid";
    /// Digest of the chip identifier of an SEV-SNP machine.
    SNP_CHIP = "heirloom v1 snp chip";
    /// Digest of the module identifier of a Nitro enclave's machine.
    NITRO_MODULE = "heirloom v1 nitro module";
    /// Digest of the public endorsement key of a TPM.
    TPM_EK = "heirloom v1 tpm endorsement key";
    /// Measurement of a TDX trust domain, over its registers.
    MEASUREMENT_TDX = "heirloom v1 tdx measurement";
    /// Measurement of a Nitro enclave, over PCR 0 to 2.
    MEASUREMENT_NITRO = "heirloom v1 nitro measurement";
    /// Measurement of a virtual machine with a virtual TPM, over launch digest and PCRs.
    MEASUREMENT_VTPM = "heirloom v1 vtpm measurement";
    /// Qualifying data of a TPM quote, over report data and what was launched.
    EVIDENCE_TPM = "heirloom v1 evidence of a tpm";
    /// Qualifying data of a quote by a virtual TPM, over report data.
    EVIDENCE_VTPM = "heirloom v1 evidence of a vtpm";
    /// Digest of the key of an authority that approves hosts of machines with a TPM.
    TPM_AUTHORITY = "heirloom v1 tpm authority of hosts";
    /// The secret of a machine, out of the key that its TPM made.
    TPM_MACHINE_SECRET = "heirloom v1 tpm machine secret";
    /// What authorises the use of a machine's attestation key.
    TPM_ATTESTATION_KEY = "heirloom v1 tpm attestation key";
    /// What an authority approves with a host: for which machine.
    TPM_APPROVAL = "heirloom v1 tpm approval of a host";
    /// Authentication of the counters of a machine with a TPM.
    TPM_COUNTERS = "heirloom v1 tpm counters";
    /// Key that authenticates the counters of a machine with a TPM.
    TPM_COUNTER_KEY = "heirloom v1 tpm counters, key";
    /// Name under which some code has its counters on a machine with a TPM.
    TPM_COUNTER_OWNER = "heirloom v1 tpm counters, owner";
    /// Digest of the counters of a machine with a TPM, which its TPM notes.
    TPM_COUNTER_TABLE = "heirloom v1 tpm counters, table";
    /// Value that a TPM asks for before it shows or changes that note.
    TPM_COUNTER_NOTE = "heirloom v1 tpm counters, note";
    /// Key that authenticates reports of code to other code of one launcher.
    TPM_REPORT = "heirloom v1 tpm report";
    /// Name of the counter that a keeper raises when it witnesses.
    COUNTER_WITNESS = "heirloom v1 counter of a witness";
    /// Derivation of seal keys from the secret that a TPM keeps for its machine.
    TPM_SEAL = "heirloom v1 tpm seal";
    /// Derivation of seal keys from the key that SEV-SNP firmware derives for a guest.
    SNP_SEAL = "heirloom v1 snp seal";
    /// Derivation of seal keys from the seal key that Gramine lends to its enclave.
    GRAMINE_SEAL = "heirloom v1 gramine seal";
    /// Derivation of seal keys from those of a platform on which the code reads its manifest itself.
    MANIFEST_SEAL = "heirloom v1 manifest seal";
    /// Derivation of the keys of emulated machines and of their manufacturer.
    EMULATED_KEY = "heirloom v1 emulated key";
    /// Digest of a map of contract ids.
    CONTRACT_MAP_DIGEST = "heirloom v1 contract map";
    /// An agent's word about where its node can be reached.
    PRESENCE = "heirloom v1 presence";
    /// Journal: challenge of a step.
    CHALLENGE = "heirloom v1 challenge";
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    #[test]
    fn no_two_purposes_share_a_context() {
        let distinct: BTreeSet<_> = super::ALL.iter().map(|(_, value)| value).collect();
        assert_eq!(distinct.len(), super::ALL.len());
        assert!(
            super::ALL
                .iter()
                .all(|(_, value)| value.iter().position(|b| *b == 0) == Some(value.len() - 1))
        );
    }
}
