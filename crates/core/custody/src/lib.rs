//! Knows which proven copies of which keyring exist, and defines the two invariants: no loss and
//! no leak.
//!
//! Each invariant is one pure function over (policy, copies, proofs, next effect). The planner
//! asks it while planning, the checker on the finished plan, the agent before each irreversible
//! effect, and the simulator after every event. This crate holds no key material and decides
//! nothing but whether an effect may happen.
//!
//! Read in this order:
//!
//! * [`holding`]: what a copy and a proof are.
//! * [`invariant`]: [`no_loss`](invariant::no_loss) and [`no_leak`](invariant::no_leak).
//! * [`facts`]: copies and proofs, taken from the folded log.

pub mod holding;
pub mod invariant;

pub mod facts;
