//! Writing one open ledger.
