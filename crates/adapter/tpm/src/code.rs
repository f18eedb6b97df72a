//! Commands and response codes, by the names that the specification gives them.

use std::fmt;

macro_rules! commands {
    ($($(#[$doc:meta])* $name:ident = $value:literal;)+) => {
        /// A command (TPM 2.0 part 2, 6.5.2).
        #[derive(Clone, Copy, Debug, Eq, PartialEq)]
        pub enum CommandCode {
            $($(#[$doc])* $name = $value),+
        }

        impl CommandCode {
            /// Its name without the prefix `TPM2_`.
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$name => stringify!($name)),+
                }
            }
        }
    };
}

commands! {
    /// Makes an object permanent, or removes a permanent one.
    EvictControl = 0x120;
    /// Removes an index of non-volatile memory.
    NvUndefineSpace = 0x122;
    /// Changes the authorisation of a hierarchy.
    HierarchyChangeAuth = 0x129;
    /// Makes an index of non-volatile memory.
    NvDefineSpace = 0x12a;
    /// Makes the root key of a hierarchy.
    CreatePrimary = 0x131;
    /// Adds one to a counter.
    NvIncrement = 0x134;
    /// Writes non-volatile memory.
    NvWrite = 0x137;
    /// Forgets wrong authorisations.
    DictionaryAttackLockReset = 0x139;
    /// Sets a register that may be reset to zero.
    PcrReset = 0x13d;
    /// Tests the TPM.
    SelfTest = 0x143;
    /// Begins to work.
    Startup = 0x144;
    /// Prepares for the loss of power.
    Shutdown = 0x145;
    /// Opens a credential.
    ActivateCredential = 0x147;
    /// A condition over non-volatile memory.
    PolicyNv = 0x149;
    /// A condition: an authorisation is known.
    PolicySecret = 0x151;
    /// Makes a key.
    Create = 0x153;
    /// Uses a key for HMAC.
    Hmac = 0x155;
    /// Reads non-volatile memory.
    NvRead = 0x14e;
    /// Loads an object.
    Load = 0x157;
    /// Signs registers.
    Quote = 0x158;
    /// Unloads an object or session.
    FlushContext = 0x165;
    /// Loads a public key from elsewhere.
    LoadExternal = 0x167;
    /// Describes an index of non-volatile memory.
    NvReadPublic = 0x169;
    /// A condition: an authority approved.
    PolicyAuthorize = 0x16a;
    /// Describes an object.
    ReadPublic = 0x173;
    /// Begins a session.
    StartAuthSession = 0x176;
    /// Verifies a signature.
    VerifySignature = 0x177;
    /// Describes the TPM.
    GetCapability = 0x17a;
    /// Random bytes.
    GetRandom = 0x17b;
    /// Reads registers.
    PcrRead = 0x17e;
    /// A condition over registers.
    PolicyPcr = 0x17f;
    /// Extends a register.
    PcrExtend = 0x182;
    /// The digest of a session's policy.
    PolicyGetDigest = 0x189;
}

impl CommandCode {
    /// As it is sent.
    pub fn code(self) -> u32 {
        self as u32
    }
}

impl fmt::Display for CommandCode {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "TPM2_{}", self.name())
    }
}

/// Why a TPM refused a command (TPM 2.0 part 2, 6.6.3). Never zero.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ResponseCode(u32);

