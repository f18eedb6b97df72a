//! What follows from the table for a key of a participant.
