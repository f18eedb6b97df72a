//! Messages and services of a participant, generated from the descriptions under `proto/`.
//!
//! The descriptions have only what is called here. Three roots describe the same packages: one is
//! 3.4 and later, [`older`] has the few messages that 3.3 shapes in a way that cannot be told
//! apart on the wire, and [`slim`] reads active contracts without their arguments.
//!
//! An enumeration is an `i32` here: a number that is not named is a newer server's, and whoever
//! reads it decides what that means.

pub mod codec;

mod current {
    #![allow(
        missing_docs,
        unreachable_pub,
        clippy::pedantic,
        clippy::too_many_lines,
        reason = "generated: the descriptions under `proto/` have the words"
    )]
    include!(concat!(env!("OUT_DIR"), "/current/roots.rs"));
}

mod before {
    #![allow(
        missing_docs,
        unreachable_pub,
        clippy::pedantic,
        clippy::too_many_lines,
        reason = "generated: the descriptions under `proto/` have the words"
    )]
    include!(concat!(env!("OUT_DIR"), "/older/roots.rs"));
}

mod thin {
    #![allow(
        missing_docs,
        unreachable_pub,
        clippy::pedantic,
        clippy::too_many_lines,
        reason = "generated: the descriptions under `proto/` have the words"
    )]
    include!(concat!(env!("OUT_DIR"), "/slim/roots.rs"));
}

/// What applications ask for: `com.daml.ledger.api.v2`.
pub use current::com::daml::ledger::api::v2 as ledger;
/// Parties and users: `com.daml.ledger.api.v2.admin`.
pub use current::com::daml::ledger::api::v2::admin as ledger_admin;
/// What a node says about itself: `com.digitalasset.canton.admin.health.v30`.
pub use current::com::digitalasset::canton::admin::health::v30 as health;
/// What operators ask for: `com.digitalasset.canton.admin.participant.v30`.
pub use current::com::digitalasset::canton::admin::participant::v30 as participant;
/// The keys of a node: `com.digitalasset.canton.crypto.admin.v30`.
pub use current::com::digitalasset::canton::crypto::admin::v30 as vault;
/// Public keys and signatures: `com.digitalasset.canton.crypto.v30`.
pub use current::com::digitalasset::canton::crypto::v30 as crypto;
/// Topology: `com.digitalasset.canton.protocol.v30`.
pub use current::com::digitalasset::canton::protocol::v30 as protocol;
/// What a sequencer says to everybody: `com.digitalasset.canton.sequencer.api.v30`.
pub use current::com::digitalasset::canton::sequencer::api::v30 as sequencer;
/// Identity and topology of a node: `com.digitalasset.canton.topology.admin.v30`.
pub use current::com::digitalasset::canton::topology::admin::v30 as topology;

/// The messages of 3.3 that differ: `com.digitalasset.canton.admin.participant.v30`.
pub use before::com::digitalasset::canton::admin::participant::v30 as older;

/// Active contracts without their arguments: `com.daml.ledger.api.v2`.
pub use thin::com::daml::ledger::api::v2 as slim;