impl ResponseCode {
    /// The TPM waits for `TPM2_Startup`, or already had it.
    pub const INITIALIZE: u32 = 0x100;
    /// The TPM failed its self test and does nothing any more.
    pub const FAILURE: u32 = 0x101;
    /// A counter or register does not stand where a policy wants it.
    pub const POLICY: u32 = 0x126;
    /// Registers do not have the values that a policy names.
    pub const VALUE: u32 = 0x084;
    /// There is no such object or index.
    pub const HANDLE: u32 = 0x08b;
    /// An authorisation is wrong, and is not counted against dictionary attacks.
    pub const BAD_AUTH: u32 = 0x0a2;
    /// An authorisation is wrong, and is counted.
    pub const AUTH_FAIL: u32 = 0x08e;
    /// A signature does not fit.
    pub const SIGNATURE: u32 = 0x09b;
    /// A policy is not satisfied.
    pub const POLICY_FAIL: u32 = 0x09d;
    /// What was to be opened was changed, or was made for another TPM.
    pub const INTEGRITY: u32 = 0x09f;
    /// Such an index exists already.
    pub const NV_DEFINED: u32 = 0x14c;
    /// A counter was never incremented.
    pub const NV_UNINITIALIZED: u32 = 0x14a;
    /// Too many wrong authorisations.
    pub const LOCKOUT: u32 = 0x921;
    /// No room for another object.
    pub const OBJECT_MEMORY: u32 = 0x902;
    /// No room for another session.
    pub const SESSION_MEMORY: u32 = 0x903;

    pub(crate) fn new(code: u32) -> Self {
        Self(code)
    }

    /// As it was received.
    pub fn raw(self) -> u32 {
        self.0
    }

    /// Without the number of the handle, session or parameter that it is about: what the
    /// constants are compared with.
    pub fn base(self) -> u32 {
        if self.0 & FORMAT_ONE == 0 { self.0 } else { self.0 & FORMAT_ONE_CODE }
    }

    /// Whether the TPM asks for the same command again.
    pub(crate) fn says_later(self) -> bool {
        matches!(self.0, YIELDED | TESTING | NV_RATE | RETRY)
    }

    /// Its name in the specification.
    pub fn name(self) -> &'static str {
        let base = self.base();
        NAMES.iter().find(|(code, _)| *code == base).map_or("unnamed", |(_, name)| name)
    }
}

impl fmt::Display for ResponseCode {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} (0x{:03x})", self.name(), self.0)
    }
}

/// Codes with this bit are about one handle, session or parameter, whose number they contain.
const FORMAT_ONE: u32 = 0x080;
const FORMAT_ONE_CODE: u32 = 0x0bf;

const YIELDED: u32 = 0x908;
const TESTING: u32 = 0x90a;
const NV_RATE: u32 = 0x920;
const RETRY: u32 = 0x922;

