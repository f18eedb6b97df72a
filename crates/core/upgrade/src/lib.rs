//! Plans an upgrade, checks the plan independently, folds the journal, and decides each agent's next directive.
