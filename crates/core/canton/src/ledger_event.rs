//! The readable half of a snapshot's entry: a `CreatedEvent` of the Ledger API.
