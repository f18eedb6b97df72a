//! The deterministic world: a whole fleet in one thread, seeded, with crashes at every operation.
//!
//! Agents, keepers, appraisal, registry fold, planner, engine and custody are the code that ships.
//! Simulated are the disk, the network between the parts, the processes, the operators, and time.
//! A run is a seed and a scenario: the same two always give the same run.
//!
//! Each run has two phases. *Safety*: all faults on, the invariants hold after every event.
//! *Liveness*: faults off, everything must come to its end within a bounded number of rounds.
//!
//! Read in this order:
//!
//! * [`scenario`]: what a run does, from genesis to the end of an upgrade.
//! * [`machine`]: machines of several kinds, and what runs on them.
//! * [`world`]: nodes, disks, processes, the registry, and where faults strike.
//! * [`node`], [`log`]: the ports of an agent, over the world.
//! * [`service`]: the services of the nodes, their clients, and the archive of their blocks.
//! * [`participant`]: the participants of the nodes, and the ledger that their clients share.
//! * [`rogue`]: code that no policy names, asking for keys, and old code that claims to be new.
//! * [`invariant`], [`invariant_service`], [`invariant_participant`]: what must hold after every
//!   event.

pub mod scenario;

pub mod machine;
pub mod world;

pub mod log;
pub mod node;
pub mod participant;
pub mod service;

pub mod invariant;
pub mod invariant_participant;
pub mod invariant_service;
pub mod rogue;
