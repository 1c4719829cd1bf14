//! Seed.
mod resilience;
