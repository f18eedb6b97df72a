//! Model checks of the flag day and of the handover.
