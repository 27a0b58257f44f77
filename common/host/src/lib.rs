//! What a node asks of its machine: clock, randomness, network, disk, tasks. Each is a value handed in, never a
//! global, so that one process can hold many nodes: standalone, tests, simulation.

pub mod disk;
pub mod net;