const NAMES: &[(u32, &str)] = &[
    (0x081, "TPM_RC_ASYMMETRIC"),
    (0x082, "TPM_RC_ATTRIBUTES"),
    (0x083, "TPM_RC_HASH"),
    (0x084, "TPM_RC_VALUE"),
    (0x085, "TPM_RC_HIERARCHY"),
    (0x087, "TPM_RC_KEY_SIZE"),
    (0x08a, "TPM_RC_TYPE"),
    (0x08b, "TPM_RC_HANDLE"),
    (0x08c, "TPM_RC_KDF"),
    (0x08d, "TPM_RC_RANGE"),
    (0x08e, "TPM_RC_AUTH_FAIL"),
    (0x08f, "TPM_RC_NONCE"),
    (0x092, "TPM_RC_SCHEME"),
    (0x095, "TPM_RC_SIZE"),
    (0x096, "TPM_RC_SYMMETRIC"),
    (0x097, "TPM_RC_TAG"),
    (0x098, "TPM_RC_SELECTOR"),
    (0x09a, "TPM_RC_INSUFFICIENT"),
    (0x09b, "TPM_RC_SIGNATURE"),
    (0x09c, "TPM_RC_KEY"),
    (0x09d, "TPM_RC_POLICY_FAIL"),
    (0x09f, "TPM_RC_INTEGRITY"),
    (0x0a0, "TPM_RC_TICKET"),
    (0x0a1, "TPM_RC_RESERVED_BITS"),
    (0x0a2, "TPM_RC_BAD_AUTH"),
    (0x0a3, "TPM_RC_EXPIRED"),
    (0x0a4, "TPM_RC_POLICY_CC"),
    (0x0a5, "TPM_RC_BINDING"),
    (0x0a6, "TPM_RC_CURVE"),
    (0x0a7, "TPM_RC_ECC_POINT"),
    (0x100, "TPM_RC_INITIALIZE"),
    (0x101, "TPM_RC_FAILURE"),
    (0x103, "TPM_RC_SEQUENCE"),
    (0x120, "TPM_RC_DISABLED"),
    (0x121, "TPM_RC_EXCLUSIVE"),
    (0x124, "TPM_RC_AUTH_TYPE"),
    (0x125, "TPM_RC_AUTH_MISSING"),
    (0x126, "TPM_RC_POLICY"),
    (0x127, "TPM_RC_PCR"),
    (0x128, "TPM_RC_PCR_CHANGED"),
    (0x12d, "TPM_RC_UPGRADE"),
    (0x12e, "TPM_RC_TOO_MANY_CONTEXTS"),
    (0x12f, "TPM_RC_AUTH_UNAVAILABLE"),
    (0x130, "TPM_RC_REBOOT"),
    (0x142, "TPM_RC_COMMAND_SIZE"),
    (0x143, "TPM_RC_COMMAND_CODE"),
    (0x144, "TPM_RC_AUTHSIZE"),
    (0x145, "TPM_RC_AUTH_CONTEXT"),
    (0x146, "TPM_RC_NV_RANGE"),
    (0x147, "TPM_RC_NV_SIZE"),
    (0x148, "TPM_RC_NV_LOCKED"),
    (0x149, "TPM_RC_NV_AUTHORIZATION"),
    (0x14a, "TPM_RC_NV_UNINITIALIZED"),
    (0x14b, "TPM_RC_NV_SPACE"),
    (0x14c, "TPM_RC_NV_DEFINED"),
    (0x150, "TPM_RC_BAD_CONTEXT"),
    (0x152, "TPM_RC_PARENT"),
    (0x153, "TPM_RC_NEEDS_TEST"),
    (0x155, "TPM_RC_SENSITIVE"),
    (0x902, "TPM_RC_OBJECT_MEMORY"),
    (0x903, "TPM_RC_SESSION_MEMORY"),
    (0x904, "TPM_RC_MEMORY"),
    (0x905, "TPM_RC_SESSION_HANDLES"),
    (0x906, "TPM_RC_OBJECT_HANDLES"),
    (0x907, "TPM_RC_LOCALITY"),
    (YIELDED, "TPM_RC_YIELDED"),
    (0x909, "TPM_RC_CANCELED"),
    (TESTING, "TPM_RC_TESTING"),
    (0x910, "TPM_RC_REFERENCE_H0"),
    (0x918, "TPM_RC_REFERENCE_S0"),
    (NV_RATE, "TPM_RC_NV_RATE"),
    (0x921, "TPM_RC_LOCKOUT"),
    (RETRY, "TPM_RC_RETRY"),
    (0x923, "TPM_RC_NV_UNAVAILABLE"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_have_names_whatever_they_are_about() {
        for (raw, base, text) in [
            (0x99d, ResponseCode::POLICY_FAIL, "TPM_RC_POLICY_FAIL (0x99d)"),
            (0x126, ResponseCode::POLICY, "TPM_RC_POLICY (0x126)"),
            (0x1c4, ResponseCode::VALUE, "TPM_RC_VALUE (0x1c4)"),
            (0x921, ResponseCode::LOCKOUT, "TPM_RC_LOCKOUT (0x921)"),
            (0x98e, ResponseCode::AUTH_FAIL, "TPM_RC_AUTH_FAIL (0x98e)"),
            (0x17f, 0x17f, "unnamed (0x17f)"),
        ] {
            let code = ResponseCode::new(raw);
            assert_eq!((code.base(), code.to_string().as_str()), (base, text));
        }
    }

    #[test]
    fn no_code_has_two_names_and_no_name_two_codes() {
        let codes: std::collections::BTreeSet<_> = NAMES.iter().map(|(code, _)| code).collect();
        let names: std::collections::BTreeSet<_> = NAMES.iter().map(|(_, name)| name).collect();
        assert_eq!((codes.len(), names.len()), (NAMES.len(), NAMES.len()));
    }
}
