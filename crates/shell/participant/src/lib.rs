//! A reference participant: the services of a real one, small, durable, and without its language.

pub mod client;
pub mod clock;
pub mod command;
pub mod configuration;
pub mod crypto;
pub mod limit;
pub mod log;
pub mod node;
pub mod record;
pub mod repair;
pub mod run;
pub mod service;
pub mod store;
pub mod synchronizer;
pub mod topology;
pub mod values;
pub mod version;
pub mod versioned;
